# SPDX-License-Identifier: Apache-2.0
"""ELF → UF2, a file for the drive that a kit shows: blocks of 512 bytes, each with 256 of the firmware and where they go."""

from __future__ import annotations

import struct
from pathlib import Path

from tinytrain.errors import ToolError
from tinytrain.target.board import Board

BLOCK_BYTES = 512
_DATA_BYTES = 256
_MAGIC, _END = (0x0A324655, 0x9E5D5157), 0x0AB16F30
_HAS_FAMILY = 0x2000


def uf2(elf: Path, board: Board) -> bytes:
    """The image of all that is loaded, whole pages, filled up with zeros. Raises ToolError where the board takes no UF2."""
    family = board.flash.get("uf2_family")
    if not isinstance(family, int):
        raise ToolError(f"Board {board.name} takes no UF2 file.", hint="Its board.toml would say uf2_family in [flash].")
    pages: dict[int, bytearray] = {}
    for address, data in loaded(elf):
        for i, byte in enumerate(data, address):
            pages.setdefault(i - i % _DATA_BYTES, bytearray(_DATA_BYTES))[i % _DATA_BYTES] = byte
    blocks = [
        struct.pack("<8I476sI", *_MAGIC, _HAS_FAMILY, address, _DATA_BYTES, number, len(pages), family, bytes(pages[address]), _END)
        for number, address in enumerate(sorted(pages))
    ]
    return b"".join(blocks)


def loaded(elf: Path) -> list[tuple[int, bytes]]:
    """(address in memory that keeps it, bytes) of each part of a firmware."""
    from elftools.elf.elffile import ELFFile

    with elf.open("rb") as stream:
        segments = [s for s in ELFFile(stream).iter_segments() if s["p_type"] == "PT_LOAD" and s["p_filesz"]]
        return [(s["p_paddr"], s.data()) for s in segments]
