"""Settings for all tests."""

import os

from hypothesis import settings

# Derandomised: a failure in one run is a failure in every run.
settings.register_profile(
    'default', deadline=None, derandomize=True, max_examples=int(os.environ.get('EXAMPLES', '100'))
)
settings.load_profile('default')
