# SPDX-License-Identifier: Apache-2.0
"""`tinytrain fit`: which scheme of a model trains on which board, in how much memory, and how long a step takes.

Nothing is compiled: memory is what the planner says, code, instructions and cycles are estimates from counts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinytrain.answers.candidates import (
    DTYPES,
    Candidate,
    Variant,
    cheapest_first,
    is_quantised,
    presets,
    trained,
    variant,
    with_batchnorms,
)
from tinytrain.compiler import Options
from tinytrain.data.given import Source
from tinytrain.errors import TinytrainError
from tinytrain.report.live import Progress
from tinytrain.report.text import kilobytes, milliseconds_text, room_text, table
from tinytrain.schemes.scheme import Scheme, check_trains, is_auto, preset, resolve
from tinytrain.target.board import Board

BASIS = (
    "ms         of a step: cycles by the core's timing table (boards/core) over counted kernels, at the clock that the firmware sets",
    "left out   waits for flash and caches, wrongly predicted branches, interrupts, and what brings the samples",
    "RAM        arena, buffers and reserved stack, as planned; flash: constants and first values, and an estimate of the code",
    "$          about what the maker of the kit asked, where its board says so: for order only",
)
BATCHNORM = "batchnorm"
_HALVES = "fp16: kernels not counted are taken for those of fp32; a core that only stores halves takes a fifth to three quarters more"
_SOFT = "; without a unit for them floats take as long as their values have it, half or twice of what stands here"


@dataclass(frozen=True)
class Request:
    """What is asked for. `schemes` None: all presets; `dtypes`: of `DTYPES`; `every`: all of them, not the largest that fits alone;
    `budget_bytes` of RAM are what presets that fill a budget take, the board's memory without them."""

    boards: tuple[Board, ...]
    schemes: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] = DTYPES
    every: bool = False
    data: Source | None = None
    budget_bytes: int | None = None


@dataclass(frozen=True)
class Answer:
    """A line: `found` is the largest candidate that fits, or, where none does, the one that lacks least; `larger` the next one, which does
    not fit, if there is one."""

    found: Candidate
    larger: Candidate | None = None


@dataclass(frozen=True)
class Fits:
    """The lines, of the cheapest board first, and what is to be said about them."""

    model: str
    answers: tuple[Answer, ...]
    notes: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """For JSON: bytes, instructions, cycles and milliseconds of a training step."""
        return {"model": self.model, "rows": [_plain(answer.found) for answer in self.answers], "notes": list(self.notes)}


def fit(model: Path, options: Options, request: Request, progress: Progress) -> Fits:
    """Raises TinytrainError where the model cannot be trained; a way to store numbers that it does not have is a note."""
    is_int8 = is_quantised(model, options)
    dtypes = ("int8",) if is_int8 else request.dtypes
    answers: list[Answer] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="tinytrain-") as folder:
        for dtype in dtypes:
            try:
                made = variant(model, options, dtype, request.data, Path(folder))
                answers += _answers(_tries(made, model, request.schemes), request, progress)
            except TinytrainError as error:
                if len(dtypes) == 1 or dtype == "fp32":
                    raise
                notes.append(f"{dtype} is left out: {error.sentences[0]}")
    if not is_int8 and request.data is None and any(answer.found.dtype == "int8" for answer in answers):
        notes.append("int8 is calibrated on random samples, which is good for sizes and times; give --data for ranges of yours")
    if any(answer.found.scheme == BATCHNORM and "keep" in answer.found.asks for answer in answers):
        notes.append("batchnorm trains the batch norms, which are then not folded: --keep-batchnorm")
    if any(answer.found.dtype == "fp16" and _uncounted(answer.found) for answer in answers):
        notes.append(_HALVES)
    notes += _counted(answers)
    order = {board.name: place for place, board in enumerate(cheapest_first(request.boards))}
    answers.sort(key=lambda answer: order[answer.found.board.name])
    return Fits(model.name, tuple(answers), tuple(notes))


def _uncounted(one: Candidate) -> bool:
    return one.cost.estimate is not None and bool(one.cost.estimate.uncounted)


def _counted(answers: Sequence[Answer]) -> list[str]:
    """Which boards have the counts of another core."""
    others: dict[str, dict[str, None]] = {}
    for one in (answer.found for answer in answers):
        estimate = one.cost.estimate
        if estimate is not None and estimate.counted_on != one.board.core:
            others.setdefault(estimate.counted_on, {})[one.board.core] = None
    return [f"{', '.join(cores)}: kernels were counted on {core}{_SOFT if core == 'cortex-m3' else ''}" for core, cores in others.items()]


