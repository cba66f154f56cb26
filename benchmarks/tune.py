# SPDX-License-Identifier: Apache-2.0
"""The table of counts that comes with the package: `tinytrain tune` for every row of `make bench-speed`.

Run it with `python benchmarks/tune.py`, after kernels have changed; words choose rows as those of speed.py do. All counts are kept in
benchmarks/out/tuned: an interrupted run goes on. Writes tinytrain/emit/tuned.json. Where fewer estimated cycles would cost more
instructions than speed.py promises of a row, its calls have only choices that take no more instructions than the listed ones.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import speed

from tinytrain.atomic import write_text
from tinytrain.emit.select import Count
from tinytrain.emit.tuned import SHIPPED, Entry, Table, Tuning, cached, calls_of, summed
from tinytrain.errors import TinytrainError
from tinytrain.ir.graph import Program
from tinytrain.jobs import Jobs
from tinytrain.report.live import training_bar
from tinytrain.target.board import Board, load_board
from tinytrain.tune.tune import tune_program

OUT = Path(__file__).resolve().parent / "out" / "tuned"


def keep_promise(table: Table, program: Program, board: Board, most: int) -> bool:
    """Whether a step takes no more than `most` instructions by the table; or else choices are left out of it."""
    taken = summed(program, Tuning(board, (table,)).kernels(program)).instructions
    if taken is None or taken <= most:
        return True
    for call in calls_of(program).keys() & table.calls.keys():
        entry = table.calls[call]
        listed, *_ = entry.counts.values()
        kept = {choice: c for choice, c in entry.counts.items() if listed is None or c is None or c.instructions <= listed.instructions}
        table.calls[call] = dataclasses.replace(entry, counts=kept)
    return False


def needed(entry: Entry) -> Entry:
    """Without choices that nobody would take: another one that asks for no more scratch is as good by every measure, and better by one."""
    counts = {choice: count for choice, count in entry.counts.items() if count is not None}
    frugal = {choice: count for choice, count in counts.items() if not choice.partition(":")[0].endswith(" packed")}
    kept = {choice for group in (counts, frugal) for choice in [*[*group][:1], *best(group)]}
    return dataclasses.replace(entry, counts={choice: count for choice, count in entry.counts.items() if choice in kept})


def best(group: dict[str, Count]) -> Iterator[str]:
    """Those than which no other is better by one measure and as good by all."""
    measures = {choice: (count.instructions, count.time, count.code_bytes) for choice, count in group.items()}
    for choice, mine in measures.items():
        if not any(other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in measures.values()):
            yield choice


def main() -> None:
    rows = [(workload, limit) for workload in speed.WORKLOADS for limit in workload.limits]
    held: list[tuple[Path, Program, Board, int]] = []
    for workload, limit in rows:
        name = limit.board
        if all(word in f"{workload.name} {name}" for word in sys.argv[1:]):
            board = load_board(name)
            path = OUT / cached(board).name
            with tempfile.TemporaryDirectory() as folder, training_bar() as bar:
                print(f"{workload.name} on {name}", flush=True)
                try:
                    program = workload.make(Path(folder), name)[0].program
                    print(tune_program(program, board, Jobs(), bar, path=path), flush=True)
                    if not keep_promise(Table.read(path), program, board, limit.instructions):
                        held.append((path, program, board, limit.instructions))
                        print("held       to the instructions of the listed kernels", flush=True)
                except (TinytrainError, FileNotFoundError) as error:
                    print(f"left out: {error}", flush=True)
    tables = {path: Table.read(path) for path in sorted(OUT.glob("*.json"))}
    for path, *row in held:
        keep_promise(tables[path], *row)
    for table in tables.values():
        table.calls = {call: needed(entry) for call, entry in sorted(table.calls.items())}
    write_text(SHIPPED, "[\n" + ",\n".join(json.dumps(table.plain()) for table in tables.values()) + "\n]\n")
    print(os.path.relpath(SHIPPED))


if __name__ == "__main__":
    main()
