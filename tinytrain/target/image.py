# SPDX-License-Identifier: Apache-2.0
"""What of an ELF file lies in a board's flash: its loadable segments, one flat image, and the UF2 file that boot drives take."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from tinytrain.errors import ToolError

_UF2_START, _UF2_SECOND, _UF2_END = 0x0A324655, 0x9E5D5157, 0x0AB16F30
_UF2_HAS_FAMILY = 0x2000
_UF2_PAGE, _UF2_DATA = 256, 476                           # bytes of content in a block, and the room for them
MOST_IMAGE_BYTES = 64 << 20

Segment = tuple[int, bytes]


def segments(elf: Path) -> list[Segment]:
    """(address, content) of what is loaded, by address. Raises ToolError for a file that is no ELF or loads nothing."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with elf.open("rb") as stream:
            loaded = [part for part in ELFFile(stream).iter_segments("PT_LOAD") if part["p_filesz"]]
            found = sorted((int(part["p_paddr"]), bytes(part.data())) for part in loaded)
    except ELFError as error:
        raise ToolError(f"{elf} is no ELF file: {error}.", hint="Compile the model again.") from None
    if not found:
        raise ToolError(f"{elf} loads nothing; expected a firmware.", hint="Compile the model again.")
    return found


def flat(parts: Sequence[Segment]) -> Segment:
    """One image from the lowest address on; gaps are 0xFF, as erased flash. Raises ToolError where it would be absurdly long."""
    start, end = parts[0][0], max(address + len(data) for address, data in parts)
    if end - start > MOST_IMAGE_BYTES:
        message = f"The firmware reaches from 0x{start:08x} to 0x{end:08x}; expected at most {MOST_IMAGE_BYTES:,} bytes of flash."
        raise ToolError(message, hint="Flash its ELF file with --via openocd or gdb:HOST:PORT.")
    image = bytearray(b"\xff" * (end - start))
    for address, data in parts:
        image[address - start : address - start + len(data)] = data
    return start, bytes(image)


def uf2(parts: Sequence[Segment], family: int) -> bytes:
    """A UF2 file: blocks of 512 bytes, each with 256 bytes of content for an address that is a multiple of that; what a page lacks is 0xFF.

    `family` says for which chips it is. https://github.com/microsoft/uf2
    """
    pages: dict[int, bytearray] = {}
    for address, data in parts:
        for at, byte in enumerate(data, start=address):
            page = pages.setdefault(at - at % _UF2_PAGE, bytearray(b"\xff" * _UF2_PAGE))
            page[at % _UF2_PAGE] = byte
    blocks = [
        struct.pack("<8I", _UF2_START, _UF2_SECOND, _UF2_HAS_FAMILY, address, _UF2_PAGE, number, len(pages), family)
        + bytes(page).ljust(_UF2_DATA, b"\0") + struct.pack("<I", _UF2_END)
        for number, (address, page) in enumerate(sorted(pages.items()))
    ]
    return b"".join(blocks)
