# SPDX-License-Identifier: Apache-2.0
"""Boards with several memories: constants lie in any flash that the board's file names, arenas in any RAM, and all of it can be used."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_runs import save_model, save_text
from fake_firmware import need_tools

from tinytrain import compiler
from tinytrain.compiler import Compiled, Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.emit.fit import buffer_bytes, constants_elsewhere
from tinytrain.errors import DoesNotFit
from tinytrain.target.board import Board, Memory, board_names, load_board
from tinytrain.target.memory import arena_memory, constant_memories


def placed(board: Board, sizes: list[int]) -> list[str] | None:
    found = constant_memories(board, sizes)
    return None if found is None else [m.name for m in found]


def test_the_largest_constants_go_first_and_leave_room_for_code() -> None:
    board = load_board("mps3-an547")
    assert placed(board, []) == []
    assert placed(board, [100, 262_144 - 112, 3]) == ["flash", "flash", "code_sram"]
    assert placed(board, [1, 262_145, 2_097_152, 262_144]) == ["qspi", "qspi", "code_sram", "flash"]
    assert placed(board, [8_388_608, 8_388_608]) is None


def test_a_board_with_one_flash_keeps_none_of_it_free() -> None:
    board = load_board("netduinoplus2")
    assert placed(board, [1 << 19, 1 << 19]) == ["flash", "flash"]
    assert placed(board, [1 << 19, (1 << 19) + 1]) is None


def with_flashes(**bytes_: int) -> Board:
    """The board with less of each flash."""
    board = load_board("mps3-an547")
    return replace(board, memories=tuple(replace(m, bytes=bytes_.get(m.name, m.bytes)) for m in board.memories))


def test_what_fits_nowhere_is_refused_with_all_memories(tmp_path: Path) -> None:
    program = compile_model(save_model(tmp_path), Options()).program
    words = "has 11,112 bytes of weights, mps3-an547 has 8,192 bytes of flash, 1,024 bytes of code_sram, 2,048 bytes of qspi for them and"
    with pytest.raises(DoesNotFit, match=words):
        constants_elsewhere(program, with_flashes(flash=8192, code_sram=1024, qspi=2048))


def test_constants_are_read_from_every_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the emulator, with memories so small that a little model needs all of them."""
    board = with_flashes(flash=16_384, code_sram=9600)
    need_tools(board)
    monkeypatch.setattr(compiler, "load_board", lambda name: board)
    rng = np.random.default_rng(0)
    w1, w2, w3 = (rng.normal(0, 0.1, shape).astype(np.float32) for shape in ((50, 48), (48, 50), (7, 48)))
    text = "(float[1,48] x) => (float[1,7] y) { a = Gemm<transB=1>(x, w1) b = Gemm<transB=1>(a, w2) y = Gemm<transB=1>(b, w3) }"
    model = save_text(tmp_path / "dense.onnx", f"dense {text}", w1=w1, w2=w2, w3=w3)
    compiled = compile_model(model, Options(board=board.name, loss=None))
    write(compiled, tmp_path / "project")
    project = Project.open(tmp_path / "project")
    held = project.sizes().by_memory
    assert held["code_sram"] == held["qspi"] == 9600
    assert sum(held[m.name] for m in board.flashes) == project.sizes().flash_bytes
    with np.load(tmp_path / "project" / "golden.npz") as golden, project.session() as session:
        np.testing.assert_allclose(session.infer(golden["x"][0]), golden["output"].reshape(-1), rtol=1e-4, atol=1e-5)


EMULATED = [board for board in map(load_board, board_names()) if board.machine]
HOLDING = [(board, m) for board in EMULATED for i, m in enumerate(board.rams) if all(m.bytes > before.bytes for before in board.rams[:i])]


def filling(folder: Path, board: Board, memory: Memory, more: int = 0) -> tuple[Compiled, Memory]:
    """A model whose arena leaves less than 16 bytes of a memory, with so many bytes `more`; and where it was placed."""
    def of(numbers: int) -> Compiled:
        text = "fill (float[1,1] x) => (float[1,1] y) { many = Expand(x, shape) a = Abs(many) y = ReduceMin<axes=[1]>(a) }"
        model = save_text(folder / "fill.onnx", text, shape=np.array([1, numbers]))
        return compile_model(model, Options(board=board.name, loss=None))

    small = of(2)
    beside = buffer_bytes(small.program) + board.stack_bytes
    left = memory.bytes - (beside if memory is board.ram else 0) - small.plan.arena_bytes
    made = of(2 + (left + more) // 8 * 2)
    return made, arena_memory(board, made.plan.arena_bytes, beside)


@pytest.mark.parametrize(("board", "memory"), HOLDING, ids=lambda of: of.name)
def test_firmware_that_takes_all_that_there_is_starts_and_runs(board: Board, memory: Memory, tmp_path: Path) -> None:
    """Nothing else of the board or its emulator lies in there, and what `compile` lets pass, the linker does too."""
    need_tools(board)
    compiled, place = filling(tmp_path, board, memory)
    assert place == memory
    write(compiled, tmp_path / "project")
    with Project.open(tmp_path / "project").session() as session, np.load(tmp_path / "project" / "golden.npz") as golden:
        np.testing.assert_allclose(session.infer(golden["x"][0]), golden["output"].reshape(-1), rtol=1e-5)


@pytest.mark.parametrize("board", EMULATED, ids=lambda board: board.name)
def test_an_arena_that_is_a_little_larger_goes_elsewhere_or_is_refused(board: Board, tmp_path: Path) -> None:
    there = [memory for of, memory in HOLDING if of is board]
    for memory, larger in itertools.pairwise(there):
        assert filling(tmp_path, board, memory, more=16)[1] == larger
    words = rf"fill needs [0-9,]+ bytes of RAM .*, {board.name} has {', '.join(f'{m.bytes:,} of {m.name}' for m in board.rams)}\."
    with pytest.raises(DoesNotFit, match=words):
        filling(tmp_path, board, there[-1], more=16)
