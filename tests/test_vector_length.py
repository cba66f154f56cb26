# SPDX-License-Identifier: Apache-2.0
"""Firmware of riscv-virt-zvfh is built once for vector registers of any length from 128 bits on, and gives the same bits with each."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from cli_runs import save_text
from kernel_runs import until_dot
from test_simd import words_elf
from test_traces import need

from tinytrain.compiler import Compiled, Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.device.qemu import qemu_command
from tinytrain.device.session import start
from tinytrain.emit.golden import golden_vectors
from tinytrain.gradient.update import Optimiser
from tinytrain.target.board import Board, load_board

NAME = "riscv-virt-zvfh"


def boards() -> list[Board]:
    """The board with registers of 128, 256 and 512 bits."""
    board = load_board(NAME)
    assert any("vlen=128," in part for part in board.machine)
    machines = [tuple(part.replace("vlen=128,", f"vlen={bits},") for part in board.machine) for bits in (128, 256, 512)]
    return [dataclasses.replace(board, machine=machine) for machine in machines]


def test_words_and_tiles(tmp_path: Path) -> None:
    elf = words_elf("rvv", 16, load_board(NAME), tmp_path)
    first, *others = (until_dot(qemu_command(elf, board)) for board in boards())
    assert all(other == first for other in others)


def convolutions(path: Path) -> Path:
    """Layers whose channels fill vectors of 16 lanes, of 32, and neither."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (16, 3, 3, 3), "w2": (32, 16, 3, 3), "d": (32, 1, 3, 3), "w3": (40, 32, 1, 1), "w4": (5, 40)}
    weights = {name: (rng.normal(0, 1, shape) / np.prod(shape[1:]) ** 0.5).astype(np.float32) for name, shape in shapes.items()}
    return save_text(path, """convs (float[1,3,9,9] x) => (float[1,5] y) {
        a = Conv<pads=[1, 1, 1, 1]>(x, w1) b = Relu(a) c = Conv<pads=[1, 1, 1, 1], strides=[2, 2]>(b, w2) e = Relu(c)
        f = Conv<pads=[1, 1, 1, 1], group=32>(e, d) g = Relu(f) h = Conv(g, w3) i = Relu(h)
        j = GlobalAveragePool(i) k = Flatten(j) y = Gemm<transB=1>(k, w4) }""", **weights)


def trained(compiled: Compiled, folder: Path, board: Board) -> list[bytes]:
    """Losses and parameters after some steps."""
    golden, project = golden_vectors(compiled.program, 4), Project.open(folder)
    with start(project.elf(), board, project.manifest, timeout=120) as session:
        losses = [session.train_step(x, target).loss for x, target in zip(golden.x, golden.target, strict=True)]
        assert len(set(losses)) > 2, "nothing was learned"
        return [np.array(losses, np.float32).tobytes(), *(array.tobytes() for array in session.get_params().values())]


def test_training(tmp_path: Path) -> None:
    need(NAME)
    model = convolutions(tmp_path / "convs.onnx")
    compiled = compile_model(model, Options(board=NAME, dtype="fp16", optimiser=Optimiser(0.02)))
    write(compiled, tmp_path / "project")
    kernels = (tmp_path / "project" / "lib" / "convs_kernels.h").read_text()
    for tile in ("tt_direct_halves_rvv", "tt_direct_double_halves_rvv", "tt_outer_double_halves_rvv", "tt_depth_halves_rvv"):
        assert tile in kernels
    first, *others = (trained(compiled, tmp_path / "project", board) for board in boards())
    assert all(other == first for other in others)
