# SPDX-License-Identifier: Apache-2.0
"""What there is, gathered once for every view of it: boards, and ops."""

from __future__ import annotations

from dataclasses import dataclass

from tinytrain.ir.op import Elementwise, registry
from tinytrain.target.board import board_names, load_board


@dataclass(frozen=True)
class BoardLine:
    """Bytes are those of the first memory of a kind. `emulator` is what runs the board, null where nothing does; `host`: this computer."""

    name: str
    title: str
    core: str
    flash_bytes: int | None
    ram_bytes: int | None
    emulator: str | None
    host: bool


@dataclass(frozen=True)
class OpLine:
    """An op of the compiler: element types and instruction sets of its kernels, none for a view of memory; whether it can follow in the
    epilogue of another one, and whether it has a gradient.
    """

    name: str
    dtypes: tuple[str, ...]
    kernels: tuple[str, ...]
    epilogue: bool
    gradient: bool


def boards() -> list[BoardLine]:
    lines = []
    for board in map(load_board, board_names()):
        size = {memory.kind: memory.bytes for memory in reversed(board.memories)}
        emulator = (board.machine[0] if board.emulator == "qemu" else board.emulator) if board.machine else None
        lines.append(BoardLine(board.name, board.title, board.core, size.get("flash"), size.get("ram"), emulator, board.is_host))
    return lines


def ops() -> list[OpLine]:
    return [
        OpLine(
            name, tuple(sorted({kernel.dtypes[0].tag for kernel in op.kernels})),
            tuple(sorted({kernel.isa or "portable C" for kernel in op.kernels})), issubclass(op, Elementwise), op.differentiable,
        )
        for name, op in registry().items()
    ]
