"""Downloads: several addresses in turn, what is there already continued, and verified."""

from __future__ import annotations

import http.client
import os
import re
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from ..arguments import check_integer
from ..errors import ChecksumError, DatasetError, DownloadError, StorageError
from .checksums import Checksum
from .placing import OTHER_FOLDER, free_bytes, writing

# How much is read at a time, in bytes.
CHUNK_BYTES = 2**18

# What a server must send on average during each `timeout`, in bytes per second. Larger: slow
# connections are given up. Smaller: a server that hardly answers holds up those after it.
LEAST_RATE = 256

# Answers after which another try may help.
_PASSING = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Patience:
    """How long a download goes on trying.

    Attributes
    ----------
    timeout : float
        How long to wait for an answer and for each piece of the file, in seconds.
    attempts : int
        How often to try each address.
    backoff : float
        How long to wait before the second round of tries, in seconds; twice as long before
        each later one.
    """

    timeout: float = 30.0
    attempts: int = 4
    backoff: float = 1.0

    def __post_init__(self) -> None:
        if check_integer('attempts', self.attempts) < 1:
            raise ValueError(f'attempts must be at least 1, got {self.attempts}')
        for name in ('timeout', 'backoff'):
            if not 0 <= getattr(self, name) < float('inf'):
                raise ValueError(f'{name} must be a number of seconds, got {getattr(self, name)!r}')


