"""Packaging: the metadata is here, build system and tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r"^__version__ = '(.+)'", (ROOT / 'batchup' / '__init__.py').read_text(), re.MULTILINE)

setup(
    name='batchup',
    version=VERSION.group(1),
    description='Mini-batches of samples at the speed of memory, for data that is held as arrays',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='MIT',
    python_requires='>=3.10',
    packages=find_packages(include=['batchup', 'batchup.*']),
    package_data={'batchup': ['py.typed'], 'batchup.datasets': ['*.npz']},
    install_requires=['numpy>=1.22', 'tqdm', 'six'],
    extras_require={
        'dask': ['dask[distributed]'],
        'hdf5': ['h5py', 'isal'],
        'parquet': ['pyarrow'],
        'plot': ['pillow>=10.1'],
        'ray': ['ray'],
        'svhn': ['scipy'],
        'zarr': ['zarr'],
        'dev': [
            'dask[distributed]',
            'furo',
            'h5py',
            'hdf5plugin',
            'hypothesis',
            'isal',
            'jax',
            'mypy',
            'myst-parser',
            'pandas',
            'pillow>=10.1',
            'psutil',
            'pyarrow',
            'pytest',
            'pytest-xdist',
            'ray',
            'ruff',
            'scikit-learn',
            'scipy',
            'sphinx',
            'threadpoolctl',
            'types-six',
            'types-tqdm',
            'xarray',
            'zarr',
        ],
    },
    entry_points={'console_scripts': ['batchup = batchup._cli.main:main']},
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Typing :: Typed',
    ],
)
