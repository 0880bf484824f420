"""Images stored as bytes, converted as their batches are read."""

import zlib

import numpy as np
import pytest

from batchup._arrays.images import ImageRows
from batchup._arrays.readers import make_reader
from batchup._ground.batch import Destination
from batchup.data_source import ArrayDataSource, ConcatDataSource
from batchup.image.utils import ImageArrayUInt8ToFloat32

from ..cases import assert_same_batch, assert_same_batches, keep
from ..harness.pools import on

# Rows of 300 bytes, of which many are converted at once, and of 80 KB, which are converted one by one.
SMALL = np.random.RandomState(0).randint(0, 256, (900, 3, 10, 10)).astype(np.uint8)
LARGE = np.random.RandomState(0).randint(0, 256, (12, 2, 200, 200)).astype(np.uint8)


@pytest.mark.parametrize(
    ('bounds', 'checksum'),
    [((0.0, 1.0), 3023629315), ((-1.0, 1.0), 3056371012), ((0.1, 0.9), 2548212434), ((1, 0), 2678903161)],
)
def test_values_have_always_had_these_bits(bounds, checksum):
    levels = np.arange(256, dtype=np.uint8)
    source = ArrayDataSource([ImageArrayUInt8ToFloat32(levels, *bounds)])
    for (values,) in (source.samples_by_indices(levels), *source.batch_iterator(256)):
        assert zlib.crc32(values.tobytes()) == checksum


@pytest.mark.parametrize('shuffle', [None, 3])
@pytest.mark.parametrize(
    'pixels', [SMALL, LARGE, SMALL[::2], np.asfortranarray(SMALL), SMALL[:, 0, 0, 0], SMALL[:, :0]]
)
def test_batches_are_rows_of_the_images(pixels, shuffle):
    images = ImageArrayUInt8ToFloat32(pixels, -1.0)
    source = ArrayDataSource([images], indices=np.arange(len(images)) - 5, include_indices=True)
    for batch_size in (3, 64, 5000):
        for indices, batch in source.batch_iterator(batch_size, shuffle):
            assert_same_batch((batch,), (images[indices],))


def test_mapped_files_are_converted(tmp_path):
    np.save(tmp_path / 'images.npy', LARGE)
    mapped = ImageArrayUInt8ToFloat32(np.load(tmp_path / 'images.npy', mmap_mode='r'))
    assert_same_batches(
        ArrayDataSource([mapped]).batch_iterator(5, 3),
        ArrayDataSource([ImageArrayUInt8ToFloat32(LARGE)]).batch_iterator(5, 3),
    )


def test_they_are_converted_into_the_memory_of_a_pool():
    images = ImageArrayUInt8ToFloat32(LARGE)
    for indices in (np.array([7, 1, -1, 3]), range(2, 6)):
        memory = np.zeros((4, *LARGE.shape[1:]), np.float32)
        reader = make_reader(0, images)
        batches = list(reader.batches(indices, 2, Destination(lambda shape, dtype, memory=memory: memory)))
        assert all(np.shares_memory(batch, memory) for batch in batches)
        np.testing.assert_array_equal(memory, images[np.array(indices)])


def test_memory_is_recycled_when_batches_are_let_go():
    stream = ArrayDataSource([ImageArrayUInt8ToFloat32(LARGE)]).batch_iterator(2)
    assert len({next(stream)[0].ctypes.data for _ in range(6)}) == 2


def test_sources_of_images_are_put_together():
    for pixels in (SMALL, LARGE):
        parts = [ArrayDataSource([ImageArrayUInt8ToFloat32(part)]) for part in (pixels[:5], pixels[5:])]
        whole = ArrayDataSource([ImageArrayUInt8ToFloat32(pixels)])
        for shuffle in (None, 3):
            assert_same_batches(ConcatDataSource(parts).batch_iterator(7, shuffle), whole.batch_iterator(7, shuffle))


@on(['threads', 'fork', 'spawn'])
def test_workers_convert_them(pool):
    images = ImageArrayUInt8ToFloat32(LARGE, -1.0)
    for source in (ArrayDataSource([images]), ArrayDataSource([images, np.arange(12)]).map(keep)):
        parallel = pool.parallel_data_source(source)
        for shuffle in (None, 3):
            assert_same_batches(parallel.batch_iterator(5, shuffle), source.batch_iterator(5, shuffle))


class Recorder:
    """Bytes of a user's, which record what they are asked for."""

    dtype = LARGE.dtype
    shape = LARGE.shape

    def __init__(self):
        self.asked = []

    def __len__(self):
        return len(LARGE)

    def __getitem__(self, indices):
        self.asked.append(indices.tolist())
        return LARGE[indices]


def test_bytes_of_a_users_are_read_once_for_a_batch():
    recorder = Recorder()
    source = ArrayDataSource([ImageArrayUInt8ToFloat32(recorder)], indices=[3, 1, 2])
    batches = list(source.batch_iterator(2))
    assert recorder.asked == [[3, 1], [2]]
    assert_same_batches(
        batches, ArrayDataSource([ImageArrayUInt8ToFloat32(LARGE)], indices=[3, 1, 2]).batch_iterator(2)
    )


def test_images_that_a_user_reads_in_another_way_are_read_so():
    class Brighter(ImageArrayUInt8ToFloat32):
        def __getitem__(self, index):
            return super().__getitem__(index) + 1

    reader = make_reader(0, Brighter(LARGE))
    assert not isinstance(reader, ImageRows)
    assert reader.read(np.array([2])).min() == 1


def test_small_batches_are_converted_by_the_caller():
    images = ImageArrayUInt8ToFloat32(SMALL)
    assert ArrayDataSource([images])._copied_bytes(64) == 64 * SMALL[0].size * 4
