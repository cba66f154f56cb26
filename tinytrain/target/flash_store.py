# SPDX-License-Identifier: Apache-2.0
"""Where a board keeps learned weights: a driver of runtime_c and pages of a flash, and whether records of a model fit there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from tinytrain.errors import BoardError, DoesNotFit

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


def check_store(store: FlashStore | None, body_bytes: int, model: str, board: str) -> None:
    """Raise DoesNotFit where the pages do not hold two records: the new one, and the one that counts until it is whole. BoardError
    where the board has no pages for them.
    """
    if store is None:
        raise BoardError(
            f"Board {board} does not say where learned weights are kept; --store needs its [flash_store].",
            hint="Add one to its file (docs/store.md), choose another board, or leave out --store and call NAME_save yourself.",
        )
    need = store.record_pages(body_bytes)
    if 2 * need > store.pages:
        raise DoesNotFit(
            f"{model} keeps {body_bytes:,} bytes of weights and optimiser state in two records of {need:,} pages "
            f"of {store.page_bytes:,} bytes; {board} has {store.pages} pages for them.",
            hint="Train less of the model (--scheme last:1), give [flash_store] of the board more pages, or leave out --store.",
        )
