"""Downloads: from several addresses in turn, continued after an interruption, and verified."""

from __future__ import annotations

import errno
import http.client
import numbers
import os
import re
import ssl
import string
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from .._ground.arguments import check_integer
from .._ground.progress import make_bar
from ..errors import ChecksumError, DatasetError, DownloadError, StorageError
from .checksums import Checksum
from .placing import OTHER_FOLDER, free_bytes, writing

# How much is read at a time, in bytes.
CHUNK_BYTES = 2**18

# What a server must send on average during each `timeout`, in bytes per second. Larger: slow
# connections are given up. Smaller: a server that hardly answers delays the tries of other addresses.
LEAST_RATE = 256

# Status codes after which another try may help.
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
            seconds = getattr(self, name)
            if isinstance(seconds, bool) or not isinstance(seconds, numbers.Real):
                raise TypeError(f'{name} must be a number of seconds, got {type(seconds).__name__}')
            if not 0 <= float(seconds) < float('inf') or (name == 'timeout' and not seconds):
                raise ValueError(f'{name} must be a number of seconds, got {seconds!r}')
            object.__setattr__(self, name, float(seconds))  # the system takes no other kinds of numbers


class _FailedError(Exception):
    """A try failed.

    `passing`: whether another try may help. `wait`: the least seconds to wait before it.
    `wrong`: whether the address gave another file. `needed`: how many bytes are needed, if the
    disk has no room for them, and else 0.
    """

    def __init__(
        self, reason: str, passing: bool = True, wait: float = 0.0, wrong: bool = False, needed: int = 0
    ) -> None:
        super().__init__(reason)
        self.passing = passing
        self.wait = wait
        self.wrong = wrong
        self.needed = needed


class _Got(NamedTuple):
    """What an address gave: whether it continued the part that was there, and how long the whole file is."""

    continued: bool
    total: int | None


