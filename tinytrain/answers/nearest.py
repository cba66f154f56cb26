# SPDX-License-Identifier: Apache-2.0
"""What would fit in place of what does not: smaller schemes, numbers stored in less, other boards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, islice, zip_longest
from pathlib import Path

from tinytrain.answers.candidates import Candidate, Variant, is_quantised, real_boards, variant
from tinytrain.compiler import Options, chosen_scheme
from tinytrain.emit.fit import Room
from tinytrain.errors import DoesNotFit, TinytrainError
from tinytrain.report.text import room_text
from tinytrain.schemes.scheme import Scheme
from tinytrain.search.cost import Costs

NUMBER = 3
_ALL = "`tinytrain fit` compares all boards, schemes and ways to store numbers."


@contextmanager
def suggesting(model: Path, options: Options) -> Iterator[None]:
    """A DoesNotFit of the block is raised with the nearest things that would fit; not where pages of a store are what lacks."""
    try:
        yield
    except DoesNotFit as error:
        if options.store or options.loss is None:
            raise
        raise unfit(error, nearest(model, options)) from error


def check_room(name: str, room: Room | None, model: Path, options: Options) -> None:
    """Raise DoesNotFit with the nearest things that would fit, where a plan lacks memory."""
    if room is not None and not room.fits:
        raise unfit(DoesNotFit(f"{name} {room_text(room)} on {options.board}."), nearest(model, options))


def unfit(error: DoesNotFit, found: Sequence[Candidate]) -> DoesNotFit:
    """The same error with them in place of its hint."""
    if not found:
        return DoesNotFit(*error.sentences, details=error.details, hint=f"Nothing near to it fits. {_ALL}")
    width = max(len(_said(one)) for one in found)
    lines = [f"  {_said(one).ljust(width)}  {room_text(one.cost.room)}" for one in found]
    return DoesNotFit(*error.sentences, details=[*error.details, "Nearest that fit:", *lines], hint=_ALL)


def _said(one: Candidate) -> str:
    """The options that ask for it."""
    return " ".join(part for part in (f"--board {one.board.name}", one.asks, f"--scheme {one.scheme}") if part)


def nearest(model: Path, options: Options) -> list[Candidate]:
    """Up to `NUMBER` candidates that fit: one of each way to make do with less first, then the next of each.

    Of schemes, and of ways to store numbers, the ones that train most; of boards the cheapest. Raises TinytrainError.
    """
    with tempfile.TemporaryDirectory(prefix="tinytrain-") as folder:
        given = Variant(options.dtype, Costs(model, options), "--dtype fp16" if options.dtype == "fp16" else "")
        asked = chosen_scheme(options.scheme, given.costs.forward, given.costs.frozen, options)
        ways = (_smaller(given, asked), _narrower(model, options, asked, Path(folder)), _elsewhere(given, asked))
        turns = chain.from_iterable(zip_longest(*ways))
        return list(islice((one for one in turns if one is not None), NUMBER))


def _smaller(made: Variant, asked: Scheme) -> Iterator[Candidate]:
    """The same board with schemes that train less."""
    board = made.costs.board
    for scheme in made.schemes:
        if scheme.layers != asked.layers and (one := made.on(board, scheme)).fits:
            yield one


def _narrower(model: Path, options: Options, asked: Scheme, folder: Path) -> Iterator[Candidate]:
    """The same board with fp16, and with int8: as much as fits of each."""
    if options.dtype != "fp32" or options.grad != "fp32" or is_quantised(model, options):
        return
    for dtype in ("fp16", "int8"):
        try:
            made = variant(model, replace(options, precision=()), dtype, None, folder)
            tried = (made.on(made.costs.board, scheme) for scheme in (asked, *made.schemes) if scheme.preset)
            if (one := next((one for one in tried if one.fits), None)) is not None:
                yield one
        except TinytrainError:
            continue                                      # the model has no such form


def _elsewhere(made: Variant, asked: Scheme) -> Iterator[Candidate]:
    """The same scheme on other boards."""
    for board in real_boards():
        if board.name != made.costs.board.name and (one := made.on(board, asked)).fits:
            yield one
