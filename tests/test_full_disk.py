# SPDX-License-Identifier: Apache-2.0
"""Where nothing more can be written: one sentence, exit code 2, nothing half-written, earlier results kept. And how a program ends."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_runs import run, save_data, save_model, sentence, succeed, tree
from numpy_device import made, on_numpy

from tinytrain.cli.main import main
from tinytrain.errors import ToolError


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Any write beyond that many bytes of a file fails in the operating system, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def refused(folder: Path, size: int, *arguments: object) -> str:
    """The message of a call that finds room for files of that size only, and leaves the folder as it was."""
    before = tree(folder)
    with files_of_at_most(size):
        result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert tree(folder) == before
    assert result.stderr.startswith("tinytrain: ") and len(result.stderr.splitlines()) == 2, result.stderr
    return result.stderr


@pytest.mark.parametrize("size", [0, 500, 3000, 6000, 12_000])
def test_compile(size: int, tmp_path: Path) -> None:
    """Text, ONNX and NumPy files, whichever is the first that has no room; what --force was to replace stays."""
    call = ("compile", save_model(tmp_path), "--no-build", "-o", tmp_path / "out")
    assert f"{tmp_path / 'out'} cannot be written: File too large; nothing was written." in refused(tmp_path, size, *call)
    succeed(*call)
    assert "nothing was written." in refused(tmp_path, size, *call, "--force")


def test_a_build_that_fails_leaves_the_earlier_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise ToolError("Building mlp failed:\nNo space left on device", hint="x")

    call = ("compile", save_model(tmp_path), "-o", tmp_path / "out")
    succeed(*call, "--no-build")
    before = tree(tmp_path)
    monkeypatch.setattr("tinytrain.target.build.build_apart", full)
    assert "No space left on device" in sentence(*call, "--force")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("write", range(3))
def test_train(write: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the three files of an epoch in turn; with room again, --resume makes good what is missing."""
    compiled, out, data = made(save_model(tmp_path), tmp_path / "out"), tmp_path / "out", save_data(tmp_path / "d.npz", count=10)
    on_numpy(monkeypatch, compiled)
    call = ("train", out, "--data", data, "--resume", "--epochs")
    succeed(*call, 1)
    replace, done = os.replace, []

    def full(source: str, target: Path) -> None:
        done.append(target.name)
        if len(done) == 4 + write:                        # three to bring everything up to date, then those of the epoch
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    name = ("learned.npz", "learned.onnx", "history.json")[write]
    assert f"{out / name} cannot be written: No space left on device." in sentence(*call, 2)
    assert not [path.name for path in out.iterdir() if path.name.startswith(".") or path.name.startswith("tmp")]
    monkeypatch.setattr(os, "replace", replace)
    assert ("epoch 2/2" in succeed(*call, 2)) == (write == 0)
    assert "3 epochs already" not in succeed(*call, 3)


def test_everything_else_that_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = save_model(tmp_path), save_data(tmp_path / "d.npz", count=10)
    on_numpy(monkeypatch, made(model, tmp_path / "out"))
    for first, call in (                                  # an int8 model is written to a temporary folder first, under its own name
        ("y.npz", ("infer", tmp_path / "out", "--data", data, "-o", tmp_path / "y.npz")),
        ("mlp.onnx", ("quantize", model, "--data", data, "-o", tmp_path / "q.onnx")),
        ("s.toml", ("scheme", "write", model, "-o", tmp_path / "s.toml")), ("m.onnx", ("model", "cnn", "-o", tmp_path / "m.onnx")),
    ):
        text = refused(tmp_path, 100, *call)
        assert f"/{first} cannot be written: File too large.\nCheck the path, its permissions and the space left." in text


def test_errors_of_the_system_that_name_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tinytrain.report.text.boards_text", full)
    assert sentence("boards") == "tinytrain: No space left on device.\nCheck the path, its permissions and the space left.\n"


def test_a_fault_of_ours_is_said_and_seen_by_tests(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> str:
        raise KeyError("x")

    monkeypatch.setattr("tinytrain.report.text.boards_text", broken)
    with pytest.raises(KeyError):
        run("boards")
    monkeypatch.setattr(sys, "argv", ["tinytrain", "boards"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 70
    said = "tinytrain: this is a fault of tinytrain (KeyError: 'x').\nPlease report it; --debug shows the traceback.\n"
    assert capsys.readouterr().err == said
    monkeypatch.setattr(sys, "argv", ["tinytrain", "--debug", "boards"])
    with pytest.raises(KeyError):
        main()


def test_nobody_reads_on() -> None:
    """`tinytrain ops | head`: quiet."""
    with subprocess.Popen(
        [sys.executable, "-c", "from tinytrain.cli.main import main; main()", "ops"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_answer_that_has_no_room() -> None:
    """`tinytrain boards > file` on a full disk is no fault of ours."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", "from tinytrain.cli.main import main; main()", "boards"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=600, check=False)
    assert done.returncode == 2 and done.stderr.startswith("tinytrain: No space left on device.\nCheck the path"), done.stderr
