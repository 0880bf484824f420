"""`datasets`: look after the standard data sets on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from ... import config
from ...datasets._catalogue import CATALOGUE, Entry
from ...datasets._store import Folder
from ...errors import DatasetError
from .base import CommandError

# How wide a terminal must be for the table of data sets.
TABLE_COLUMNS = 80


def look_up(name: str) -> Entry | None:
    """Return the data set of a name, if there is one; capitals and hyphens are up to the user."""
    return CATALOGUE.get(name.lower().replace('-', '_'))


def find(name: str) -> Entry:
    """Return the data set of a name."""
    entry = look_up(name)
    if entry is None:
        raise CommandError(f'there is no data set {name!r}; there are: {", ".join(CATALOGUE)}')
    return entry


def show_list() -> None:
    """Print a line for every data set; in a narrow terminal, two."""
    if shutil.get_terminal_size().columns < TABLE_COLUMNS:
        for entry in CATALOGUE.values():
            print(f'{entry.name:<15}{entry.state()}' + (f', {_in_units(size)}' if (size := entry.size()) else ''))
            print(f'  {entry.samples} of {" x ".join(map(str, entry.shape))}')
        return
    print(f'{"name":<15}{"samples":<25}{"shape":<14}{"on disk":>9}  state')
    for entry in CATALOGUE.values():
        shape = ' x '.join(map(str, entry.shape))
        print(f'{entry.name:<15}{entry.samples:<25}{shape:<14}{_in_units(entry.size()):>9}  {entry.state()}')


def fetch(names: Sequence[str]) -> None:
    """Download and convert those data sets that are not there."""
    for entry in [find(name) for name in names]:
        if entry.state() == 'damaged':
            raise _damaged([entry.name])
        print(f'{entry.name}: {"ships with batchup" if entry.fetch is None else entry.fetch()}')


def verify(names: Sequence[str]) -> None:
    """Compare data sets with the checksums that were taken when they were written.

    By default, all that are there; those that are named must be there.
    """
    entries = [find(name) for name in names or CATALOGUE]
    damaged = [entry.name for entry in entries if not _is_right(entry)]
    if damaged:
        raise _damaged(damaged)
    missing = [entry.name for entry in entries if names and entry.state() == 'not fetched']
    if missing:
        raise CommandError(
            f'not fetched: {", ".join(missing)}; run: python -m batchup datasets fetch {" ".join(missing)}'
        )


def _damaged(names: Sequence[str]) -> CommandError:
    return CommandError(
        f'damaged: {", ".join(names)}; to have it made again, first run: '
        f'python -m batchup datasets clear {" ".join(names)}'
    )


def _is_right(entry: Entry) -> bool:
    """Print what is wrong with a data set; return whether it can be used, or is not there."""
    if entry.fetch is None or entry.state() == 'not fetched':
        print(f'{entry.name}: {entry.state()}')
        return True
    try:
        damaged = Folder(str(entry.fetch.path)).damaged_files()
    except DatasetError as error:
        print(f'{entry.name}: damaged: {error}')
        return False
    print(f'{entry.name}: {"damaged: " + ", ".join(damaged) if damaged else "right"}')
    return not damaged


def clear(names: Sequence[str]) -> None:
    """Delete data sets, and what was downloaded for them."""
    for entry in [find(name) for name in names]:
        if entry.fetch is None:
            raise CommandError(f'{entry.name} ships with batchup; there is nothing to delete')
        size = entry.size()
        entry.fetch.delete()
        print(f'{entry.name}: {_in_units(size)} deleted')


def show_path(name: str | None) -> None:
    """Print the folder of all data sets, or of one."""
    if name is None:
        print(config.get_data_dir())
        return
    entry = find(name)
    if entry.fetch is None:
        raise CommandError(f'{entry.name} ships with batchup; it has no folder')
    print(entry.fetch.path)


def _in_units(n_bytes: int) -> str:
    """Return a number of bytes in words.

    >>> _in_units(0), _in_units(1500), _in_units(2_640_397_119)
    ('0 B', '1.5 kB', '2.6 GB')
    """
    size, unit = float(n_bytes), 'B'
    for larger in ('kB', 'MB', 'GB', 'TB'):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f'{size:.3g} {unit}' if unit == 'B' else f'{size:.1f} {unit}'
