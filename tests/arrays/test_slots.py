"""Slots for rows and pages for chunks: what is taken is free, and all of it comes back."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from batchup._arrays.slots import Slots


@given(st.integers(0, 60), st.integers(1, 9), st.data())
def test_what_is_in_use_is_never_given_again(count, page_rows, data):
    slots, used, in_use = Slots(count, page_rows), [], set()
    for _ in range(30):
        rows = data.draw(st.integers(1, page_rows))
        start = slots.take_page(rows) if data.draw(st.booleans()) else None
        if start is not None:
            taken, kept = set(range(start, start + page_rows)), np.arange(start, start + rows)
        else:
            kept = slots.take(min(rows, slots.free))
            taken = set(kept.tolist())
        assert not taken & in_use
        assert taken <= set(range(count))
        in_use |= taken
        used.append((kept, taken))
        assert slots.free == count - len(in_use)
        if data.draw(st.booleans()):
            kept, taken = used.pop(data.draw(st.integers(0, len(used) - 1)))
            in_use -= taken
            for part in np.array_split(kept, 2):
                slots.give_back(part)
    for kept, _ in used:
        slots.give_back(kept)
    assert slots.free == count
    assert len(set(slots.take(count).tolist())) == count
