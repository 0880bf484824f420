"""Images as arrays."""

from . import utils as utils
