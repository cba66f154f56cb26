# SPDX-License-Identifier: Apache-2.0
"""What `tinytrain tune` counted, as tables: one that comes with the package, and one in the user's cache; and what a program makes of them.

A table is of one processor (core, instruction sets, rounding) and one compiler. Choices are found by their text among those that a call
has today. Counts of a call whose listed kernel has other C today are of no use; with other headers they are old, and still the best guess.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from tinytrain.atomic import write_text
from tinytrain.emit.kernels import KernelCall, render
from tinytrain.emit.select import Choice, Count, Kernels, call_text, select
from tinytrain.errors import OutputError
from tinytrain.ir.graph import Node, Program
from tinytrain.ir.types import Role
from tinytrain.paths import cache_dir, data_dir
from tinytrain.reading import read_limited, reading
from tinytrain.target.board import Board
from tinytrain.target.build import compiler_version
from tinytrain.target.isa import headers

SHIPPED = Path(__file__).with_name("tuned.json")
MOST_BYTES = 100_000_000
GROWTH = 0.1                                              # of flash, that `balanced` gives for speed
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_INCLUDE = re.compile(r'^#include "(tt_\w+\.h)"', re.MULTILINE)
_AGAIN = "Run `tinytrain tune` again, or leave the file out."

Optimise = Literal["speed", "balanced", "size"]


@dataclass(frozen=True)
class Entry:
    """A call: `made` and `headers` stand for the C of its listed kernel when it was tried; None for a choice that is wrong."""

    made: str
    headers: str
    counts: dict[str, Count | None]


@dataclass
class Table:
    """Counts of one processor and compiler; those by which choices compete are `cost`: cycles, or instructions."""

    processor: str
    compiler: str
    cost: str = "cycles"
    calls: dict[str, Entry] = field(default_factory=dict)

    def counts(self, call: str) -> dict[str, Count | None]:
        """Of a call's choices, by what they compete."""
        def seen(count: Count | None) -> Count | None:
            return Count(count.instructions, None, count.code_bytes) if count and self.cost == "instructions" else count

        return {choice: seen(count) for choice, count in self.calls[call].counts.items()}

    def write(self, path: Path) -> None:
        """Whole or not at all. Raises OutputError."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{path.parent} cannot be made: {error.strerror}.", hint="Choose another --tuned.") from error
        write_text(path, json.dumps(self.plain()) + "\n")

    def plain(self) -> dict[str, Any]:
        calls = {
            call: {"made": e.made, "headers": e.headers,
                   "counts": {choice: c and [c.instructions, c.cycles, c.code_bytes] for choice, c in e.counts.items()}}
            for call, e in self.calls.items()
        }
        return {"processor": self.processor, "compiler": self.compiler, "cost": self.cost, "calls": calls}

    @classmethod
    def parsed(cls, data: Mapping[str, Any]) -> Table:
        """Raises KeyError, TypeError or ValueError where it is no table."""
        calls = {
            str(call): Entry(str(e["made"]), str(e.get("headers", "")), {str(c): _count(n) for c, n in e["counts"].items()})
            for call, e in data["calls"].items()
        }
        return cls(str(data["processor"]), str(data["compiler"]), str(data["cost"]), calls)

    @classmethod
    def read(cls, path: Path) -> Table:
        """Raises OutputError where the file is no table."""
        text = read_limited(path, MOST_BYTES, "a table of `tinytrain tune`", OutputError)
        with reading(path, "a table of `tinytrain tune`", OutputError, hint=_AGAIN):
            return cls.parsed(json.loads(text))


def _count(numbers: Any) -> Count | None:
    if numbers is None:
        return None
    instructions, cycles, code_bytes = (None if n is None else int(n) for n in numbers)
    if instructions is None or code_bytes is None:
        raise ValueError(f"{numbers} are no counts")
    return Count(instructions, cycles, code_bytes)


def made_of(node: Node, listed: Choice) -> str:
    """Stands for the C of a call's listed kernel, comments and white space aside."""
    return _hash(" ".join(_COMMENT.sub(" ", render(KernelCall.of(node, listed), "listed")).split()))


def headers_of(isa: Collection[str]) -> str:
    """Stands for what all kernels for these instruction sets are compiled with."""
    return _hash(_included(data_dir("runtime_c"), tuple(headers(isa))))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _included(folder: Path, first: tuple[str, ...]) -> str:
    waiting = [*first, *_INCLUDE.findall((data_dir("codegen") / "kernels.h.j2").read_text(encoding="utf-8"))]
    found: dict[str, str] = {}
    while waiting:
        if (name := waiting.pop()) not in found:
            found[name] = (folder / name).read_text(encoding="utf-8")
            waiting += _INCLUDE.findall(found[name])
    return "".join(found[name] for name in sorted(found))


def processor(board: Board) -> str:
    """What boards have in common that run the same kernels in the same time: `cortex-m4 dsp fpu-sp vfp`."""
    return " ".join([board.core, *board.isa, *(["fused"] if board.fused else [])])


