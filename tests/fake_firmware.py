# SPDX-License-Identifier: Apache-2.0
"""Firmware around the hand-written model of tests/fake, for tests of boards, build and link that need no compiler of ours."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tinytrain.target.board import Board, load_board
from tinytrain.target.build import build, project_files

FAKE = Path(__file__).resolve().parent / "fake"
STACK_BYTES = 1024


def need_tools(board: Board) -> None:
    """Skip where the board's compiler or emulator is not installed."""
    missing = [] if any(map(shutil.which, board.toolchain.cc)) else [board.toolchain.cc[0]]
    missing += [board.machine[0]] if board.machine and not shutil.which(board.machine[0]) else []
    missing += ["node"] if board.emulator == "node" and not shutil.which("node") else []
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")


def write_fake(folder: Path, board: Board, *, arena_bytes: int = 80) -> Path:
    """A project with the fake model in place of a generated one."""
    model = {path.name: path.read_text(encoding="utf-8") for path in FAKE.iterdir()}
    model["fake.h"] = model["fake.h"].replace("#define FAKE_ARENA_BYTES 80", f"#define FAKE_ARENA_BYTES {arena_bytes}")
    files = project_files(board, "fake", model, stack_bytes=STACK_BYTES, arena_bytes=arena_bytes)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def build_fake(folder: Path, name: str) -> Path:
    """The same, built for the board of that name."""
    board = load_board(name)
    need_tools(board)
    build(write_fake(folder, board), board)
    return folder
