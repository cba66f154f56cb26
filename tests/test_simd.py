# SPDX-License-Identifier: Apache-2.0
"""Vocabularies of vector units: each word gives the same bits on the board that has the unit and, in plain C, on the host."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from compilers import installed
from fake_firmware import need_tools
from kernel_cases import HERE, WARNINGS
from kernel_runs import compile_c, until_dot

from tinytrain.device.qemu import qemu_command
from tinytrain.paths import data_dir
from tinytrain.target.board import Board, load_board
from tinytrain.target.build import build, project_files

BLOCKS = 100                                              # of 64 vectors each


def words_header(simd: str, lanes: int) -> str:
    """What tells the program the vocabulary."""
    return f'#include "tt_simd_{simd}.h"\n#define SIMD {simd}\n#define LANES {lanes}u\n#define BLOCKS {BLOCKS}u\n'


def words_elf(simd: str, lanes: int, board: Board, folder: Path, program: str = "simd_words.c") -> Path:
    """The firmware of words.c, and words.h beside it."""
    need_tools(board)
    model = {"words.c": "typedef int unused;\n", "words.h": words_header(simd, lanes)}
    model["board_or_host.h"] = (HERE / "board_or_host.h").read_text()
    files = project_files(board, "words", model, stack_bytes=4096, main=(HERE / program).read_text())
    for file, text in files.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(text)
    return build(folder, board)


PROGRAMS = [
    ("mve", 4, "mps3-an547", "simd_words.c"), ("mveh", 8, "mps3-an547", "simd_halves.c"), ("rvv", 16, "riscv-virt-rvv", "simd_words.c"),
    ("rvv", 16, "riscv-virt-zvfh", "simd_words.c"),
]


@pytest.mark.parametrize(("simd", "lanes", "name", "program"), PROGRAMS)
def test_words_on_the_board_equal_those_in_c(simd: str, lanes: int, name: str, program: str, tmp_path: Path) -> None:
    board = load_board(name)
    source = HERE / program
    got = until_dot(qemu_command(words_elf(simd, lanes, board, tmp_path, program), board)).splitlines()
    includes = [f"-I{tmp_path / 'lib'}", f"-I{data_dir('runtime_c')}"]
    compile_c(["gcc", *WARNINGS, "-O1", "-DON_HOST", *includes, str(source), "-o", str(tmp_path / "words"), "-lm"])
    want = subprocess.run([tmp_path / "words"], capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    assert len(want) == BLOCKS + 1
    wrong = [f"block {i}: {a} on the board, {b} in C" for i, (a, b) in enumerate(zip(got, want, strict=False)) if a != b]
    assert not wrong, "\n".join(wrong[:5])
    assert got == want


@pytest.mark.parametrize(("simd", "lanes", "name", "program"), PROGRAMS)
def test_clang_finds_nothing_to_warn_about(simd: str, lanes: int, name: str, program: str, tmp_path: Path) -> None:
    if (clang := installed("clang")) is None:
        pytest.skip("needs clang")
    (tmp_path / "words.h").write_text(words_header(simd, lanes))
    source = str(HERE / program)
    compile_c([clang, *WARNINGS, "-O1", "-fsyntax-only", "-DON_HOST", f"-I{tmp_path}", f"-I{data_dir('runtime_c')}", source])


@pytest.mark.parametrize("path", sorted(data_dir("runtime_c").glob("tt_simd_rvv*.h")), ids=lambda path: path.name)
def test_vectors_are_rounded_by_the_current_mode(path: Path) -> None:
    """QEMU before 8 fails at a conversion with a mode of its own that begins a block, wherever code is placed so that one does."""
    assert "rtz" not in path.read_text() and "_rm(" not in path.read_text()