class _FailedError(Exception):
    """A try failed. `passing`: another one may help. `wait`: after so many seconds at least."""

    def __init__(self, reason: str, passing: bool = True, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.passing = passing
        self.wait = wait


def check_urls(url: str | Sequence[str]) -> list[str]:
    """Return one or more addresses as a list."""
    urls = [url] if isinstance(url, str) else list(url)
    if not urls:
        raise ValueError('url must name at least one address, got none')
    for one in urls:
        if not isinstance(one, str):
            raise TypeError(f'url must be an address or a list of them, got {one!r}')
        if urlsplit(one).scheme not in ('http', 'https'):
            raise ValueError(f'url must begin with http:// or https://, got {one!r}')
    return urls


def download_file(
    path: Path, urls: Sequence[str], checksum: Checksum | None, patience: Patience, progress: bool
) -> None:
    """Download a file from the first address that gives the right one, and put it at `path`.

    Meanwhile it is called `.part`. With a checksum, what there is of it goes on: after a
    broken connection, from another address, and in another process. Only to be used while
    the path is `locked`.

    Raises
    ------
    DownloadError
        If no address gives the file.
    ChecksumError
        If what all of them give is another file.
    StorageError
        If the file cannot be written.
    """
    part = path.with_name(f'{path.name}.part')
    problems: dict[str, list[_FailedError | ChecksumError]] = {url: [] for url in urls}
    left = list(problems)
    if checksum is None:
        part.unlink(missing_ok=True)  # nothing would tell whether two halves belong together
    for attempt in range(patience.attempts):
        for url in list(left):
            try:
                resumed = _fetch(url, part, patience.timeout, checksum is not None, progress)
                _verify(part, checksum, resumed)
            except (_FailedError, ChecksumError) as failed:
                problems[url].append(failed)
                if isinstance(failed, ChecksumError) or not failed.passing:
                    left.remove(url)
                continue
            with writing(path):
                os.replace(part, path)
            return
        if not left:
            break
        if attempt + 1 < patience.attempts:
            asked_for = min(problems[url][-1].wait for url in left)  # type: ignore[union-attr]
            time.sleep(max(patience.backoff * 2**attempt, min(asked_for, patience.timeout)))
    if checksum is None:
        part.unlink(missing_ok=True)
    raise _give_up(path, part, problems, checksum)


def _verify(part: Path, checksum: Checksum | None, resumed: bool) -> None:
    """Raise an error, and delete the file, unless it is the right one."""
    if checksum is None:
        return
    found = checksum.of(part)
    if found != checksum:
        part.unlink()
        if resumed:
            raise _FailedError(f'the file that was continued has {found}; it is deleted')
        raise ChecksumError(f'gave another file, with {found}')


def _give_up(path: Path, part: Path, problems: dict[str, Any], checksum: Checksum | None) -> DatasetError:
    lines = [f'cannot download {path.name}:']
    for url, failures in problems.items():
        times = f' (tried {len(failures)} times)' if len(failures) > 1 else ''
        lines.append(f'  {url}: {failures[-1]}{times}')
    if part.exists():
        lines.append(f'{part.stat().st_size:,} bytes of it are kept in {part.name}: the next try goes on from there.')
    lines.append(by_hand(path, checksum))
    wrong = all(isinstance(failures[-1], ChecksumError) for failures in problems.values())
    return (ChecksumError if wrong else DownloadError)('\n'.join(lines))


def by_hand(path: Path, checksum: Checksum | None) -> str:
    """Say how a user can place a file."""
    known_by = f', with {checksum}' if checksum is not None else ''
    return f'Or place the file by hand at {path}{known_by}.'


def _fetch(url: str, part: Path, timeout: float, resume: bool, progress: bool) -> bool:
    """Write what an address gives to a file; return whether it went on with one that was there."""
    try:
        return _request(url, part, timeout, resume, progress)
    except DatasetError:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and part.exists():  # the file that is there is longer than theirs, or as long
            if error.headers.get('Content-Range', '').rpartition('/')[2] == str(part.stat().st_size):
                return True
            part.unlink()
            raise _FailedError('has a shorter file than the part that was here; it is deleted') from error
        raise _FailedError(f'HTTP {error.code} {error.reason}', error.code in _PASSING, _retry_after(error)) from error
    except urllib.error.URLError as error:
        raise _FailedError(_reason(error.reason, timeout), passing=isinstance(error.reason, TimeoutError)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _FailedError(_reason(error, timeout)) from error


def _reason(error: object, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f'no answer within {timeout:g} seconds'
    if isinstance(error, ssl.SSLCertVerificationError):
        return f'its certificate is not valid: {error.verify_message}'
    return f'{error}' or type(error).__name__


def _retry_after(error: urllib.error.HTTPError) -> float:
    """Return how many seconds a server asks to wait."""
    text = error.headers.get('Retry-After', '')
    return float(text) if text.isdigit() else 0.0


def _request(url: str, part: Path, timeout: float, resume: bool, progress: bool) -> bool:
    start = part.stat().st_size if resume and part.exists() else 0
    headers = {
        'User-Agent': 'batchup',
        'Accept-Encoding': 'identity',
        **({'Range': f'bytes={start}-'} if start else {}),
    }
    request = urllib.request.Request(url, headers=headers)
    with closing(urllib.request.urlopen(request, timeout=timeout)) as response:
        if response.status != 206:
            start = 0  # the whole file, whatever was asked for
        elif not re.match(rf'bytes {start}-', response.headers.get('Content-Range', '')):
            part.unlink()
            raise _FailedError('gave another part of the file than it was asked for')
        length = response.headers.get('Content-Length')
        total = start + int(length) if length is not None and length.isdigit() else None
        _check_room(part, total, start)
        with writing(part):
            file = open(part, 'ab' if start else 'wb')  # noqa: SIM115
        with file:
            received = _copy(response, file, start, total, timeout, part, progress)
    if total is not None and received < total:
        raise _FailedError(f'the connection ended after {received:,} of {total:,} bytes')
    return start > 0


def _check_room(part: Path, total: int | None, start: int) -> None:
    """Raise an error if the rest of the file would fill the disk."""
    free = free_bytes(part)
    if total is not None and total - start > free:
        raise StorageError(
            f'cannot download {part.with_suffix("")}: {total - start:,} bytes are needed, {free:,} are free there; '
            f'make room, {OTHER_FOLDER}'
        )


def _copy(
    response: Any, file: BinaryIO, received: int, total: int | None, timeout: float, part: Path, progress: bool
) -> int:
    """Write an answer to a file; return how long the file is now, in bytes."""
    with _bar(part.stem, received, total, progress) as bar:
        since, due = time.monotonic(), received + LEAST_RATE * timeout
        while chunk := response.read1(CHUNK_BYTES):
            try:
                with writing(part):
                    file.write(chunk)
                    file.flush()
            except StorageError:
                part.unlink()  # to leave room
                raise
            received += len(chunk)
            bar.update(len(chunk))
            if received >= due:
                since, due = time.monotonic(), received + LEAST_RATE * timeout
            elif time.monotonic() - since > timeout:
                raise _FailedError(f'sent less than {LEAST_RATE} bytes a second')
    return received


def _bar(name: str, start: int, total: int | None, progress: bool) -> Any:
    from tqdm.auto import tqdm  # noqa: PLC0415 - imported when a bar is first shown

    # None: only in a terminal. A notebook is no terminal, but shows bars.
    disable = not progress or (False if 'ipykernel' in sys.modules else None)
    return tqdm(total=total, initial=start, desc=name, unit='B', unit_scale=True, unit_divisor=1024, disable=disable)
