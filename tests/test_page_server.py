# SPDX-License-Identifier: Apache-2.0
"""`tinytrain open`: only this computer, only with the token, only the page itself; and its socket carries what a port would."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import save_model, sentence, succeed
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from tinytrain.device.project import Project
from tinytrain.device.session import connect

WAIT_SECONDS = 120


def heard() -> None:
    """Ctrl-C, by the program to be: what a shell runs in the background is born deaf to it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupt(server: subprocess.Popen[str]) -> str | None:
    """What it says of Ctrl-C on standard error."""
    server.send_signal(signal.SIGINT)
    try:
        return server.communicate(timeout=WAIT_SECONDS)[1]
    except subprocess.TimeoutExpired:
        server.kill()                                     # leaving `with` waits for it
        raise


@contextlib.contextmanager
def served(*arguments: object) -> Iterator[tuple[str, str]]:
    """(127.0.0.1:port, token) of `tinytrain open ARGUMENTS`, which must end by Ctrl-C without a word."""
    code = "from tinytrain.cli.main import main; main()"
    command = [sys.executable, "-c", code, "open", *map(str, arguments), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard) as server:
        try:
            assert server.stdout is not None
            found = re.match(r"page       http://(127\.0\.0\.1:\d+)/([\w-]{32})/\n", line := server.stdout.readline())
            assert found, line
            yield found[1], found[2]
        finally:
            said = interrupt(server)
        assert (server.returncode, said) == (0, "")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    succeed("compile", save_model(folder), "--scheme", "last:1", "-o", folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[tuple[str, str]]:
    with served(project) as found:
        yield found


@pytest.mark.parametrize(("option", "lines", "said"), [
    ("--json", 4, r'{"schema": "tinytrain/served/1", "address": "http://127\.0\.0\.1:\d+/[\w-]+/"}'),
    ("--quiet", 1, r"page http://127\.0\.0\.1:\d+/[\w-]+/"),
])
def test_the_address_is_said_at_once_to_programs_too(project: Path, option: str, lines: int, said: str) -> None:
    command = [sys.executable, "-m", "tinytrain", "open", str(project), "--no-browser", option]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heard) as server:
        assert server.stdout is not None
        found = " ".join("".join(server.stdout.readline() for _ in range(lines)).split())
        interrupt(server)
    assert server.returncode == 0
    assert re.fullmatch(said, found.replace("{ ", "{").replace(" }", "}")), found


