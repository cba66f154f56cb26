# SPDX-License-Identifier: Apache-2.0
"""Estimated cycles: a timing table for each core (boards/core/<core>.toml) over the instructions that ran.

Each straight run of instructions is issued once, in order: an instruction waits for its operands, for a unit of its kind and for a place
in the cycle. A run that jumps back to its own start is issued several times, so that sums carried round a loop count. What a run costs is
multiplied by how often it ran. Wait states of memories, caches and wrongly predicted branches are not in it: it is an estimate.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tinytrain.errors import BoardError
from tinytrain.target.board import board_folders, find_data
from tinytrain.target.listing import Instruction
from tinytrain.target.table import read_toml

_HINT = "See boards/core of tinytrain."
_WARM, _ROUNDS = 2, 6                                     # of a loop: issued before it is measured, and issued in all
_LMUL = re.compile(r"\bm(f?)([1248])\b")


@dataclass(frozen=True)
class Row:
    """How instructions whose name matches `names` are timed, in cycles.

    `cycles`: until the next may be issued. `busy`: the unit is taken, by default as long. `latency`: until the result may be read, by
    default as long. `late`: a sum that is added to is read so much later than other operands. `listed`: more for each of a list's
    registers behind the first, `wide` of which move at once. `chained`: in place of `cycles` behind another instruction of the same unit
    whose result it does not read. `taken`: more when the program goes on elsewhere. `alone`: nothing else is issued in this cycle.
    `grouped`: once for each register of a group (LMUL). `bytes`: only this length of instruction.
    """

    kind: str
    names: str
    unit: str = ""
    cycles: int = 1
    busy: int | None = None
    latency: int | None = None
    late: int = 0
    listed: int = 0
    wide: int = 1
    chained: int | None = None
    taken: int = 0
    alone: bool = False
    grouped: bool = False
    bytes: int | None = None


@dataclass(frozen=True)
class Ran:
    """An instruction, how often it ran, and how often something else than the next instruction followed."""

    instruction: Instruction
    times: int
    left: int


@dataclass(frozen=True)
class Core:
    """A core's timing table: `issue` instructions a cycle at most, `units` of which there is more than one, the first row that fits."""

    name: str
    title: str
    source: str
    issue: int
    rows: tuple[Row, ...]
    units: dict[str, int] = field(default_factory=dict, hash=False)
    like: str = ""                                        # the core whose rows stand behind its own

    def row(self, instruction: Instruction) -> Row:
        return _row(self, instruction.name, instruction.bytes)

    def cycles(self, ran: Sequence[Ran]) -> list[float]:
        """Estimated cycles of each instruction with its waits, in all its runs; `ran` is in order of address."""
        return [cost for run in _straight(ran) for cost in self._of_run(run)]

    def _of_run(self, run: Sequence[Ran]) -> list[float]:
        last = run[-1]
        code = [r.instruction for r in run]
        again = min(last.left, last.times) if last.instruction.target == code[0].address else 0
        pipeline = _Pipeline(self)
        once = pipeline.issue(code)
        costs = [float(cost * (last.times - again)) for cost in once]
        if again:
            rounds = [pipeline.issue(code) for _ in range(_ROUNDS)][_WARM:]
            costs = [cost + again * sum(each) / len(rounds) for cost, each in zip(costs, zip(*rounds, strict=True), strict=True)]
        costs[-1] += last.left * self.row(last.instruction).taken
        return costs


class _Pipeline:
    """The state of a core between two instructions."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.now, self.used, self.closed = 0, 0, False    # the cycle that is being filled, places used in it, whether it takes no more
        self.ready: dict[str, int] = {}                   # register → cycle
        self.free: dict[str, list[int]] = {}              # unit → cycle, for each of that unit
        self.before: tuple[str, frozenset[str]] = ("", frozenset())
        self.group = 1

    def issue(self, code: Sequence[Instruction]) -> list[int]:
        """Issue these; by how many cycles each made the end later."""
        end, costs = self.now + bool(self.used), []
        for instruction in code:
            self._issue(instruction)
            costs.append(self.now + bool(self.used) - end)
            end += costs[-1]
        return costs

    def _issue(self, instruction: Instruction) -> None:
        row = self.core.row(instruction)
        read, summed, written = instruction.registers
        if instruction.name.startswith("vset") and (group := _LMUL.search(instruction.operands)):
            self.group = 1 if group[1] else int(group[2])
        cycles = row.cycles
        if row.chained is not None and self.before[0] == row.unit and not read & self.before[1]:
            cycles = row.chained
        more = row.listed * (max(0, instruction.listed - 1) // row.wide)
        times = self.group if row.grouped else 1
        units = self.free.setdefault(row.unit, [0] * self.core.units.get(row.unit, 1))
        unit = min(range(len(units)), key=units.__getitem__)
        at = max(
            self.now, units[unit] if row.unit else 0,
            *(self.ready.get(name, 0) for name in read), *(self.ready.get(name, 0) - row.late for name in summed),
        )
        if at == self.now and (self.closed or self.used >= self.core.issue or (row.alone and self.used)):
            at += 1
        if at > self.now:
            self.now, self.used, self.closed = at, 0, False
        units[unit] = at + (cycles if row.busy is None else row.busy) * times + more
        for name in written:
            self.ready[name] = at + (cycles if row.latency is None else row.latency) + more + times - 1
        self.before = row.unit, written
        if cycles + more > 1:
            self.now, self.used, self.closed = at + cycles + more, 0, False
        elif cycles:
            self.used += 1
            self.closed = row.alone


def _straight(ran: Sequence[Ran]) -> Iterator[Sequence[Ran]]:
    """Runs of instructions that follow each other: cut where one is jumped to, left, or ran another number of times."""
    targets = {r.instruction.target for r in ran}
    start = 0
    for i, (a, b) in enumerate(itertools.pairwise(ran), 1):
        follows = a.instruction.address + a.instruction.bytes == b.instruction.address
        if not follows or a.left or a.times != b.times or b.instruction.address in targets:
            yield ran[start:i]
            start = i
    if ran:
        yield ran[start:]


@functools.cache
def load_core(name: str, folder: Path | None = None) -> Core | None:
    """The timing table of a core; None where it has none. `folder` stands for the folders `core` of all boards. Raises BoardError."""
    path = find_data(f"{name}.toml", [folder] if folder else [place / "core" for place in board_folders()])
    if path is None:
        return None
    data = read_toml(path)
    rows = [_parsed(values, path) for values in data.get("timing", [])]
    units = dict(data.get("units", {}))
    if like := data.get("like"):
        base = load_core(like, folder)
        if base is None:
            raise BoardError(f"{path}: like = {like!r}, but there is no such core.", hint=_HINT)
        rows += base.rows
        units = {**base.units, **units}
    if not isinstance(data.get("issue"), int) or not rows or rows[-1].names != ".*":
        raise BoardError(f"{path} has no `issue`, or no last [[timing]] with names = \".*\".", hint=_HINT)
    return Core(name, str(data.get("title", name)), str(data.get("source", "")), data["issue"], tuple(rows), units, str(like or ""))


def _parsed(values: Any, path: Path) -> Row:
    try:
        row = Row(**values)
        re.compile(row.names)
    except (TypeError, re.error):
        known = ", ".join(f.name for f in fields(Row))
        raise BoardError(f"{path}: [[timing]] {values!r} is not valid; it has {known}.", hint=_HINT) from None
    return row


@functools.cache
def _row(core: Core, name: str, bytes_: int) -> Row:
    return next(row for row in core.rows if row.bytes in (None, bytes_) and re.fullmatch(row.names, name))
