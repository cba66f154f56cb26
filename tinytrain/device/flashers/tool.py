# SPDX-License-Identifier: Apache-2.0
"""What a tool that writes firmware into a board says of itself: one class for each, listed in `flashers/__init__.py`."""

from __future__ import annotations

import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tinytrain.errors import BoardError, DeviceError
from tinytrain.target.board import Board

Commands = Sequence[Sequence[str]]
_SHOWN_LINES = 8                                          # the last ones of a tool that failed


@dataclass(frozen=True)
class Firmware:
    """A built firmware, and the board that it is for. Files that a tool needs besides are put beside the ELF file."""

    elf: Path
    board: Board


class Flasher(ABC):
    """A flash tool. `name` is its key in a board's [flash] table and in --via, where `where` is what follows the colon.

    `programs` are the names under which it is installed, `get` says how to get it, `where` what --via must or may say.
    `proof`: what it prints when it has read back what it wrote; empty where it cannot.
    """

    name: ClassVar[str]
    programs: ClassVar[tuple[str, ...]]
    get: ClassVar[str]
    where: ClassVar[str] = ""
    proof: ClassVar[str] = ""

    def fits(self, board: Board) -> bool:
        """Whether it is chosen without being asked for, where it is installed."""
        return self.name in board.flash

    def program(self) -> str | None:
        """The first of its programs that is installed."""
        return next((program for program in self.programs if shutil.which(program)), None)

    @abstractmethod
    def prepare(self, firmware: Firmware, where: str) -> tuple[dict[Path, bytes], Commands]:
        """Files to write first, and the commands to run then, in order. Raises BoardError, ToolError, DeviceError."""

    def verified(self, firmware: Firmware, output: str) -> str:
        """What the output of the commands proves, in a few words. Raises DeviceError where it should prove something and does not."""
        if self.proof and not re.search(self.proof, output):
            raise unverified(firmware, self.name)
        return f"read back by {self.name}" if self.proof else "written; only an answer of the firmware shows that it runs"

    def reason(self, lines: Sequence[str]) -> Sequence[str]:
        """Of what it printed, those that say why it failed."""
        return lines[-_SHOWN_LINES:]

    def data(self, board: Board, kind: type[Any], called: str) -> Any:
        """The board's entry for this tool. Raises BoardError where it is missing or of another kind."""
        return entry(board.flash, self.name, kind, called, board)


def entry(table: Any, key: str, kind: type[Any], called: str, board: Board) -> Any:
    """An entry of [flash], or of a table in it. Raises BoardError."""
    value = table.get(key)
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        found = "missing" if value is None else repr(value)
        raise BoardError(f"Board {board.name}: {key} in [flash] is {found}; expected {called}.", hint="See docs/boards.md.")
    return value


def unverified(firmware: Firmware, name: str) -> DeviceError:
    return DeviceError(
        f"{name} did not find in board {firmware.board.name} what was written: it is not {firmware.elf.name}.",
        hint="Is it the right board, and its flash not protected? Try again.",
    )