def get(host: str, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, timeout=WAIT_SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_the_page_is_there_for_who_knows_the_token(server: tuple[str, str]) -> None:
    host, token = server
    status, page = get(host, f"/{token}/")
    assert status == 200 and f'"address":"ws://{host}/{token}/device/0"' in page and '"name":"the host twin"' in page


@pytest.mark.parametrize("path", ["/", "/x/", "/{token}x/", "/{token}", "/{token}/other", "/favicon.ico"])
def test_nothing_else_is_there(server: tuple[str, str], path: str) -> None:
    host, token = server
    status, page = get(host, path.format(token=token))
    assert status == 404 and token not in page


@pytest.mark.parametrize(("request_line", "status"), [
    (b"GET /\xe9/ HTTP/1.1", 404), (b"GET /\xe9/device/0 HTTP/1.1", 404), (b"POST /x/ HTTP/1.1\r\nContent-Length: 50000000", 400),
])
def test_requests_that_no_page_makes(server: tuple[str, str], request_line: bytes, status: int) -> None:
    """Letters that no token has, and bodies, which nobody waits for: refused, and nothing is said of it (`served`)."""
    host, _ = server
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port)), WAIT_SECONDS) as line:
        line.sendall(request_line + b"\r\nHost: " + host.encode() + b"\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize("name", ["localhost:{port}", "evil.example:{port}", "127.0.0.1"])
def test_a_host_of_another_name_gets_nothing(server: tuple[str, str], name: str) -> None:
    """A site may have its name lead to 127.0.0.1: its pages would then be of one origin with ours."""
    host, token = server
    status, page = get(host, f"/{token}/", Host=name.format(port=host.partition(":")[2]))
    assert status == 403 and token not in page


class Socket:
    """The page's end of a socket, as a transport."""

    name, doubt = "the socket", ""

    def __init__(self, host: str, token: str, origin: str | None = None, index: int = 0) -> None:
        self._loop = asyncio.new_event_loop()
        headers = {"Origin": origin or f"http://{host}"}
        request = HTTPRequest(f"ws://{host}/{token}/device/{index}", headers=headers, request_timeout=WAIT_SECONDS)

        async def opened() -> Any:
            return await websocket_connect(request)

        try:
            self._line = self._loop.run_until_complete(opened())
        except BaseException:
            self._loop.close()
            raise

    def write(self, data: bytes, deadline: float) -> None:
        async def written() -> None:
            await self._line.write_message(data, binary=True)

        self._loop.run_until_complete(written())

    def message(self, seconds: float = WAIT_SECONDS) -> Any:
        async def read() -> Any:
            return await asyncio.wait_for(asyncio.shield(self._next), seconds)

        async def begin() -> Any:
            return asyncio.ensure_future(self._line.read_message())

        if not hasattr(self, "_next"):
            self._next = self._loop.run_until_complete(begin())
        found = self._loop.run_until_complete(read())
        del self._next
        return found

    def read(self, deadline: float) -> bytes:
        try:
            return bytes(self.message(max(0.001, deadline - time.monotonic())))
        except asyncio.TimeoutError:
            return b""

    def close(self) -> None:
        self._line.close()
        with contextlib.suppress(asyncio.TimeoutError):
            while self.message(5) is not None:
                pass
        self._loop.close()


def test_the_socket_carries_the_link_with_the_same_bits(server: tuple[str, str], project: Path) -> None:
    opened = Project.open(project)
    x, y = np.linspace(-1, 1, 64, dtype=np.float32), 3

    def losses(session: Any) -> list[float]:
        with session:
            return [session.train_step(x, y).loss for _ in range(3)]

    there = losses(connect(Socket(*server), opened.board, opened.manifest))
    assert there == losses(opened.session()) and there[0] > there[-1]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "https://127.0.0.1"])
def test_other_pages_get_no_socket(server: tuple[str, str], origin: str) -> None:
    with pytest.raises(HTTPClientError) as refused:
        Socket(*server, origin=origin)
    assert refused.value.code == 403


def test_a_socket_without_the_token(server: tuple[str, str]) -> None:
    with pytest.raises(HTTPClientError) as refused:
        Socket(server[0], "x" * 32)
    assert refused.value.code == 404


def test_one_page_at_a_time_and_no_other_project(server: tuple[str, str]) -> None:
    first = Socket(*server)
    second, third = Socket(*server), Socket(*server, index=1)
    assert second.message() == "the host twin is in use by another page."
    assert third.message() == "There is no such project here."
    assert second.message() is None
    for one in (first, second, third):
        one.close()


def test_it_ends_while_a_page_is_connected(project: Path) -> None:
    with served(project) as found:
        session = connect(Socket(*found), Project.open(project).board, Project.open(project).manifest)
        assert session.train_step(np.zeros(64, np.float32), 1).loss > 0


def test_a_port_that_does_not_open_says_why(project: Path) -> None:
    with served(project, "--port", "/dev/no-such-port") as found:
        socket = Socket(*found)
        assert str(socket.message()).startswith("There is no port /dev/no-such-port.")
        socket.close()


def test_a_port_of_this_computer_that_is_taken(server: tuple[str, str], project: Path) -> None:
    said = sentence("open", project, "--no-browser", "--at", server[0].partition(":")[2])
    assert "cannot be listened on: Address already in use." in said and "Leave --at out" in said


def test_a_serial_port_belongs_to_one_project(project: Path) -> None:
    assert "--port is the board of one project; 2 are given." in sentence("open", project, project, "--port", "auto")