def _answers(tries: Sequence[tuple[Variant, Scheme | str]], request: Request, progress: Progress) -> list[Answer]:
    progress.start(tries[0][0].dtype, len(tries) * len(request.boards))
    tried: dict[str, list[Candidate]] = {board.name: [] for board in request.boards}
    for made, scheme in tries:
        bounded = [board for board in request.boards if not board.is_host]
        # this computer has nothing to fill; where it is all that is asked for, that is said
        unfilled = isinstance(scheme, str) and request.budget_bytes is None and bounded
        for board in sorted(bounded if unfilled else request.boards, key=made.family):
            progress.advance(f"{scheme if isinstance(scheme, str) else scheme.preset} on {board.name}")
            last = (made, scheme) == tries[-1] and not tried[board.name]
            in_vain = any(one.fits for one in tried[board.name]) or (made.hopeless(board, scheme) and not last)
            if request.every or not in_vain:
                tried[board.name].append(made.on(board, scheme, request.budget_bytes))
    if request.every:
        return [Answer(one) for each in tried.values() for one in each]
    return [_best(each) for each in tried.values() if each]


def _tries(made: Variant, model: Path, names: tuple[str, ...] | None) -> list[tuple[Variant, Scheme | str]]:
    """What is tried of a way to store numbers, that which trains most first: presets, batch norms kept for theirs.

    A preset that fills the memory of each board is there by its name.
    """
    forward = made.costs.forward
    if names is not None:
        asked = [name if is_auto(name) else resolve(name, forward) for name in names]
        known = [scheme for scheme in asked if isinstance(scheme, Scheme)]
        check_trains(known[0] if known else preset("full", forward), forward, _frozen(made))
        return [(made, scheme) for scheme in asked]
    found = presets(forward)
    check_trains(found[0] if found else Scheme({}), forward, _frozen(made))
    tries = [(made, scheme) for scheme in found]
    kept = with_batchnorms(made, model)
    if kept is None:
        return [*tries]
    tries.append((kept, preset(BATCHNORM, kept.costs.forward)))
    return [*sorted(tries, key=lambda one: -trained(one[1], one[0].costs.forward))]


def _frozen(made: Variant) -> list[str]:
    return [f"{one.name} ({one.why})" for one in made.costs.frozen]


def _best(tried: list[Candidate]) -> Answer:
    """Of candidates up to the first that fits, the largest first."""
    if tried[-1].fits:
        return Answer(tried[-1], tried[-2] if len(tried) > 1 else None)
    return Answer(max(tried, key=_left))


def _left(one: Candidate) -> int:
    room = one.cost.room
    return min(-one.over_bytes, 0 if room is None else min(room.ram_left, room.flash_left))


def _plain(one: Candidate) -> dict[str, Any]:
    cost, room, estimate = one.cost, one.cost.room, one.cost.estimate
    return {
        "board": one.board.name, "price_usd": one.board.price_usd or None, "dtype": one.dtype, "scheme": one.scheme, "fits": one.fits,
        "trained": cost.weights + cost.biases, "ram_bytes": room.ram_bytes if room else cost.ram_bytes,
        "ram_left": room.ram_left if room else None, "flash_bytes": cost.flash_bytes, "flash_left": room.flash_left if room else None,
        "instructions": cost.instructions, "cycles": cost.cycles, "milliseconds": estimate.milliseconds if estimate else None,
        "counted_on": estimate.counted_on if estimate else None, "clock_hz": one.board.clock_hz or None,
    }


def fit_text(fits: Fits) -> str:
    """The table, its notes, and what its figures mean."""
    rows = [["board", "$", "dtype", "scheme", "RAM", "flash", "instructions", "ms", ""]]
    rows += [_row(answer) for answer in fits.answers]
    return "\n".join([table(rows), "", *(f"note       {note}" for note in fits.notes), *BASIS])


def _row(answer: Answer) -> list[str]:
    one, cost, room = answer.found, answer.found.cost, answer.found.cost.room
    milliseconds = cost.estimate.milliseconds if cost.estimate else None
    verdict = _verdict(one)
    if answer.larger is not None:
        verdict += f"; {answer.larger.scheme} {_verdict(answer.larger)}"
    return [
        one.board.name, str(one.board.price_usd or "-"), one.dtype, one.scheme, kilobytes(room.ram_bytes if room else cost.ram_bytes),
        kilobytes(cost.flash_bytes), "-" if cost.instructions is None else f"{cost.instructions:,}", milliseconds_text(milliseconds),
        verdict,
    ]


def _verdict(one: Candidate) -> str:
    fits_board = one.cost.room is None or one.cost.room.fits
    return f"is {kilobytes(one.over_bytes)} over the budget" if one.over_bytes and fits_board else room_text(one.cost.room)
