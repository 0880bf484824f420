"""Data sets of HDF5 files of every kind, for the contract of arrays: what `Case` in `cases.py` is made of."""

import itertools

import numpy as np

NUMBERS = itertools.count()


def floats(n):
    return np.random.RandomState(n).poisson(0.3, (n, 3)).astype(np.float32)


def texts(n):
    return np.array([f'text {k}' for k in range(n)], dtype=object)


def stored(h5py, folder, values, **options):
    """Return a data set of an open file with these values."""
    path = folder / f'{next(NUMBERS)}.h5'
    with h5py.File(path, 'w') as file:
        file.create_dataset('x', values.shape, data=values, maxshape=(None, *values.shape[1:]), **options)
    return h5py.File(path, 'r')['x']


def contiguous(h5py, folder, values):
    path = folder / f'{next(NUMBERS)}.h5'
    with h5py.File(path, 'w') as file:
        file['x'] = values
    return h5py.File(path, 'r')['x']


def opened_by_name(h5py, folder, values):
    from batchup.arrays import H5Array

    return H5Array(stored(h5py, folder, values, chunks=(4, 3), compression='gzip').file.filename, 'x')


def field(h5py, folder, values):
    records = np.zeros(len(values), [('number', int), ('values', np.float32, (3,))])
    records['values'] = values
    return stored(h5py, folder, records, chunks=(4,)).fields('values')


GZIP = {'chunks': (4, 2), 'compression': 'gzip', 'shuffle': True}

# The library, what makes an array of (library, values, folder), the class of its batches, what makes NumPy
# arrays of them, and the values of n samples.
CASES = {
    'h5py, contiguous': ('h5py', lambda h5py, x, to: contiguous(h5py, to, x), 'ndarray', np.asarray, floats),
    'h5py, chunks': ('h5py', lambda h5py, x, to: stored(h5py, to, x, chunks=(4, 3)), 'ndarray', np.asarray, floats),
    'h5py, gzip': ('h5py', lambda h5py, x, to: stored(h5py, to, x, **GZIP), 'ndarray', np.asarray, floats),
    'h5py, booleans': (
        'h5py',
        lambda h5py, x, to: stored(h5py, to, x, chunks=(4,), compression='gzip'),
        'ndarray',
        np.asarray,
        lambda n: np.arange(n) % 3 == 0,
    ),
    'h5py, astype': (
        'h5py',
        lambda h5py, x, to: stored(h5py, to, x.astype(np.uint8), **GZIP).astype(np.float32),
        'ndarray',
        np.asarray,
        floats,
    ),
    'h5py, asstr': (
        'h5py',
        lambda h5py, x, to: stored(h5py, to, x, dtype=h5py.string_dtype(), chunks=(4,)).asstr(),
        'ndarray',
        np.asarray,
        texts,
    ),
    'h5py, fields': ('h5py', lambda h5py, x, to: field(h5py, to, x), 'ndarray', np.asarray, floats),
    'H5Array': ('h5py', lambda h5py, x, to: opened_by_name(h5py, to, x), 'ndarray', np.asarray, floats),
}
