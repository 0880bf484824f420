"""Tensors, which are read through their memory."""

import warnings
from functools import partial

import pytest

from batchup._pools.packing import unpack_whole
from batchup._pools.shipping import Shipment
from batchup.data_source import ArrayDataSource

torch = pytest.importorskip('torch')

VALUES = torch.arange(30.0).reshape(10, 3)


def first(tensor):
    return next(ArrayDataSource([tensor]).batch_iterator(4, 3))[0]


@pytest.mark.parametrize(
    'dtype',
    [
        torch.bool,
        torch.uint8,
        torch.int16,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float64,
        torch.complex64,
        torch.float8_e4m3fn,
    ],
)
def test_dtypes(dtype):
    tensor = VALUES.to(dtype)
    order = torch.from_numpy(ArrayDataSource([VALUES]).plan(4, 3)[0].indices.copy())
    batch = first(tensor)
    assert batch.dtype is dtype
    assert torch.equal(batch.to(torch.complex64), tensor.to(torch.complex64)[order])


def test_a_tensor_that_requires_gradients_gives_rows_that_do():
    assert first(VALUES.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize('flip', [torch.conj, torch._neg_view])
def test_lazily_conjugated_and_negated_tensors(flip):
    tensor = flip(VALUES.to(torch.complex64) * 1j)
    assert torch.equal(ArrayDataSource([tensor]).samples_by_indices([2, -1])[0], tensor[[2, 9]])


def test_tensors_without_rows_are_refused():
    with pytest.raises(TypeError, match=r'data\[0\] is a tensor of layout torch.sparse_coo; x\.to_dense\(\)'):
        ArrayDataSource([VALUES.to_sparse()])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # PyTorch calls nested tensors a prototype
        nested = torch.nested.nested_tensor([VALUES[0], VALUES[1, :2]])
    with pytest.raises(TypeError, match=r'data\[0\] is a nested tensor; .*to_padded_tensor'):
        ArrayDataSource([nested])


def test_changes_of_a_tensor_are_seen():
    tensor = VALUES.clone()
    source = ArrayDataSource([tensor])
    tensor += 1
    assert torch.equal(source.samples_by_indices([0])[0], VALUES[:1] + 1)


def test_a_tensor_goes_to_workers_once_and_through_shared_memory():
    tensor = torch.arange(100_000)
    source = ArrayDataSource([tensor])
    shipment = Shipment(source)
    assert shipment.segment.size < tensor.nbytes + 6000
    assert shipment.fits(source)
    arrived = unpack_whole(shipment.segment.view, shipment.spans)
    assert torch.equal(arrived.data[0], tensor)
    source.data[0] = tensor.clone()
    assert not shipment.fits(source)


def test_changed_parameters_of_a_mapped_function_are_shipped_again():
    model = torch.nn.Linear(3, 2)
    source = ArrayDataSource([VALUES]).map(partial(apply, model))
    shipment = Shipment(source)
    assert shipment.fits(source)
    with torch.no_grad():
        model.weight += 1
    assert not shipment.fits(source)


def apply(model, values):
    """Apply a model to a batch."""
    return (model(values),)
