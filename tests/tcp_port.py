# SPDX-License-Identifier: Apache-2.0
"""A device behind a TCP port, as behind a serial server: what `--port socket://HOST:PORT` reaches. Its line may be a bad one."""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from line_device import Damage

from tinytrain.device.process import ProcessTransport
from tinytrain.device.qemu import qemu_command
from tinytrain.target.board import Board

_SECONDS = 300                                            # for an emulator to start, and for a thread to end, on a busy computer
_LOCAL = ("127.0.0.1", 0)


class TcpPort:
    """Hosts come and go; all that are there hear what the device says. `device` is the other end of its serial port."""

    def __init__(self, device: socket.socket) -> None:
        self._device, self._hosts = device, list[socket.socket]()
        self._server = socket.create_server(_LOCAL)
        self._wake, self._woken = socket.socketpair()
        self._from_hosts = self._from_device = Damage()
        self.url = f"socket://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def damage(self, lost: float = 0.0, flipped: float = 0.0) -> None:
        """From now on these parts of the bytes, of both directions."""
        self._from_hosts, self._from_device = Damage(lost, flipped, seed=1), Damage(lost, flipped, seed=2)

    def vanish(self) -> None:
        """As if somebody pulled the cable: hosts are cut off, and the port does not open any more. The device runs on."""
        self._wake.close()
        self._thread.join(_SECONDS)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        with self._server, self._woken, contextlib.ExitStack() as hosts:
            while True:
                ready, _, _ = select.select([self._woken, self._server, self._device, *self._hosts], [], [])
                if self._woken in ready:
                    return
                if self._server in ready:
                    host = hosts.enter_context(self._server.accept()[0])
                    host.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)    # an answer comes byte by byte
                    self._hosts.append(host)
                for host in [host for host in self._hosts if host in ready]:
                    if data := _received(host):
                        self._device.sendall(self._from_hosts.of(data))
                    else:
                        self._hosts.remove(host)
                if self._device in ready:
                    if not (data := _received(self._device)):
                        return
                    for host in self._hosts:
                        with contextlib.suppress(OSError):        # it has just gone
                            host.sendall(self._from_device.of(data))


def _received(end: socket.socket) -> bytes:
    """b"" where the other side has gone."""
    try:
        return end.recv(1 << 16)
    except OSError:
        return b""


@contextmanager
def port_of(device: socket.socket) -> Iterator[TcpPort]:
    with device:
        port = TcpPort(device)
        try:
            yield port
        finally:
            port.vanish()


@contextmanager
def twin_on_a_port(program: Path) -> Iterator[TcpPort]:
    """The host twin, which keeps what it learns from one session to the next, as a board does."""
    device, own = socket.socketpair()
    with subprocess.Popen([str(program)], stdin=own, stdout=own) as twin:
        own.close()
        try:
            with port_of(device) as port:
                yield port
        finally:
            twin.kill()


@contextmanager
def board_on_a_port(elf: Path | None, board: Board, more: Sequence[str] = ()) -> Iterator[TcpPort]:
    """The board in QEMU, whose serial port is a socket; empty without `elf`."""
    with socket.create_server(_LOCAL) as server:
        server.settimeout(_SECONDS)
        line = f"socket,host=127.0.0.1,port={server.getsockname()[1]},nodelay=on"
        with closing(ProcessTransport("QEMU", qemu_command(elf, board, more=more, line=line))):
            device, _ = server.accept()
            with port_of(device) as port:
                yield port
