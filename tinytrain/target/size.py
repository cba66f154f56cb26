# SPDX-License-Identifier: Apache-2.0
"""Sizes of a linked program, read from its ELF file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tinytrain.errors import ToolError
from tinytrain.target.board import Memory

_WRITE, _ALLOC = 1, 2                                     # section flags of the ELF standard
_MODULE = b"\0asm\1\0\0\0"                               # of the WebAssembly core specification, as what follows
_MEMORY_SECTION, _STORED_SECTIONS, _PAGE_BYTES = 5, (10, 11), 65536


@dataclass(frozen=True)
class Sizes:
    """All in bytes. Flash holds code, constants and the first values of .data; RAM holds data, bss (with the arena) and the stack.

    `arena_bytes` is part of `bss_bytes`; `by_symbol` has every function and object, the largest first; `by_memory` what each memory of
    the board holds, without the first values of .data.
    """

    flash_bytes: int
    data_bytes: int
    bss_bytes: int
    stack_bytes: int = 0
    arena_bytes: int = 0
    by_symbol: dict[str, int] = field(default_factory=dict)
    by_memory: dict[str, int] = field(default_factory=dict)

    @property
    def ram_bytes(self) -> int:
        return self.data_bytes + self.bss_bytes + self.stack_bytes


def sizes(elf: Path, memories: Sequence[Memory] = ()) -> Sizes:
    """Sizes of an ELF file, for a board with these memories, or of a WebAssembly module. Raises ToolError for anything else."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import SymbolTableSection

    if elf.suffix == ".wasm":
        return _module_sizes(elf)
    totals = {"flash": 0, "data": 0, "bss": 0, "stack": 0}
    arena = 0
    held = {m.name: 0 for m in memories}
    found: dict[tuple[int, int], tuple[str, int]] = {}    # two names of one address are counted once
    try:
        with elf.open("rb") as stream:
            file = ELFFile(stream)
            for section in file.iter_sections():
                if not section["sh_flags"] & _ALLOC:
                    continue
                bytes_ = int(section["sh_size"])
                stored = section["sh_type"] != "SHT_NOBITS"
                kind = "stack" if section.name == ".stack" else "bss" if not stored else "data" if section["sh_flags"] & _WRITE else "flash"
                totals[kind] += bytes_
                arena += bytes_ if section.name == ".arena" else 0
                for m in memories:
                    held[m.name] += bytes_ if any(start <= section["sh_addr"] < start + m.bytes for start in m.views()) else 0
            table = file.get_section_by_name(".symtab")
            if isinstance(table, SymbolTableSection):
                for symbol in table.iter_symbols():
                    if symbol["st_info"]["type"] in ("STT_FUNC", "STT_OBJECT") and symbol["st_size"]:
                        found.setdefault((symbol["st_value"], symbol["st_size"]), (symbol.name, int(symbol["st_size"])))
    except (OSError, ELFError) as error:
        raise ToolError(f"{elf} is not a readable ELF file: {error}.", hint="Build the project again.") from None
    symbols: dict[str, int] = {}
    for name, size in found.values():
        symbols[name] = symbols.get(name, 0) + size       # static functions of two files may share a name
    symbols = dict(sorted(symbols.items(), key=lambda item: (-item[1], item[0])))
    return Sizes(totals["flash"] + totals["data"], totals["data"], totals["bss"], totals["stack"], arena, symbols, held)


def _module_sizes(module: Path) -> Sizes:
    """Code and data as they are downloaded, and the memory that it starts with, which holds its stack too."""
    found, at = dict[int, bytes](), len(_MODULE)
    try:
        data = module.read_bytes()
        if not data.startswith(_MODULE):
            raise ValueError("it does not begin as one")
        while at < len(data):
            section = data[at]
            count, at = _number(data, at + 1)
            found[section], at = data[at : at + count], at + count
        memory = found[_MEMORY_SECTION]                    # number of memories; flags, least pages and more of the first
        pages, _ = _number(memory, 2)
    except (OSError, ValueError, LookupError) as error:
        raise ToolError(f"{module} is not a readable WebAssembly module: {error}.", hint="Build the project again.") from None
    return Sizes(sum(len(found.get(section, b"")) for section in _STORED_SECTIONS), 0, pages * _PAGE_BYTES)


def _number(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number, and where it ends."""
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            return value, at
