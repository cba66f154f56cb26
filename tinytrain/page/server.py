# SPDX-License-Identifier: Apache-2.0
"""The server of `tinytrain open`: the page, and a socket to each project's device, for one browser on this computer.

It listens on 127.0.0.1 only; the address has a random token in it, a request must name this very host, and a socket must be opened by the
page itself: other pages get nothing, nor do other users of this computer who do not know the address.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tinytrain.errors import OutputError, TinytrainError, ToolError
from tinytrain.page.writer import page_html
from tinytrain.report.page import project_json

try:
    from tornado.httpserver import HTTPServer
    from tornado.netutil import bind_sockets
    from tornado.web import Application, RequestHandler
    from tornado.websocket import WebSocketClosedError, WebSocketHandler
except ImportError:
    raise ToolError("`tinytrain open` needs tornado, which is not installed.", hint='Install it: pip install "tinytrain[page]".') from None

if TYPE_CHECKING:
    from tinytrain.device.link import Transport
    from tinytrain.device.project import Project

HOST = "127.0.0.1"
_TOKEN = "[A-Za-z0-9_-]+"
_POLL_SECONDS = 0.2                                       # how long a closed socket's device is still read
_WRITE_SECONDS = 30.0
_FAILED = 1011                                            # of RFC 6455: the server met a condition that it did not expect


def serve(projects: Sequence[Project], port: int, opened: Callable[[str], object], sweep: Path | None = None) -> None:
    """Serve until interrupted; `opened` is told the page's address once it is there. `port` 0: any that is free.

    Raises OutputError where the port is taken, and what making the page raises.
    """
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(projects, port, opened, sweep))


async def _serve(projects: Sequence[Project], port: int, opened: Callable[[str], object], sweep: Path | None) -> None:
    try:
        sockets = bind_sockets(port, HOST)
    except OSError as error:
        message = f"Port {port} of this computer cannot be listened on: {error.strerror}."
        raise OutputError(message, hint="Leave --at out: any free port is taken then.") from error
    host = f"{HOST}:{sockets[0].getsockname()[1]}"
    token = secrets.token_urlsafe(24)
    addresses = [f"ws://{host}/{token}/device/{index}" for index in range(len(projects))]
    html = page_html(project_json(projects, sweep=sweep, addresses=addresses), socket=f"ws://{host}")
    common = {"host": host, "token": token}
    server = HTTPServer(Application([
        (rf"/({_TOKEN})/", _Page, {**common, "html": html}),
        (rf"/({_TOKEN})/device/([0-9]{{1,9}})", _Device, {**common, "projects": projects, "busy": set()}),
    ], log_function=lambda handler: None), max_body_size=0)
    server.add_sockets(sockets)
    opened(f"http://{host}/{token}/")
    await asyncio.Event().wait()


class _Guarded(RequestHandler):
    """Answers who knows the token and asks for this host by its number: a name of another site that leads here is not enough."""

    def initialize(self, host: str, token: str) -> None:
        self.host, self.token = host, token

    def prepare(self) -> None:
        if self.request.host != self.host:
            self.send_error(403)
        elif not hmac.compare_digest(self.path_args[0], self.token):
            self.send_error(404)

    def set_default_headers(self) -> None:
        for name, value in {
            "Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "frame-ancestors 'none'", "Cross-Origin-Resource-Policy": "same-origin",
        }.items():
            self.set_header(name, value)
        self.clear_header("Server")


class _Page(_Guarded):
    def initialize(self, html: str, **common: str) -> None:  # type: ignore[override]
        super().initialize(**common)
        self.html = html

    def get(self, token: str) -> None:
        self.finish(self.html)


class _Device(_Guarded, WebSocketHandler):
    """A project's device: its bytes in binary messages, for one page at a time; an error is a text message, then the end."""

    def initialize(self, projects: Sequence[Project], busy: set[int], **common: str) -> None:  # type: ignore[override]
        super().initialize(**common)
        self.projects, self.busy = projects, busy
        self.index: int | None = None
        self.transport: Transport | None = None
        self.writer = ThreadPoolExecutor(1)               # one after another, in order
        self.reader = ThreadPoolExecutor(1)

    def check_origin(self, origin: str) -> bool:
        return origin == f"http://{self.host}"

    async def open(self, *args: str, **more: str) -> None:
        index = int(args[1])
        if index >= len(self.projects):
            self._fail("There is no such project here.")
        elif index in self.busy:
            self._fail(f"{self.projects[index].device_name} is in use by another page.")
        else:
            self.busy.add(index)
            self.index = index
            asyncio.get_running_loop().run_in_executor(self.writer, self._start, asyncio.get_running_loop(), self.projects[index])

    async def on_message(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            asyncio.get_running_loop().run_in_executor(self.writer, self._write, asyncio.get_running_loop(), message)

    def on_close(self) -> None:
        loop = asyncio.get_running_loop()

        def end() -> None:
            self.reader.shutdown()                        # first: a port that closes below it looks unplugged, and is opened again
            if self.transport is not None:
                self.transport.close()
            if self.index is not None:
                loop.call_soon_threadsafe(self.busy.discard, self.index)

        self.writer.submit(end)
        self.writer.shutdown(wait=False)

    def _start(self, loop: asyncio.AbstractEventLoop, project: Project) -> None:
        try:
            self.transport = project.transport()
        except TinytrainError as error:
            loop.call_soon_threadsafe(self._fail, str(error))
        else:
            self.reader.submit(self._read, loop, self.transport)

    def _write(self, loop: asyncio.AbstractEventLoop, data: bytes) -> None:
        try:
            if self.transport is not None:
                self.transport.write(data, time.monotonic() + _WRITE_SECONDS)
        except TinytrainError as error:
            loop.call_soon_threadsafe(self._fail, str(error))

    def _read(self, loop: asyncio.AbstractEventLoop, transport: Transport) -> None:
        try:
            while self.ws_connection is not None:
                if data := transport.read(time.monotonic() + _POLL_SECONDS):
                    loop.call_soon_threadsafe(self._send, data)
        except (TinytrainError, OSError, ValueError) as error:
            loop.call_soon_threadsafe(self._fail, str(error))

    def _send(self, data: str | bytes) -> None:
        with contextlib.suppress(WebSocketClosedError):
            self.write_message(data, binary=isinstance(data, bytes))

    def _fail(self, sentence: str) -> None:
        self._send(sentence)
        self.close(_FAILED)
