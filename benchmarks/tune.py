# SPDX-License-Identifier: Apache-2.0
"""The table of counts that comes with the package: `tinytrain tune` for every row of `make bench-speed`.

Run it with `python benchmarks/tune.py`, after kernels have changed; words choose rows as those of speed.py do. All counts are kept in
benchmarks/out/tuned: an interrupted run goes on. Writes tinytrain/emit/tuned.json. Then each row's step is counted as a whole,
with the table and without: where it is not quicker, or takes more instructions than speed.py promises, its calls are left out.
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
from tinytrain.emit import tuned
from tinytrain.emit.select import Count
from tinytrain.emit.tuned import SHIPPED, Entry, Table, cached, calls_of
from tinytrain.errors import TinytrainError
from tinytrain.jobs import Jobs
from tinytrain.report.live import training_bar
from tinytrain.target.board import load_board
from tinytrain.tune.tune import tune_program

OUT = Path(__file__).resolve().parent / "out" / "tuned"


def taken(workload: speed.Workload, limit: speed.Limit, *tables: Table) -> tuple[int, int]:
    """Instructions and estimated cycles of a whole step where these tables ship."""
    shipped = tuned.shipped
    tuned.shipped = lambda: tables                        # type: ignore[assignment]
    try:
        with tempfile.TemporaryDirectory() as folder:
            row = speed.measure(workload, limit, Path(folder))
    finally:
        tuned.shipped = shipped
    assert row.estimated_cycles is not None
    return row.instructions, row.estimated_cycles


def slim(path: Path) -> Table:
    """A table as it ships."""
    table = Table.read(path)
    table.calls = {call: needed(entry) for call, entry in sorted(table.calls.items())}
    return table


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
    held: list[tuple[Path, list[str]]] = []
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
                    (instructions, cycles), (_, before) = taken(workload, limit, slim(path)), taken(workload, limit)
                    print(f"step       {instructions:,} instructions, {cycles:,} estimated cycles, {before:,} as listed", flush=True)
                    if cycles >= before or instructions > limit.instructions:
                        held.append((path, [*calls_of(program)]))
                        print("left out   of the table", flush=True)
                except (TinytrainError, FileNotFoundError) as error:
                    print(f"left out: {error}", flush=True)
    tables = {path: slim(path) for path in sorted(OUT.glob("*.json"))}
    for path, calls in held:
        for call in calls:
            tables[path].calls.pop(call, None)
    write_text(SHIPPED, "[\n" + ",\n".join(json.dumps(table.plain()) for table in tables.values()) + "\n]\n")
    print(os.path.relpath(SHIPPED))


if __name__ == "__main__":
    main()
