# SPDX-License-Identifier: Apache-2.0
"""Which memory of a board holds the arena, and which each constant: all in the first where they fit, else largest first."""

from __future__ import annotations

from collections.abc import Sequence

from tinytrain.target.board import Board, Memory

CONSTANT_ALIGN = 16
CODE_PART = 2                                            # of the first flash, 1/2 stays free for code where constants can go elsewhere


def arena_memory(board: Board, arena_bytes: int, reserved_bytes: int) -> Memory:
    """Where the arena goes: the first RAM if it holds it beside `reserved_bytes` (stack, buffers), else the first other that does.

    Falls back to the first, where the linker then says what is missing.
    """
    ram = board.ram
    assert ram is not None, board.name
    if arena_bytes + reserved_bytes <= ram.bytes:
        return ram
    return next((m for m in board.rams[1:] if arena_bytes <= m.bytes), ram)


def constant_memories(board: Board, sizes: Sequence[int]) -> list[Memory] | None:
    """The flash of each constant of these bytes; None where there is not enough.

    The largest is placed first, each in the first flash with room. How much code there will be beside them, nobody knows before it is
    compiled: where the board has several, a part of the first is kept free for it; where it has one, the linker says what is missing.
    """
    room = {m.name: m.bytes for m in board.flashes}
    if len(room) > 1:
        first = board.flashes[0]
        room[first.name] -= first.bytes // CODE_PART
    found: dict[int, Memory] = {}
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        bytes_ = -(-sizes[i] // CONSTANT_ALIGN) * CONSTANT_ALIGN if len(room) > 1 else sizes[i]
        memory = next((m for m in board.flashes if bytes_ <= room[m.name]), None)
        if memory is None:
            return None
        room[memory.name] -= bytes_
        found[i] = memory
    return [found[i] for i in range(len(sizes))]
