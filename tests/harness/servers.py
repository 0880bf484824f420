"""An HTTP server on loopback, whose answers and faults tests script for every path."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

# How long a server that hangs keeps a connection, at most, in seconds.
HANG_SECONDS = 20.0


@dataclass(frozen=True)
class Reply:
    """An answer.

    Parameters
    ----------
    body : the whole file
    status : another one than 200, or 206 where a range is asked for
    headers : added to the usual ones, or in place of them; `None` leaves one out
    ranges : whether ranges are given
    chunked : whether the body comes in chunks, without its length
    cut : end the connection after so many bytes of the body
    reset : end it by a reset
    stall : send nothing more after so many bytes of the body
    trickle : how long to wait after each `piece` bytes, in seconds
    """

    body: bytes = b''
    status: int | None = None
    headers: dict[str, str | None] = field(default_factory=dict)
    ranges: bool = True
    chunked: bool = False
    cut: int | None = None
    reset: bool = False
    stall: int | None = None
    trickle: float = 0.0
    piece: int = 2**16


class Asked(NamedTuple):
    """A request: its path, and the first byte that it asks for, if it asks for a range."""

    path: str
    start: int | None


class Server:
    """What tests say to a server, and ask it."""

    def __init__(self, port: int) -> None:
        self.url = f'http://127.0.0.1:{port}'
        self.requests: list[Asked] = []
        self.stopped = threading.Event()
        self._replies: dict[str, list[Reply]] = {}
        self._counts: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()

    def give(self, name: str, *replies: Reply | bytes) -> str:
        """Answer requests for a name by these, one after the other, and by the last one from then on."""
        made = [Reply(reply) if isinstance(reply, bytes) else reply for reply in replies]
        self._replies[f'/{name}'] = made
        return f'{self.url}/{name}'

    def next_reply(self, asked: Asked) -> Reply:
        with self._lock:
            self.requests.append(asked)
            replies = self._replies.get(asked.path, [Reply(status=404)])
            count = self._counts[asked.path]
            self._counts[asked.path] += 1
        return replies[min(count, len(replies) - 1)]

    @property
    def starts(self) -> list[int | None]:
        """From which byte on each request asked for the file."""
        return [asked.start for asked in self.requests]


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    script: Server

    def do_GET(self) -> None:
        self.close_connection = True
        asked_range = re.fullmatch(r'bytes=(\d+)-', self.headers.get('Range', ''))
        start = int(asked_range[1]) if asked_range else None
        reply = self.script.next_reply(Asked(self.path, start))
        with contextlib.suppress(ConnectionError):
            self._answer(reply, start if reply.ranges else None)

    def _answer(self, reply: Reply, start: int | None) -> None:
        size = len(reply.body)
        headers: dict[str, str | None] = {'Connection': 'close'}
        status, body = 200, reply.body
        if start is not None and start >= size:
            status, body, headers['Content-Range'] = 416, b'', f'bytes */{size}'
        elif start is not None:
            status, body = 206, body[start:]
            headers['Content-Range'] = f'bytes {start}-{size - 1}/{size}'
        if reply.chunked:
            headers['Transfer-Encoding'] = 'chunked'
        else:
            headers['Content-Length'] = str(len(body))
        self.send_response(reply.status or status)
        for name, value in {**headers, **reply.headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self._send(reply, body)

    def _send(self, reply: Reply, body: bytes) -> None:
        ends = [end for end in (reply.cut, reply.stall) if end is not None]
        for start in range(0, min([len(body), *ends]), reply.piece):
            piece = body[start : min([start + reply.piece, *ends])]
            self.wfile.write(b'%x\r\n%b\r\n' % (len(piece), piece) if reply.chunked else piece)
            self.script.stopped.wait(reply.trickle)
        if reply.stall is not None:
            self.script.stopped.wait(HANG_SECONDS)
        elif reply.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            self.connection.close()
        elif reply.chunked and reply.cut is None:
            self.wfile.write(b'0\r\n\r\n')

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(port: int = 0, **replies: Reply | bytes) -> Iterator[Server]:
    """Run a server that gives these from the beginning, at a free port if none is named."""
    handler = type('ScriptedHandler', (Handler,), {})
    with ThreadingHTTPServer(('127.0.0.1', port), handler) as http:
        http.daemon_threads = False
        script = handler.script = Server(http.server_port)
        for name, reply in replies.items():
            script.give(name, reply)
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield script
        finally:
            script.stopped.set()
            http.shutdown()
            thread.join()


def free_port() -> int:
    """Return a port at which nobody answers."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port: int = free.getsockname()[1]
    return port
