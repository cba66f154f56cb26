# SPDX-License-Identifier: Apache-2.0
"""Tuning a program: each of its calls is tried with all kernels and factors, unless the table has it. Every result is kept at once."""

from __future__ import annotations

from pathlib import Path

from tinytrain.emit.select import Count, decided
from tinytrain.emit.tuned import Entry, Table, cached, processor
from tinytrain.errors import DoesNotFit, ToolError
from tinytrain.ir.graph import Program
from tinytrain.jobs import Jobs
from tinytrain.report.live import Progress
from tinytrain.report.text import table
from tinytrain.target.board import Board
from tinytrain.target.build import compiler_version, find_tools
from tinytrain.tune.bench import Tried, tried
from tinytrain.tune.trial import Trial, trials


def tune_program(
    program: Program, board: Board, jobs: Jobs, progress: Progress, *, cost: str = "cycles", path: Path | None = None, again: bool = False
) -> str:
    """Count what is not counted yet (`again`: everything), into the table at `path` (the user's own without it); what was found, as text.

    Raises ToolError where the board has no emulator or a tool is missing, OutputError where the table cannot be read or written.
    """
    if not board.machine:
        message = f"Board {board.name} has no emulator, and kernels are counted in one."
        raise ToolError(message, hint="Choose one that `tinytrain boards` lists with an emulator.")
    find_tools(board)
    own = path or cached(board)
    found = _table(own, board, progress)
    found.cost = cost
    all_ = trials(program, board, least=1)
    left = [trial for trial in all_ if again or not _has(found, trial)]
    progress.start("tuning", len(left))
    for trial, result in jobs.run(attempted, left, key=lambda trial: trial.call):
        for choice, why in result["wrong"].items():
            progress.say(f"wrong      {choice} in {trial.origin} ({trial.call}): {why}; it is not kept")
        if result["counts"]:
            counts: dict[str, Count | None] = {choice: Count(*numbers) for choice, numbers in result["counts"].items()}
            found.calls[trial.call] = Entry(trial.made, trial.headers, {**counts, **dict.fromkeys(result["wrong"])})
            found.write(own)
        progress.advance(trial.origin)
    found.write(own)
    return _text(all_, found, own)


def _has(found: Table, trial: Trial) -> bool:
    entry = found.calls.get(trial.call)
    return entry is not None and (entry.made, entry.headers) == (trial.made, trial.headers) and entry.counts.keys() >= {*trial.choices}


def attempted(trial: Trial) -> Tried:
    """The trial, or nothing at all where the board has no room for it."""
    try:
        return tried(trial)
    except DoesNotFit as error:
        return Tried(counts={}, wrong=dict.fromkeys(trial.choices, error.sentences[0]))


def _table(path: Path, board: Board, progress: Progress) -> Table:
    """The table to go on with; a new one where there is none for this processor and compiler."""
    new = Table(processor(board), compiler_version(board))
    if not path.is_file():
        return new
    found = Table.read(path)
    if (found.processor, found.compiler) == (new.processor, new.compiler):
        return found
    progress.say(f"note       {path} was made for {found.processor} by {found.compiler}: it is replaced")
    return new


def _text(tried_: list[Trial], found: Table, path: Path) -> str:
    """Each call with what was listed and what is best."""
    rows = [["layer", "call", "listed", "best", "", "by"]]
    for trial in tried_:
        known = {choice: count for choice, count in (found.counts(trial.call) if trial.call in found.calls else {}).items() if count}
        if not known:
            rows.append([trial.origin, trial.call.partition("(")[0], "-", "-", "", "not counted"])
            continue
        listed, (best, count) = known.get(trial.choices[0]), decided([*known.items()], trial.choices[0])
        gain = f"{count.time / listed.time - 1:+.1%}" if listed else ""
        was = f"{listed.time:,}" if listed else "wrong"
        rows.append([trial.origin, trial.call.partition("(")[0], was, f"{count.time:,}", gain, best])
    unit = "instructions" if found.cost == "instructions" else "estimated cycles"
    return f"{table(rows)}\n\ncounts     {unit} of one call; {len(found.calls)} calls in {path}"
