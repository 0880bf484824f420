"""What is checked of gathered results: against brute force over the rows of all batches."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from batchup.data_source import batch_map_concat, batch_map_mean, merge

from . import structures
from .cases import Case, shard_part
from .checks import nodes_of, unequal
from .samplers import Arranged, Repeated
from .trees import ENOUGH, Leaf, Mapped, Rows


def values_of(*batch: Any) -> Any:
    """Return a number for every row, of a batch that was unpacked."""
    return structures.row_values(batch)


def sums_of(*batch: Any) -> Any:
    values = values_of(*batch)
    return values.sum(), np.array([len(values), 1.0])


def nothing(*batch: Any) -> None:
    """Do what people who train do."""


def check_results(case: Case, tally: Counter[str]) -> None:
    """Rows come in the order of the batches, and means are those over all rows."""
    nodes = nodes_of(case, tally)
    if nodes is None:
        return
    limited = len(nodes) == ENOUGH or case.random.random() < 0.3
    count = case.random.randrange(len(nodes) + 1) if limited else len(nodes)
    keywords = {'n_batches': count} if limited else {}
    batches = [case.tree.build(node) for node in nodes[:count]]
    if not all(map(structures.is_even, batches)):
        return  # with `trim=False` a batch may have no one length, so there is nothing to divide by
    found = case.make().batch_map_concat(values_of, case.size, **keywords, **case.arguments())
    values = [structures.row_values(batch) for batch in batches]
    if not batches:
        assert found == (), f'{found!r} of no batches'
    else:
        structures.assert_same(found, (np.concatenate(values),), 'results')
        tally['results: rows'] += 1
    total, n = sum(map(np.sum, values)), sum(map(len, values))
    if n:
        mean = case.make().batch_map_mean(sums_of, case.size, **keywords, **case.arguments())
        assert np.isclose(mean[0], total / n, rtol=1e-9), f'the mean is {mean[0]}, not {total / n}'
        assert np.allclose(mean[1], [1.0, len(batches) / n]), f'the means are {mean[1]}'
        axis = case.make().batch_map_mean(values_of, case.size, sum_axis=0, **keywords, **case.arguments())
        assert np.isclose(axis[0], total / n, rtol=1e-9), f'with sum_axis the mean is {axis[0]}, not {total / n}'
        tally['results: means'] += 1
        for gather in ('batch_map_concat', 'batch_map_mean'):
            result = getattr(case.make(), gather)(nothing, case.size, **keywords, **case.arguments())
            assert result is None, f'{gather} returns {result!r} for nothing'
        tally['results: nothing'] += 1
    check_streams(case, batches, tally)


def check_streams(case: Case, batches: list[Any], tally: Counter[str]) -> None:
    """Check that `n_batches` takes that many and no more."""
    stream, taken = case.open(), case.random.randrange(len(batches) + 1)
    found = batch_map_concat(values_of, stream, n_batches=taken)
    assert stream.position == taken, f'{stream.position} batches were taken, not {taken}'
    expected = [structures.row_values(batch) for batch in batches]
    if taken:
        structures.assert_same(found, (np.concatenate(expected[:taken]),), 'the first results')
    if len(batches) > taken and sum(map(len, expected[taken:])):
        (mean,) = batch_map_mean(lambda *batch: values_of(*batch).sum(), stream, n_batches=len(batches) - taken)
        assert np.isclose(mean, np.concatenate(expected[taken:]).mean(), rtol=1e-9)
        tally['results: the rest of a stream'] += 1


def check_merged(case: Case, tally: Counter[str]) -> None:
    """Results of all ranks, merged, are those over the rows of all parts."""
    if not case.planned:
        return
    nodes = nodes_of(case, tally)
    if not nodes or len(nodes) == ENOUGH:
        return
    count, uneven = case.random.choice([1, 2, 3, 5]), case.random.choice(['share', 'share', 'drop'])
    parts = [[case.tree.build(shard_part(node, rank, count, uneven)) for node in nodes] for rank in range(count)]
    if not all(structures.is_even(batch) for rank in parts for batch in rank):
        return
    if any(unequal(node) for node in nodes):
        return  # shares of parts with sizes of their own hold other samples of the whole batch
    keywords = [{'shard': (rank, count), 'uneven': uneven} for rank in range(count)]
    sums = [case.make().batch_map_mean(sums_of, case.size, **each, **case.arguments()) for each in keywords]
    values = [[structures.row_values(batch) for batch in rank] for rank in parts]
    rows = [np.concatenate(rank) for rank in values]
    if sum(map(len, rows)):
        # A rank that has no samples of a batch does not count for it.
        merged = merge(sums)
        expected = np.concatenate(rows).mean()
        assert np.isclose(merged[0], expected, rtol=1e-9), f'the merged mean is {merged[0]}, not {expected}'
        tally[f'merged: means, {uneven}'] += 1
    for each, rank in zip(keywords, rows):
        result = source_of_nothing(case, each)
        # What a function returns for batches that this rank has no part of does not count.
        assert result is None or (not len(rank) and result == ()), f'{result!r} in place of nothing'
    if case.same_length:
        check_merged_rows(case, nodes, values, keywords, tally)


def source_of_nothing(case: Case, keywords: dict[str, Any]) -> Any:
    return case.make().batch_map_concat(nothing, case.size, **keywords, **case.arguments())


def check_merged_rows(
    case: Case, nodes: list[Any], values: list[list[Any]], keywords: list[dict[str, Any]], tally: Counter[str]
) -> None:
    """Check the order of merged rows: that of the samples, where they have a place, or else of the epoch."""
    found = [case.make().batch_map_concat(values_of, case.size, **each, **case.arguments()) for each in keywords]
    together = [value for step in zip(*values) for value in np.concatenate(step).tolist()]
    (merged,) = merge(found)
    model = getattr(unmapped(case.tree), 'model', None)
    if isinstance(model, Arranged) and model.repeats != 1 and case.drop_last:
        # Which samples are left out of each repetition, and so come next time, is not told.
        assert sorted(merged.tolist()) == sorted(together)
        return
    places = places_of(case, nodes, keywords)
    if places is None:
        expected = together
    else:
        expected = [value for _, value in sorted(zip(places, together), key=lambda pair: pair[0])]
    assert merged.tolist() == expected, f'merged {merged.tolist()}, not {expected}'
    tally[f'merged: rows in the order of {"the epoch" if places is None else "the samples"}'] += 1


def unmapped(tree: Any) -> Any:
    """Return what functions are mapped over."""
    while isinstance(tree, Mapped):
        tree = tree.members[0]
    return tree


def places_of(case: Case, nodes: list[Any], keywords: list[dict[str, Any]]) -> list[Any] | None:
    """Return where each row belongs; `None` if samples have no places of their own."""
    tree = unmapped(case.tree)
    if not isinstance(tree, Leaf) or not isinstance(tree.model, (Repeated, Arranged)):
        return None
    if case.kind == 'order' and isinstance(tree.model, Repeated):
        return None  # in order, that of the epoch is that of the samples
    model = tree.model
    if not model.placed:
        return None
    base = np.arange(len(model.values)) if isinstance(model, Arranged) else model.base
    place = {index: number for number, index in enumerate(base.tolist())}
    seen: Counter[int] = Counter()
    places: list[Any] = []
    for node in nodes:
        here = []
        for index in node.ids.tolist():
            here.append((seen[index], place[index]))
            seen[index] += 1
        positions = Rows(np.arange(len(here)), node.size)
        for each in keywords:
            places += [here[k] for k in shard_part(positions, *each['shard'], each['uneven']).ids.tolist()]
    return places


def check_out(case: Case, tally: Counter[str]) -> None:
    """What is written with `out` is what would be returned, row by row, or an error: nothing wraps."""
    nodes = nodes_of(case, tally)
    if not nodes or len(nodes) == ENOUGH or not case.same_length:
        return
    batches = [case.tree.build(node) for node in nodes]
    if not all(map(structures.is_even, batches)):
        return
    values = np.concatenate([structures.row_values(batch) for batch in batches])
    if len(values) != case.tree.samples():
        return  # `out` has a row for each sample of the epoch
    places = places_of(case, nodes, [{'shard': (0, 1), 'uneven': 'share'}]) if case.planned else None
    if places is not None:
        values = values[sorted(range(len(values)), key=lambda k: places[k])]
    out = np.full(len(values), -7.0)
    case.make().batch_map_concat(values_of, case.size, out=out, **case.arguments())
    assert out.tolist() == values.tolist(), f'{out} in place of {values}'
    small = np.full(len(values), 7, np.int8)
    wide = np.abs(values).max(initial=0) > 127

    def whole(*batch: Any) -> Any:
        return values_of(*batch).astype(np.int64)

    try:
        case.make().batch_map_concat(whole, case.size, out=small, **case.arguments())
    except (ValueError, TypeError, OverflowError):
        assert wide, 'values that fit are refused'
        tally['out: what does not fit is an error'] += 1
    else:
        assert not wide, f'{values} in int8 became {small}'
        assert small.tolist() == values.astype(np.int64).tolist()
    tally['out: rows'] += 1
