# SPDX-License-Identifier: Apache-2.0
"""How often each instruction of a firmware ran in its last call of the model, counted by a plugin of QEMU (counter.c)."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinytrain.errors import ToolError
from tinytrain.target.board import Board, load_board
from tinytrain.target.build import find_compiler
from tinytrain.target.listing import Instruction, listing
from tinytrain.target.timing import Ran, load_core

_START, _STOP = "tt_port_count_start", "tt_port_count_stop"
_METER = (_START, "tt_systick_handler", "tt_trap", "tt_emulate")  # run between the two places, but are no part of what is measured
_SECONDS = 60


@dataclass(frozen=True)
class Profile:
    """What ran between the start and the stop of a firmware's counter: its last inference, evaluation or training step."""

    ran: tuple[Ran, ...]
    core: str

    @property
    def instructions(self) -> int:
        return sum(ran.times for ran in self.ran)

    @property
    def cycles(self) -> int | None:
        """Estimated cycles of the board's core, without wait states of memories and without caches; None where it has no timing table."""
        core = load_core(self.core)
        return round(sum(core.cycles(self.ran))) if core else None

    @property
    def kinds(self) -> dict[str, int]:
        """Instructions by the kinds of the core's timing table, the most frequent first."""
        core, found = load_core(self.core), dict[str, int]()
        for ran in self.ran:
            kind = core.row(ran.instruction).kind if core else "any"
            found[kind] = found.get(kind, 0) + ran.times
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    @property
    def functions(self) -> dict[str, tuple[int, float]]:
        """Function → (instructions, estimated cycles), the most expensive first."""
        core, found = load_core(self.core), dict[str, tuple[int, float]]()
        cycles = core.cycles(self.ran) if core else [0.0] * len(self.ran)
        for ran, cost in zip(self.ran, cycles, strict=True):
            before = found.get(ran.instruction.function, (0, 0.0))
            found[ran.instruction.function] = before[0] + ran.times, before[1] + cost
        return dict(sorted(found.items(), key=lambda item: -item[1][0]))


class Counter:
    """Builds the plugin for one firmware in a temporary folder, which goes with this object. Raises ToolError without tools."""

    def __init__(self, elf: Path, board: Board) -> None:
        self.board = board
        self._code = listing(elf, board)
        self._base = self._code[0].address
        end = self._code[-1].address + self._code[-1].bytes
        self._folder = tempfile.TemporaryDirectory(prefix="tinytrain-")
        folder = Path(self._folder.name)
        self._counts = folder / "counts"
        self._counts.write_bytes(bytes((end - self._base) // 2 * 16))
        plugin = folder / "counter.so"
        _build(plugin)
        places = f"start={self._place(_START):#x},to={self._place(_STOP):#x}"
        self.arguments = ("-plugin", f"{_quoted(plugin)},counts={_quoted(self._counts)},base={self._base:#x},end={end:#x},{places}")

    def read(self) -> Profile:
        """Of the last call that has ended."""
        counts: NDArray[np.uint64] = np.fromfile(self._counts, "<u8").reshape(-1, 2)
        found = []
        for instruction in self._code:
            times, left = (int(n) for n in counts[(instruction.address - self._base) // 2])
            if times and instruction.function not in _METER:
                found.append(Ran(instruction, times, left))
        return Profile(tuple(found), self.board.core)

    def close(self) -> None:
        self._folder.cleanup()

    def _place(self, function: str) -> int:
        first: Instruction | None = next((i for i in self._code if i.function == function), None)
        if first is None:
            raise ToolError(f"The firmware has no function {function}, which counting starts from.", hint="Compile the model again.")
        return first.address


def _build(plugin: Path) -> None:
    compiler = find_compiler(load_board("host"))
    command = [compiler, "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-o", str(plugin), str(Path(__file__).with_name("counter.c"))]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False)
    if done.returncode:
        raise ToolError("The counter of instructions cannot be built:", details=done.stderr.splitlines()[:20], hint="Is gcc there?")


def _quoted(path: Path) -> str:
    """As a value among QEMU's options, which commas end."""
    return str(path).replace(",", ",,")
