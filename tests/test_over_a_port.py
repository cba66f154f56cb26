# SPDX-License-Identifier: Apache-2.0
"""A board on a port, which keeps what it learns: weights in and out, measured and kept; and what can be wrong with a port."""

from __future__ import annotations

import shlex
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cli_runs import save_data, save_model, sentence, succeed, tree
from fake_firmware import need_tools
from pages import blocks
from tcp_port import TcpPort, board_on_a_port, port_of, twin_on_a_port

from tinytrain.device import serial
from tinytrain.device.packets import pack_frame
from tinytrain.device.project import Project
from tinytrain.device.session import Session
from tinytrain.errors import DeviceError
from tinytrain.target.board import load_board

pytest.importorskip("serial", reason="needs pyserial")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("port")
    save_data(folder / "d.npz", count=20)
    succeed("compile", save_model(folder), "-o", folder / "out")
    succeed("train", folder / "out", "--data", folder / "d.npz", "--epochs", 2)
    return folder / "out"


@pytest.fixture
def port(project: Path) -> Iterator[TcpPort]:
    with twin_on_a_port(Project.open(project).elf()) as port:
        yield port


def weights(project: Path, port: TcpPort) -> dict[str, bytes]:
    """What the device has."""
    with Project.open(project, port=port.url).session() as session:
        return {name: array.tobytes() for name, array in session.get_params().items()}


def test_weights_go_in_and_out(project: Path, port: TcpPort, tmp_path: Path) -> None:
    """Each command finds what the one before has left in the device."""
    at, data = ("--port", port.url), project.parent / "d.npz"
    compiled, learned = succeed("evaluate", project, "--data", data, *at), (project / "learned.onnx").read_bytes()
    assert "numbers changed on the device" in succeed("push", project, project / "learned.npz", *at)
    measured = succeed("evaluate", project, "--data", data, *at)
    assert measured == succeed("evaluate", project, "--data", data, "--learned") != compiled
    assert "\nloss       " in measured and "\naccuracy   " in measured
    succeed("pull", project, "-o", tmp_path / "w.onnx", *at)
    assert (tmp_path / "w.onnx").read_bytes() == learned
    succeed("pull", project, "--delta", "-o", tmp_path / "d", *at)
    with Project.open(project, port=port.url).session() as session:
        session.reset()
    assert succeed("evaluate", project, "--data", data, *at) == compiled
    succeed("push", project, tmp_path / "d", *at)
    assert succeed("evaluate", project, "--data", data, *at) == measured
    assert (project / "learned.onnx").read_bytes() == learned


def test_the_page_of_the_link_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of its commands that speak to the only board there is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINYTRAIN_FLASH", str(tmp_path / "flash.bin"))
    for name in ("data.npz", "test.npz"):
        save_data(tmp_path / name, count=20)
    succeed("compile", save_model(tmp_path), "--store", "1000", "-o", "out")
    (page,) = [block.text for block in blocks("docs/link.md") if block.language == "bash"]
    commands = [shlex.split(line, comments=True) for line in page.splitlines() if "--port auto" in line]
    with twin_on_a_port(Project.open(tmp_path / "out").elf()) as port:
        for _, *words in commands:
            succeed(*(port.url if word == "auto" else word for word in words))
    assert [words[1] for words in commands] == ["train", "evaluate", "pull", "store", "stats"]
    assert (tmp_path / "flash.bin").stat().st_size and (tmp_path / "learned.onnx").is_file()


def test_a_board_saves_and_loads(tmp_path: Path) -> None:
    """Over its port, into flash that outlives the emulator."""
    board = load_board("riscv-virt")
    need_tools(board)
    out, data = tmp_path / "out", save_data(tmp_path / "d.npz", count=6)
    succeed("compile", save_model(tmp_path), "--board", board.name, "--store", "1000", "-o", out)
    project = Project.open(out)
    assert project.board.store is not None
    kept = project.board.store.kept_in(tmp_path / "flash.img", project.elf())
    with board_on_a_port(project.elf(), board, kept) as port:
        assert "its flash has no weights of this model" in sentence("store", out, "load", "--port", port.url)
        succeed("train", out, "--data", data, "--holdout", 0, "--port", port.url)
        assert "save 1 counts" in succeed("stats", out, "--port", port.url)              # train saves what it has learned
        assert succeed("store", out, "save", "--port", port.url).startswith("samples    6 trained\nflash      save 2 counts;")
        assert "samples    6 trained, 0 skipped" in succeed("stats", out, "--port", port.url)
        learned = weights(out, port)
    with board_on_a_port(project.elf(), board, kept) as port:
        assert weights(out, port) == learned
        assert "save 3 counts" in succeed("store", out, "factory-reset", "--port", port.url)
        assert weights(out, port) != learned
    assert "store save is for a real board, whose flash keeps it; expected --port" in sentence("store", out, "save")


