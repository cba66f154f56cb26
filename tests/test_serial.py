# SPDX-License-Identifier: Apache-2.0
"""Real ports: `--port` over a pseudo-terminal and a socket with the host twin behind it, `monitor`, and ports that do not open."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_runs import run, save_data, save_model, sentence, succeed

pytest.importorskip("serial", reason="needs pyserial")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serial")
    save_data(folder / "d.npz", count=6)
    succeed("compile", save_model(folder), "-o", folder / "out")
    return folder / "out"


def pump(get: int, put: int) -> None:
    try:
        while data := os.read(get, 4096):
            while data:
                data = data[os.write(put, data) :]
    except OSError:
        pass                                              # one of both ends has gone


@contextmanager
def twin_on(give: int, take: int, project: Path) -> Iterator[None]:
    """The host twin at the other end of a line that is these two file descriptors."""
    [elf] = (project / "build").glob("*.elf")
    with subprocess.Popen([str(elf)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as twin:
        assert twin.stdin is not None
        assert twin.stdout is not None
        for ends in ((take, twin.stdin.fileno()), (twin.stdout.fileno(), give)):
            threading.Thread(target=pump, args=ends, daemon=True).start()
        try:
            yield
        finally:
            twin.kill()


@pytest.fixture
def port(project: Path) -> Iterator[str]:
    master, slave = os.openpty()
    with twin_on(master, master, project):
        yield os.ttyname(slave)
    os.close(slave)
    os.close(master)


def test_train_over_a_port_learns_what_the_twin_learns(project: Path, port: str) -> None:
    data = project.parent / "d.npz"
    succeed("train", project, "--data", data, "--epochs", 2, "--force")
    before = (project / "learned.onnx").read_bytes()
    assert "loss" in succeed("train", project, "--data", data, "--epochs", 2, "--force", "--port", port)
    assert (project / "learned.onnx").read_bytes() == before
    assert "accuracy" in succeed("infer", project, "--data", data, "--port", port)


def test_monitor_says_who_is_there(project: Path, port: str) -> None:
    out = succeed("monitor", port, "--seconds", 0.3)
    assert "model " in out
    assert "on host" in out
    assert "counters   0 calls" in out


def test_a_socket_is_a_port(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]

        def serve() -> None:
            line, _ = server.accept()
            with line, twin_on(line.fileno(), line.fileno(), project):
                done.wait(300)

        done = threading.Event()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        data = project.parent / "d.npz"
        assert "accuracy" in succeed("infer", project, "--data", data, "--port", f"socket://127.0.0.1:{number}")
        done.set()
        thread.join(60)


def test_ports_that_do_not_open(project: Path, port: str, tmp_path: Path) -> None:
    data = project.parent / "d.npz"
    missing = sentence("infer", project, "--data", data, "--port", "/dev/ttyNOWHERE")
    assert "There is no port /dev/ttyNOWHERE.\n`tinytrain ports` lists what there is." in missing
    (tmp_path / "file").write_text("")
    assert "does not open" in sentence("infer", project, "--data", data, "--port", tmp_path / "file")
    assert "is no serial port" in sentence("infer", project, "--data", data, "--port", "nonsense://x")
    assert "socket://here does not say where; expected socket://HOST:PORT." in sentence("monitor", "socket://here")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"socket://127.0.0.1:{closed.getsockname()[1]}"
    assert f"{url} does not open: Connection refused.\n" in sentence("monitor", url)
    from tinytrain.device.serial import SerialTransport

    mine = SerialTransport(port, 115200)
    try:
        assert "is in use by another program.\nEnd it: a port has one user" in sentence("infer", project, "--data", data, "--port", port)
    finally:
        mine.close()


def test_a_port_that_goes_while_bytes_leave_it(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal driver's own error, which is no OSError; the port is there again at once."""
    from tinytrain.device.serial import SerialTransport

    def gone() -> None:
        raise termios.error(errno.EIO, "Input/output error")

    transport = SerialTransport(port, 115200)
    before = transport._line
    monkeypatch.setattr(before, "flush", gone)
    transport.write(b"\0", time.monotonic() + 300)
    assert transport._line is not before
    transport.close()


def test_a_silent_port(project: Path) -> None:
    master, slave = os.openpty()
    try:
        said = sentence("train", project, "--data", project.parent / "d.npz", "--force", "--port", os.ttyname(slave), "--timeout", 0.5)
        assert "did not answer hello within 0.5 s" in said
    finally:
        os.close(slave)
        os.close(master)


def test_a_board_with_another_model(project: Path, port: str, tmp_path: Path) -> None:
    from tinytrain import zoo

    (tmp_path / "other.onnx").write_bytes(zoo.model("mlp", 5).SerializeToString())
    succeed("compile", tmp_path / "other.onnx", "-o", tmp_path / "other", "--no-build")
    said = sentence("train", tmp_path / "other", "--data", project.parent / "d.npz", "--port", port)
    assert "was made from another model than the manifest of its project says.\nCompile the model again, and flash it." in said


def test_list_of_ports() -> None:
    assert run("ports").exit_code == 0
