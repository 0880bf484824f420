"""Checksums of files."""

from __future__ import annotations

import hashlib
import os
import string
from typing import NamedTuple

from ..errors import ChecksumError

# How much of a file is read at a time, in bytes.
CHUNK_BYTES = 2**20

_DIGITS = {'sha256': 64, 'md5': 32}
_NAMES = {'sha256': 'SHA-256', 'md5': 'MD5'}

FilePath = str | os.PathLike[str]


class Checksum(NamedTuple):
    """What a file must hash to.

    Attributes
    ----------
    algorithm : str
        'sha256' or 'md5'.
    digest : str
        The hexadecimal digits, in lower case.
    """

    algorithm: str
    digest: str

    @classmethod
    def check(cls, sha256: str | None = None, md5: str | None = None) -> Checksum | None:
        """Return the checksum that a user gave, if any."""
        for algorithm, digest in (('sha256', sha256), ('md5', md5)):
            if digest is None:
                continue
            if not isinstance(digest, str):
                raise TypeError(f'{algorithm} must be a string of hexadecimal digits, got {type(digest).__name__}')
            digits = digest.strip().lower()
            if len(digits) != _DIGITS[algorithm] or not set(digits) <= set(string.hexdigits):
                raise ValueError(f'{algorithm} must be {_DIGITS[algorithm]} hexadecimal digits, got {digest!r}')
            return cls(algorithm, digits)
        return None

    def of(self, path: FilePath) -> Checksum:
        """Return the checksum of a file, by the same algorithm."""
        return compute(path, self.algorithm)

    def __str__(self) -> str:
        return f'{_NAMES[self.algorithm]} {self.digest}'


def compute(path: FilePath, algorithm: str) -> Checksum:
    """Return the checksum of a file."""
    hashed = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, 'rb') as file:
        while chunk := file.read(CHUNK_BYTES):
            hashed.update(chunk)
    return Checksum(algorithm, hashed.hexdigest())


def is_right(path: FilePath, checksum: Checksum | None) -> bool:
    """Say whether there is a file with the expected checksum; for `None`, any file will do."""
    return os.path.isfile(path) and (checksum is None or checksum.of(path) == checksum)


def check_file(path: FilePath, checksum: Checksum | None, name: str | None = None) -> None:
    """Raise `ChecksumError` unless a file is the expected one."""
    if checksum is not None and (found := checksum.of(path)) != checksum:
        raise ChecksumError(f'{name or os.fspath(path)} is another file: it has {found}, expected {checksum}')