def test_nothing_is_written_into_a_board_with_another_model(project: Path, port: TcpPort, tmp_path: Path) -> None:
    from tinytrain import zoo

    (tmp_path / "other.onnx").write_bytes(zoo.model("mlp", 5).SerializeToString())
    other = tmp_path / "other"
    succeed("compile", tmp_path / "other.onnx", "-o", other)
    succeed("pull", other, "-o", tmp_path / "w.npz")
    before, files = weights(project, port), tree(other)
    for command in (("push", tmp_path / "w.npz"), ("train", "--data", project.parent / "d.npz"), ("store", "save"),
                    ("pull", "-o", tmp_path / "x.npz"), ("evaluate", "--data", project.parent / "d.npz")):
        said = sentence(command[0], other, *command[1:], "--port", port.url)
        assert f"The firmware on the board on {port.url} was made from another model than the manifest of its project says." in said
    assert weights(project, port) == before
    assert tree(other) == files and not (tmp_path / "x.npz").exists()


def test_a_device_with_an_older_protocol(project: Path) -> None:
    """It answers each frame as versions 1 and 2 did what they did not know."""
    ours, its = socket.socketpair()

    def answer() -> None:
        while its.recv(1 << 16):
            its.sendall(pack_frame(b"\0\5\0\0"))

    threading.Thread(target=answer, daemon=True).start()
    with its, port_of(ours) as port:
        said = sentence("push", project, project / "learned.npz", "--port", port.url)
    assert "speaks an older version of the link protocol, expected 3.\nCompile the project again" in said


def test_a_second_host_on_the_same_port(project: Path, port: TcpPort) -> None:
    """Who greeted last has the device; the first one is told, and what it sends changes nothing."""
    with Project.open(project, port=port.url).session() as first, Project.open(project, port=port.url).session() as second:
        before = second.get_params()
        with pytest.raises(DeviceError, match="talks to another program now, which has greeted it later"):
            first.set_params({name: np.zeros_like(array) for name, array in before.items()})
        assert {n: a.tobytes() for n, a in second.get_params().items()} == {n: a.tobytes() for n, a in before.items()}


def test_a_port_that_vanishes_while_training(project: Path, port: TcpPort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the epochs before have learned is on disk, and --resume goes on from there, with the bits of a training that nobody stopped."""
    monkeypatch.setattr(serial, "_REOPEN_SECONDS", 0.5)
    data = project.parent / "d.npz"
    step, count = Session.train_step, 0

    def until_it_goes(session: Session, *sample: object) -> object:
        nonlocal count
        count += 1
        if count == 30:                                   # in the second epoch of 18 samples
            port.vanish()
        return step(session, *sample)                     # type: ignore[arg-type]

    succeed("train", project, "--data", data, "--epochs", 3, "--force")
    whole = (project / "learned.onnx").read_bytes()
    with monkeypatch.context() as while_training:
        while_training.setattr(Session, "train_step", until_it_goes)
        said = sentence("train", project, "--data", data, "--epochs", 3, "--force", "--port", port.url)
    assert f"{port.url} has vanished, and did not come back within 0.5 s.\nPlug the board in again, and give the same command; " in said
    with twin_on_a_port(Project.open(project).elf()) as again:
        assert "epoch 2/3" in succeed("train", project, "--data", data, "--epochs", 3, "--resume", "--port", again.url)
    assert (project / "learned.onnx").read_bytes() == whole


def test_without_pyserial(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)
    for command in (("ports",), ("monitor", "/dev/ttyACM0"), ("pull", project, "-o", project / "x.npz", "--port", "/dev/ttyACM0")):
        assert "Serial ports need pyserial, which is not installed.\nInstall it: pip install \"tinytrain[flash]\"" in sentence(*command)
