# SPDX-License-Identifier: Apache-2.0
"""Where a board keeps learned weights: a driver of runtime_c, and pages of a flash."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from pathlib import Path

HEAD_BYTES = 56                                           # of runtime_c/tt_store.h
MOST_WORD_BYTES = 256                                     # TT_FLASH_WORD_MAX of runtime_c/tt_flash.h


@dataclass(frozen=True)
class FlashStore:
    """`pages` of `page_bytes` from address `base`, programmed `word_bytes` at once by `driver` (flash_*.h and .c of runtime_c).

    `emulator`: arguments by which an emulator keeps the pages in a file of `emulator_bytes`, `{file}`, and runs the firmware `{elf}`.
    """

    driver: str
    base: int
    page_bytes: int
    pages: int
    word_bytes: int
    emulator: tuple[str, ...] = ()
    emulator_bytes: int = 0

    def record_pages(self, body_bytes: int) -> int:
        """Pages of one record: head, commit word and body, as runtime_c/tt_store.c lays them out."""
        head = -(-HEAD_BYTES // self.word_bytes) * self.word_bytes + self.word_bytes
        return -(-(head + body_bytes) // self.page_bytes)


    def kept_in(self, file: Path, elf: Path) -> list[str]:
        """Arguments of the emulator; the file is made where there is none. Commas in paths would separate options of QEMU."""
        if not file.exists():
            with file.open("wb") as new:
                new.truncate(self.emulator_bytes)
        named = {"{file}": str(file.resolve()).replace(",", ",,"), "{elf}": str(elf.resolve()).replace(",", ",,")}
        return [reduce(lambda text, name: text.replace(name, named[name]), named, argument) for argument in self.emulator]