def cached(board: Board) -> Path:
    """The user's table for this processor."""
    return cache_dir() / "tuned" / f"{processor(board).replace(' ', '-')}.json"


@cache
def shipped() -> tuple[Table, ...]:
    """The tables that come with the package, one a processor."""
    return tuple(Table.parsed(data) for data in json.loads(SHIPPED.read_text(encoding="utf-8")))


@dataclass(frozen=True, eq=False)
class Tuning:
    """By what the kernels of a board compete, for whatever program: of its tables the first that has a call counts.

    `note` is to be said; `file` is the user's own table, where one counts.
    """

    board: Board
    tables: tuple[Table, ...] = ()
    optimise: Optimise = "balanced"
    note: str = ""
    file: Path | None = None
    _known: dict[str, Mapping[str, Count | None]] = field(default_factory=dict)

    @classmethod
    def of(cls, board: Board, optimise: Optimise = "balanced", path: Path | None = None) -> Tuning:
        """With all that is counted for a board. `path` stands for the user's own table, which is ignored where it is of another compiler.

        That of the package is for every compiler: it chooses among kernels that are all right. Raises OutputError.
        """
        tables = tuple(table for table in shipped() if table.processor == processor(board))
        own = path or cached(board)
        if board.is_host or (path is None and not own.is_file()):
            return cls(board, tables, optimise, f"{path} is ignored: kernels are not counted on the host" if path else "")
        table = Table.read(own)
        for what, found, here in (("processor", table.processor, processor(board)), ("compiler", table.compiler, compiler_version(board))):
            if here and found != here:
                return cls(board, tables, optimise, f"{own} is ignored: it was made for the {what} {found}, here is {here}")
        return cls(board, (table, *tables), optimise, file=own)

    def kernels(self, program: Program, optimise: Optimise | None = None) -> Kernels:
        """How kernels are found for a program."""
        optimise = optimise or self.optimise
        counts = {call: self._counts(call, nodes[0]) for call, nodes in calls_of(program).items()} if self.tables else {}
        kernels = Kernels(self.board.isa, counts, smallest=optimise == "size", cores=self.board.cores)
        return replace(kernels, most_bytes=_affordable(program, kernels)) if counts and optimise == "balanced" else kernels

    def _counts(self, call: str, node: Node) -> Mapping[str, Count | None]:
        if call not in self._known:
            having = [table for table in self.tables if call in table.calls]
            made = made_of(node, select(node, self.board.isa).choice) if having else ""
            self._known[call] = next((table.counts(call) for table in having if table.calls[call].made == made), {})
        return self._known[call]


def _affordable(program: Program, kernels: Kernels) -> dict[str, int]:
    """Call → most bytes of its code, where what is quickest would cost more than GROWTH of flash allows: dearest savings first to go."""
    listed = Kernels(kernels.isa, cores=kernels.cores)
    flash = sum(v.type.nbytes for v in (*program.constants, *program.stored(Role.PARAM)))
    limits: dict[str, int] = {}
    gains: list[tuple[float, int, str]] = []
    for call, nodes in calls_of(program).items():
        quick, plain = kernels.select(nodes[0]), kernels.counts.get(call, {}).get(str(listed.select(nodes[0]).choice))
        if quick.count is None or plain is None:
            continue
        flash += plain.code_bytes
        more, saved = quick.count.code_bytes - plain.code_bytes, len(nodes) * (plain.time - quick.count.time)
        if more > 0:
            limits[call] = plain.code_bytes
            gains.append((saved / more, more, call))
    room = GROWTH * flash
    for merit, more, call in sorted(gains, reverse=True):
        if more <= room and merit > 0:
            room -= more
            del limits[call]
    return limits


@dataclass(frozen=True)
class Sum:
    """What the calls of a program's training step (or inference) take together, and the code of all its kernels.

    `instructions` and `cycles` are of a step, None where a call was not counted; `code_bytes` of kernels without what they share;
    `counted` of `calls` distinct ones.
    """

    instructions: int | None
    cycles: int | None
    code_bytes: int
    counted: int
    calls: int


def summed(program: Program, kernels: Kernels) -> Sum:
    """By the counts of the choices that these kernels take."""
    calls = {call: kernels.select(nodes[0]).count for call, nodes in calls_of(program).items()}
    step = program.entries.get("train", program.entries["infer"])
    each = [calls[call_text(node)] for node in step.nodes if not node.op.view]
    known_ = [count for count in each if count is not None]
    whole = len(known_) == len(each)
    cycles = [count.cycles for count in known_ if count.cycles is not None]
    found = [count for count in calls.values() if count is not None]
    return Sum(
        sum(count.instructions for count in known_) if whole else None, sum(cycles) if whole and len(cycles) == len(each) else None,
        sum(count.code_bytes for count in found), len(found), len(calls),
    )


def calls_of(program: Program) -> dict[str, list[Node]]:
    """Distinct calls of a program, and the nodes that make them."""
    found: dict[str, list[Node]] = {}
    for graph in program.entries.values():
        for node in graph.nodes:
            if not node.op.view:
                found.setdefault(call_text(node), []).append(node)
    return found
