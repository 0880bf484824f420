"""Tables and arrays of Arrow."""

import numpy as np
import pytest

from batchup._pools.shipping import Shipment
from batchup.data_source import ArrayDataSource, ConcatDataSource

arrow = pytest.importorskip('pyarrow')


def table(n, start=0):
    return arrow.table({'number': np.arange(start, start + n), 'text': [f'text {k}' for k in range(start, start + n)]})


def test_columns_stay_together():
    (batch,) = next(ArrayDataSource([arrow.concat_tables([table(4), table(6, 4)])]).batch_iterator(5, 3))
    assert batch.schema == table(1).schema
    assert batch['text'].to_pylist() == [f'text {k}' for k in batch['number'].to_pylist()]


def test_missing_values_stay():
    array = arrow.array([1, None, 3])
    assert ArrayDataSource([array]).samples_by_indices([1, 2])[0].to_pylist() == [None, 3]


def test_tables_with_other_columns_do_not_go_together():
    members = [ArrayDataSource([table(3)]), ArrayDataSource([table(3).rename_columns(['number', 'word'])])]
    with pytest.raises(TypeError, match=r"array 0 is .*'text'.* in data source 0, but .*'word'.* in data source 1"):
        ConcatDataSource(members)


def test_workers_are_sent_a_table_once_and_another_one_anew():
    source = ArrayDataSource([arrow.concat_tables([table(4), table(6, 4)])])
    shipment = Shipment(source)
    assert shipment.fits(source)
    source.data[0] = arrow.concat_tables([table(4, 5), table(6, 9)])
    source.samples_by_indices([0])
    assert not shipment.fits(source)