def check_urls(url: str | Sequence[str]) -> list[str]:
    """Return one or more addresses as a list."""
    if not isinstance(url, (str, Sequence)):
        raise TypeError(f'url must be an address or a list of them, got {url!r}')
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

    Until it is complete, its name ends with `.part`. With a checksum, such a part is continued:
    after a broken connection, from another address, and in another process. Only to be used
    while the path is `locked`.

    Raises
    ------
    DownloadError
        If no address gives the file.
    ChecksumError
        If all of them give another file.
    StorageError
        If the file cannot be written, or all of them say that it has more bytes than are free.
    """
    part = path.with_name(f'{path.name}.part')
    with writing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, 'a folder is in its place', str(path))
        if checksum is None:
            part.unlink(missing_ok=True)  # nothing would tell whether two halves belong together
        try:
            problems = _obtain(part, urls, checksum, patience, progress)
            if problems:
                raise _give_up(path, part, problems, checksum)
            os.replace(part, path)
        finally:
            if checksum is None:
                with suppress(OSError):
                    part.unlink()


def _obtain(
    part: Path, urls: Sequence[str], checksum: Checksum | None, patience: Patience, progress: bool
) -> dict[str, list[_FailedError]]:
    """Write the file; return what went wrong with each address, or an empty dict after success."""
    problems: dict[str, list[_FailedError]] = {url: [] for url in urls}
    for attempt in range(patience.attempts):
        for url in [url for url, failures in problems.items() if not failures or failures[-1].passing]:
            try:
                _try(url, part, checksum, patience.timeout, progress)
            except _FailedError as failed:
                problems[url].append(failed)
            else:
                return {}
        waits = [failures[-1].wait for failures in problems.values() if failures[-1].passing]
        if not waits:
            break
        if attempt + 1 < patience.attempts:
            time.sleep(max(patience.backoff * 2**attempt, min(*waits, patience.timeout)))
    return problems


def _try(url: str, part: Path, checksum: Checksum | None, timeout: float, progress: bool) -> None:
    """Write the right file: continue the part that is there, or begin again if that was of another file."""
    while True:
        got = _fetch(url, part, timeout, checksum is not None, progress)
        if checksum is None:
            return
        found = checksum.of(part)
        if found == checksum:
            return
        part.unlink()
        if not got.continued:
            # If the server did not say how long the file is, this one may have been cut short.
            raise _FailedError(f'gave another file, with {found}', passing=got.total is None, wrong=True)


def _give_up(
    path: Path, part: Path, problems: dict[str, list[_FailedError]], checksum: Checksum | None
) -> DatasetError:
    last = [failures[-1] for failures in problems.values()]
    if all(failed.needed for failed in last):
        return StorageError(f'cannot download {path}: {min(last, key=lambda failed: failed.needed)}')
    lines = [f'cannot download {path.name}:']
    for url, failures in problems.items():
        times = f' (tried {len(failures)} times)' if len(failures) > 1 else ''
        lines.append(f'  {url}: {failures[-1]}{times}')
    if checksum is not None and part.exists():
        lines.append(f'{part.stat().st_size:,} bytes of it are kept in {part.name}: the next try goes on from there.')
    if checksum is not None and path.exists():
        lines.append(f'The file that is at {path} is another one, with {checksum.of(path)}.')
    lines.append(by_hand(path, checksum))
    wrong = all(failed.wrong for failed in last)
    return (ChecksumError if wrong else DownloadError)('\n'.join(lines))


def by_hand(path: Path, checksum: Checksum | None) -> str:
    """Say how a user can place a file."""
    known_by = f', with {checksum}' if checksum is not None else ''
    return f'Or place the file by hand at {path}{known_by}.'


def _fetch(url: str, part: Path, timeout: float, resume: bool, progress: bool) -> _Got:
    """Write what an address gives to a file."""
    start = part.stat().st_size if resume and part.exists() else 0
    try:
        return _request(url, part, start, timeout, progress)
    except DatasetError:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:  # no bytes are missing: the checksum says if the part is right
            return _Got(continued=True, total=start)
        raise _FailedError(f'HTTP {error.code} {error.reason}', error.code in _PASSING, _retry_after(error)) from error
    except urllib.error.URLError as error:
        passing = isinstance(error.reason, (TimeoutError, ConnectionError))
        raise _FailedError(_reason(error.reason, timeout), passing) from error
    except (OSError, http.client.HTTPException) as error:
        raise _FailedError(_reason(error, timeout)) from error
    except (ValueError, OverflowError) as error:  # such as from a redirection to an impossible address
        raise _FailedError(_reason(error, timeout), passing=False) from error


def _reason(error: object, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f'no answer within {timeout:g} seconds'
    if isinstance(error, ssl.SSLCertVerificationError):
        return f'its certificate is not valid: {error.verify_message}'
    return f'{error}' or type(error).__name__


def _retry_after(error: urllib.error.HTTPError) -> float:
    """Return how many seconds a server asks to wait."""
    text = error.headers.get('Retry-After', '')
    return float(text) if text.isdecimal() else 0.0


def _request(url: str, part: Path, start: int, timeout: float, progress: bool) -> _Got:
    headers = {
        'User-Agent': 'batchup',
        'Accept-Encoding': 'identity',
        **({'Range': f'bytes={start}-'} if start else {}),
    }
    request = urllib.request.Request(quote(url, safe=string.punctuation), headers=headers)
    with closing(urllib.request.build_opener(_Redirects).open(request, timeout=timeout)) as response:
        if response.status != 206:
            start = 0  # the whole file, whatever was asked for
        elif not re.match(rf'bytes {start}-', response.headers.get('Content-Range', '')):
            if not start:
                raise _FailedError('gave a part of the file, but was asked for all of it', passing=False)
            return _Got(continued=True, total=None)  # the checksum refuses the part, and all is fetched anew
        total = _length(response, start)
        _check_room(part, total, start)
        received = _save(response, part, start, total, timeout, progress)
    if total is not None and received < total:
        raise _FailedError(f'the connection ended after {received:,} of {total:,} bytes')
    return _Got(start > 0, total)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows code 308 as well, which Python 3.10 does not know, and reads nothing but the new address."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        fp.close()  # or the rest of the answer would be read into memory
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(self, req: Any, fp: Any, code: int, *others: Any) -> urllib.request.Request | None:
        return super().redirect_request(req, fp, 307 if code == 308 else code, *others)


def _length(response: Any, start: int) -> int | None:
    """Return how long the whole file is, if the answer from `start` on says so."""
    ends = {start + _claimed(text) for text in response.headers.get_all('Content-Length', [])}
    whole = response.headers['Content-Range'].rpartition('/')[2] if response.status == 206 else '*'
    total = max(ends, default=None) if whole == '*' else _claimed(whole)
    if total is not None and (total < start or len(ends) > 1 or max(ends, default=0) > total):
        claims = ' and of '.join(f'{claim:,}' for claim in sorted({*ends, total}))
        raise _FailedError(f'contradicts itself: it speaks of {claims} bytes', passing=False)
    return total


def _claimed(text: str) -> int:
    """Return a number of bytes that a server has written; refuse a number that no file can have."""
    if not re.fullmatch(r'[0-9]{1,18}', text.strip()):
        raise _FailedError(f'says that the file has {text[:40]!r} bytes', passing=False)
    return int(text)


def _check_room(part: Path, total: int | None, start: int) -> None:
    """Give an address up if it says that the file is too large for the disk; others may not."""
    free = free_bytes(part)
    if total is not None and total - start > free:
        needed = total - start
        reason = f'{needed:,} bytes are needed, {free:,} are free there; make room, {OTHER_FOLDER}'
        raise _FailedError(reason, passing=False, needed=needed)


def _save(response: Any, part: Path, start: int, total: int | None, timeout: float, progress: bool) -> int:
    """Write an answer to a file, from `start` on; return how long the file is now, in bytes."""
    try:
        with (
            writing(part),
            open(part, 'ab' if start else 'wb') as file,
            _bar(part.stem, start, total, progress) as bar,
        ):
            received = start
            for chunk in _chunks(response, timeout):
                file.write(chunk)
                received += len(chunk)
                bar.update(len(chunk))
            return received
    except StorageError:
        part.unlink(missing_ok=True)  # to leave room
        raise


def _chunks(response: Any, timeout: float) -> Iterator[bytes]:
    """Read an answer, and give up if it comes too slowly."""
    since, received = time.monotonic(), 0
    while chunk := response.read1(CHUNK_BYTES):
        yield chunk
        received += len(chunk)
        if received >= LEAST_RATE * timeout:
            since, received = time.monotonic(), 0
        elif time.monotonic() - since > timeout:
            raise _FailedError(f'sent less than {LEAST_RATE} bytes a second')


def _bar(name: str, start: int, total: int | None, progress: bool) -> Any:
    return make_bar(total=total, initial=start, desc=name, unit='B', unit_scale=True, unit_divisor=1024, shown=progress)
