"""What is checked of a case without workers: contents, plans, states, shards, ownership, errors."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from typing import Any

import numpy as np

from . import structures
from .cases import Case, RefusedError, UnknownError, shard_part
from .functions import TABLE, FailsAt, Keeper, Noise, mark_of
from .joined import Choice
from .structures import assert_same, assert_writable
from .trees import ENOUGH, Mapped, Rows, parts_of

# What is refused at the call, by the documents: a member that starts again without a batch, and ends that are
# not known, because a sequential generator is yet to be drawn from or a user's code does not tell.
REFUSED = re.compile(
    '(has|may have) no batches|without batches cannot start again|is unknown|is infinite|has no in-order iteration'
)

Tally = Counter  # how often something was checked


# A member that starts again, and has no batches, is found when it is asked for one: its length is not known.
LATE = 'refused later: a function does not tell whether it has batches'


def nodes_of(case: Case, tally: Tally) -> list[Any] | None:
    """Return what is in each batch; `None` if the source refuses to make any, as it has to."""
    if not case.planned and not case.known:
        return None  # what a seed means there is for the members to say; `check_resume` goes through them twice
    nodes: list[Any] | None
    try:
        nodes = case.nodes()
    except RefusedError:
        nodes = None
    except UnknownError:
        tally['epochs whose end is not known'] += 1
        return None
    except (ValueError, NotImplementedError) as error:
        check_refusal(case, error)
        nodes = None
    # The model does not look ahead into rounds that are yet to be drawn, so the source may know more.
    refused = is_refused(case, tally)
    if nodes is None and not refused and case.untold():
        tally[LATE] += 1
        return None
    assert refused or nodes is not None, 'an epoch that cannot go on is not refused at the call'
    return None if refused else nodes


def is_refused(case: Case, tally: Tally) -> bool:
    """Say whether the source refuses, at the call, to make an epoch; it has to say why."""
    try:
        case.open()
    except (ValueError, NotImplementedError) as error:
        check_refusal(case, error)
        tally['refused'] += 1
        return True
    return False


def check_refusal(case: Case, error: Exception) -> None:
    """Raise an error unless it is one that the documents name, and the case has what it is about."""
    if not REFUSED.search(str(error)) or not case.may_be_refused():
        raise error


def check_contents(case: Case, tally: Tally) -> None:
    """The batches are those of the model: their contents, structure, dtypes, number, and what `len` says."""
    nodes = nodes_of(case, tally)
    if nodes is None:
        return
    source = case.make(rng=case.random.random() < 0.5)
    stream = case.open(source)
    length = stream.length
    batches = list(itertools.islice(stream, ENOUGH))
    for number, (batch, node) in enumerate(zip(batches, nodes)):
        assert_same(batch, case.tree.build(node), f'batch {number}')
        assert_writable(batch)
        tally['batches compared'] += 1
    assert len(batches) == len(nodes), f'{len(batches)} batches, not {len(nodes)}'
    assert stream.position == len(batches)
    if len(batches) < ENOUGH:
        assert length is None or length == len(batches), f'len is {length} for {len(batches)} batches'
        tally['lengths compared'] += length is not None
    tally[f'contents: {case.kind}'] += bool(batches)
    for model in case.models:
        tally[f'contents: {type(model).__name__}'] += bool(batches)


def check_plan(case: Case, tally: Tally) -> None:
    """A plan says which samples are in which batch, in any order; every sample comes as often as it should."""
    if not case.planned:
        return
    nodes = nodes_of(case, tally)
    if nodes is None:
        return
    case_run = case.run._replace(rng=None, hidden=case.kind != 'order')
    try:
        case.tree.check(nodes, case.size, case_run, False)
        if isinstance(case.tree, Choice) and case.tree.stop == 'all' and len(nodes) < ENOUGH:
            case.tree.check_end(nodes, case.size, case_run)
            tally['plans: ends of choices'] += 1
        tally['plans: samples counted'] += bool(nodes)
    except (RefusedError, UnknownError):
        pass
    plan = case.plan()
    found = [case.tree.node_of(request.indices, case.size) for request in itertools.islice(plan, ENOUGH)]
    assert_same_nodes(found, nodes)
    tally['plans: by the documents'] += case.known and bool(nodes)
    again = case.plan()
    if again.pure and nodes:
        for number in case.random.sample(range(len(nodes)), min(4, len(nodes))):
            assert_same_nodes([case.tree.node_of(again[number].indices, case.size)], [nodes[number]])
            tally['plans: at any place'] += 1
    source: Any = case.make()
    arguments = {name: value for name, value in case.arguments().items() if name != 'shuffle'}
    for k, indices in enumerate(
        itertools.islice(source.batch_indices_iterator(case.size, case.shuffle(), **arguments), 3)
    ):
        if any(isinstance(function, Noise) for function in case.functions):
            break
        read = source.samples_by_indices_nomapping(indices)
        assert_same(read, case.tree.build(nodes[k]), f'samples of batch {k}')
        tally['plans: read by indices'] += 1


def assert_same_nodes(found: list[Any], nodes: list[Any]) -> None:
    assert len(found) == len(nodes), f'{len(found)} batches in the plan, not {len(nodes)}'
    for number, (one, other) in enumerate(zip(found, nodes)):
        for part, expected in itertools.zip_longest(parts_of(one), parts_of(other)):
            assert np.array_equal(part.ids, expected.ids), f'batch {number}: {part.ids}, not {expected.ids}'


def open_all(case: Case, tally: Tally, **others: Any) -> list[Any] | None:
    """Go through the batches; `None` if the source refuses to make any."""
    if is_refused(case, tally):
        return None
    stream = case.open(case.make(scale=1), **others)
    try:
        return list(itertools.islice(stream, ENOUGH))
    except ValueError as error:
        if not case.untold():
            raise
        check_refusal(case, error)
        tally[LATE] += 1
        return None


def check_resume(case: Case, tally: Tally) -> None:
    """From a state, or after a skip, batches and random draws are what they would have been."""
    expected = open_all(case, tally)
    if expected is None:
        return
    random = case.random
    position = random.randrange(len(expected) + 1)
    source = case.make(scale=1)
    saved, skipped, resumed = (case.open(source if case.planned else case.make(scale=1)) for _ in range(3))
    for number in range(position):
        assert_same(next(saved), expected[number], f'batch {number}')
    assert skipped.skip(position) == position
    state = json.loads(json.dumps(saved.state_dict()))
    assert skipped.state_dict() == state, f'{skipped.state_dict()} after a skip, {state} after batches'
    if case.planned and case.kind in ('order', *('seed', 'computed', 'blocks')) and random.random() < 0.3:
        resumed.skip(random.randrange(len(expected) + 1))
    resumed.load_state_dict(state)
    assert resumed.position == position
    if case.planned and position < len(expected):
        check_replay(case, state, expected[position])
        tally['states replayed'] += 1
    for stream in (saved, skipped, resumed):
        rest = list(itertools.islice(stream, len(expected) - position))
        assert_same(rest, expected[position:], f'from batch {position}')
        if len(expected) < ENOUGH:
            assert stream.skip(3) == 0
            assert next(stream, None) is None
    tally[f'resumed: {case.kind}{"" if case.planned else ", no plan"}'] += position < len(expected)
    if len(expected) < ENOUGH:
        past = case.open(case.make(scale=1))
        assert past.skip(len(expected) + 5) == len(expected)
        tally['skips past the end'] += 1


def check_replay(case: Case, state: dict[str, Any], expected: Any) -> None:
    """The next batch of a state can be made alone, and so can a batch by its number."""
    source: Any = case.make(scale=1)
    pure = case.kind in ('order', 'seed', 'computed', 'blocks')
    assert_same(source.replay(state, shuffle=None if pure else case.shuffle()), expected, 'the batch of a state')
    if pure:
        arguments = case.arguments()
        for _ in range(2):
            batch = source.batch(state['position'], case.size, **arguments)
            assert_same(batch, expected, f'batch {state["position"]}, alone')


def check_shards(case: Case, tally: Tally) -> None:
    """Every rank has its part of every batch."""
    if not case.planned:
        return
    nodes = nodes_of(case, tally)
    if nodes is None:
        return
    count, uneven = case.random.choice([1, 2, 2, 3, 5]), case.random.choice(['share', 'share', 'drop', 'pad'])
    if uneven == 'pad' and (not case.same_length or any(unequal(node) for node in nodes)):
        return  # one array can tell of the padding of parts only that are equally long
    lengths = set()
    for rank in range(count):
        stream = case.open(shard=(rank, count), uneven=uneven)
        lengths.add(stream.length)
        for number, (batch, node) in enumerate(itertools.zip_longest(itertools.islice(stream, ENOUGH), nodes)):
            part = case.tree.build(shard_part(node, rank, count, uneven))
            if uneven == 'pad':
                n = len(next(parts_of(node)).ids)
                start, stop = n * rank // count, n * (rank + 1) // count
                part = (*part, np.arange(-(-n // count)) < stop - start)
            assert_same(batch, part, f'batch {number} of rank {rank} of {count}, uneven={uneven!r}')
        tally[f'shards: {uneven}'] += bool(nodes)
    assert len(lengths) == 1, f'ranks have {lengths} batches'
    check_other_ranks(case, nodes, count, tally)


def check_other_ranks(case: Case, nodes: list[Any], count: int, tally: Tally) -> None:
    """Check that a run goes on with another number of ranks."""
    position, others = case.random.randrange(len(nodes) + 1), case.random.randrange(1, 5)
    saved = case.open(shard=(count - 1, count))
    saved.skip(position)
    state = json.loads(json.dumps(saved.state_dict()))
    for rank in range(others):
        stream = case.open(shard=(rank, others))
        stream.load_state_dict(state)
        for number, node in enumerate(nodes[position:], position):
            part = case.tree.build(shard_part(node, rank, others, 'share'))
            assert_same(next(stream), part, f'batch {number} of rank {rank} of {others}, after {count} ranks')
    tally['shards: other ranks go on'] += position < len(nodes)


def unequal(node: Any) -> bool:
    return len({len(rows.ids) for rows in parts_of(node)}) > 1


def check_ownership(case: Case, tally: Tally) -> None:
    """What the user writes into batches changes nothing else, and what is kept stays as it is."""
    nodes = nodes_of(case, tally)
    if nodes is None:
        return
    if any(isinstance(function, Keeper) for function in case.functions):
        return  # what a function keeps of its batches is shared with the user, who writes into them here
    source, kept = case.make(), []
    for round_ in range(2):
        for number, (batch, node) in enumerate(zip(case.open(source), nodes)):
            expected = case.tree.build(node)
            assert_same(batch, expected, f'batch {number} of epoch {round_}')
            if case.random.random() < 0.5:
                structures.spoil(batch)
            else:
                kept.append((batch, expected))
        if not case.planned:
            source = case.make()
    for batch, expected in kept:
        assert_same(batch, expected, 'a batch that was kept')
    assert (np.arange(TABLE.size).reshape(TABLE.shape) == TABLE).all(), 'the table of a function was changed'
    for tree in case.tree.walk():
        for column in getattr(tree, 'columns', ()):
            data = Rows(np.arange(len(column.whole)), 1)
            read = (getattr(column.data, 'iloc', column.data))[data.ids] if len(data.ids) else column.read(data.ids)
            assert_same(np.array(read) if type(read) is np.memmap else read, column.read(data.ids), 'the data')
    tally['ownership: kept batches'] += len(kept)


def check_errors(case: Case, tally: Tally) -> None:
    """An error of a function arrives at its batch, with its number; the stream goes on from there."""
    nodes = nodes_of(case, tally)
    if not nodes:
        return
    expected = [tuple(case.tree.build(node)) for node in nodes]
    mark = mark_of(case.random.choice(expected))
    place = next(number for number, batch in enumerate(expected) if mark_of(batch) == mark)
    once = case.random.random() < 0.5
    stream = case.make().map(FailsAt(mark, once)).batch_iterator(case.size, **case.arguments())
    for number in range(place):
        assert_same(next(stream), expected[number], f'batch {number}')
    for _ in range(1 if once else 2):
        error = error_of(stream)
        assert type(error) is OSError, f'{error!r} in place of an OSError at batch {place}'
        assert f'in batch {place}' in getattr(error, '__notes__', [''])[-1], f'{error.__notes__} at batch {place}'
        assert stream.position == place
        if case.planned:
            assert_same(tuple(case.make().replay(error)), expected[place], f'batch {place} by its error')
            tally['errors replayed'] += 1
    if not once:
        assert stream.skip(1) == 1
        place += 1
        expected = list(expected[:place]) + list(
            itertools.takewhile(lambda batch: mark_of(batch) != mark, expected[place:])
        )
    assert_same(list(itertools.islice(stream, len(expected) - place)), expected[place:], 'after an error')
    tally['errors'] += 1


def error_of(stream: Any) -> BaseException:
    try:
        batch = next(stream)
    except Exception as error:
        return error
    raise AssertionError(f'no error, but {batch!r:.100}')


def check_draws(case: Case, tally: Tally) -> None:
    """Random functions draw the same again, and other numbers for every batch, epoch and rank."""
    case.tree = Mapped(case.tree, Noise())
    one = open_all(case, tally)
    if not one:
        return
    assert_same(one, open_all(case, tally), 'the same epoch again')
    draws = [batch[-1].tolist() for batch in one]
    if case.planned and case.kind in ('seed', 'computed', 'blocks'):
        for others in ({'epoch': case.epoch + 1}, {'shard': (1, 2)}, {'shuffle': case.shuffle_seed + 1}):
            draws += [batch[-1].tolist() for batch in open_all(case, tally, **others) or []]
    elif case.known and case.planned:
        return  # without a seed, draws are by the indices, which may come again
    long = [tuple(each) for each in draws if each]
    if case.planned:
        assert len(set(long)) == len(long), 'two batches have the same draws'
    tally['draws compared'] += len(long)
