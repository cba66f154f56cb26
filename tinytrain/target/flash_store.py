# SPDX-License-Identifier: Apache-2.0
"""Where a board keeps learned weights: a driver of runtime_c, and pages of a flash."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from tinytrain.errors import BoardError
from tinytrain.paths import data_dir
from tinytrain.target.table import HINT, Table

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


def flash_store(table: Table) -> FlashStore | None:
    """What [flash_store] of a board says, None without it. Raises BoardError."""
    if not table:
        return None
    store = FlashStore(
        table.text("driver"), table.number("base"), table.number("page_bytes"), table.number("pages"), table.number("word_bytes"),
        table.texts("emulator"), table.number("emulator_bytes", 0),
    )
    if not (data_dir("runtime_c") / f"{store.driver}.h").is_file():
        raise BoardError(f"{table.path}: {table.where}driver is {store.driver!r}, expected a flash_*.h of runtime_c.", hint=HINT)
    word, page = store.word_bytes, store.page_bytes
    if not 4 <= word <= MOST_WORD_BYTES or word & (word - 1) or page <= 0 or page % 64 or page % word or store.pages <= 0 or store.base < 0:
        raise BoardError(
            f"{table.path}: [flash_store] has {store.pages} pages of {page} bytes, programmed {word} bytes at once; expected pages of a "
            f"multiple of 64 bytes, and a power of two from 4 to {MOST_WORD_BYTES} at once.",
            hint=HINT,
        )
    return store
