# SPDX-License-Identifier: Apache-2.0
"""A board in QEMU at the end of a line that loses or damages 30 % of the bytes, in real time: it learns the bits of a clean line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cli_runs import save_text, succeed
from fake_firmware import need_tools
from tcp_port import TcpPort, board_on_a_port

from tinytrain.device.project import Project
from tinytrain.target.board import load_board

pytest.importorskip("serial", reason="needs pyserial")

BOARD = "mps2-an386"
PROGRESS_SECONDS = 300                                    # in which one packet, at least, must get through: no limit of the whole


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small layer, and samples beside it: at 30 % a step takes about two seconds."""
    need_tools(load_board(BOARD))
    folder, rng = tmp_path_factory.mktemp("lossy"), np.random.default_rng(0)
    weights = {"w": rng.normal(size=(3, 4)).astype(np.float32), "b": np.zeros(3, np.float32)}
    model = save_text(folder / "small.onnx", "g (float[1,4] x) => (float[1,3] y) { y = Gemm<transB=1>(x, w, b) }", **weights)
    np.savez(folder / "d.npz", x=rng.normal(size=(6, 4)).astype(np.float32), y=rng.integers(0, 3, 6))
    succeed("compile", model, "--board", BOARD, "--lr", "0.1", "-o", folder / "out")
    return folder / "out"


@pytest.fixture
def port(out: Path) -> Iterator[TcpPort]:
    with board_on_a_port(Project.open(out).elf(), load_board(BOARD)) as port:
        yield port


def test_steps_on_a_line_that_goes_bad(out: Path, port: TcpPort) -> None:
    """It was good when the session was opened; weights are read while it is bad."""
    data = np.load(out.parent / "d.npz")
    with Project.open(out, port=port.url).session(timeout=PROGRESS_SECONDS) as session, Project.open(out).session() as clean:
        port.damage(0.15, 0.15)
        for x, y in zip(data["x"][:2], data["y"], strict=False):
            assert session.train_step(x, y).loss == clean.train_step(x, y).loss
        learned = clean.get_params()
        for name, array in session.get_params().items():
            np.testing.assert_array_equal(array, learned[name])
        assert session.link.counts.silences > 10


@pytest.mark.long
@pytest.mark.parametrize(("lost", "flipped"), [(0.3, 0.0), (0.15, 0.15), (0.0, 0.3)])
def test_a_training_on_a_bad_line(lost: float, flipped: float, out: Path, port: TcpPort) -> None:
    """From hello to the last weight, as a user starts it."""
    train = ("train", out, "--data", out.parent / "d.npz", "--epochs", 2, "--holdout", 0, "--force", "--timeout", PROGRESS_SECONDS)
    succeed(*train)
    clean = (out / "learned.onnx").read_bytes()
    (out / "learned.onnx").unlink()
    port.damage(lost, flipped)
    succeed(*train, "--port", port.url)
    assert (out / "learned.onnx").read_bytes() == clean
