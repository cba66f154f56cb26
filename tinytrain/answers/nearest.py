# SPDX-License-Identifier: Apache-2.0
"""What would fit in place of what does not: smaller schemes, numbers stored in less, other boards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice, zip_longest
from pathlib import Path

from tinytrain.answers.candidates import Candidate, Variant, is_quantised, real_boards, variant
from tinytrain.compiler import Options, chosen_scheme
from tinytrain.emit.fit import Room
from tinytrain.errors import DoesNotFit, TinytrainError
from tinytrain.report.live import Progress
from tinytrain.report.text import room_text
from tinytrain.schemes.scheme import Scheme
from tinytrain.search.cost import Costs
from tinytrain.target.board import Board

NUMBER = 3
_ALL = "`tinytrain fit` compares all boards, schemes and ways to store numbers."


@contextmanager
def suggesting(model: Path, options: Options, progress: Progress) -> Iterator[None]:
    """A DoesNotFit of the block is raised with the nearest things that would fit; not where pages of a store are what lacks, nor where the
    search for them fails, as on a board folder that is not valid.
    """
    try:
        yield
    except DoesNotFit as error:
        if options.store or options.loss is None:
            raise
        try:
            found = nearest(model, options, progress)
        except TinytrainError:
            raise error from None
        raise unfit(error, found) from error


def check_room(name: str, room: Room | None, model: Path, options: Options, progress: Progress) -> None:
    """Raise DoesNotFit with the nearest things that would fit, where a plan lacks memory."""
    if room is not None and not room.fits:
        raise unfit(DoesNotFit(f"{name} {room_text(room)} on {options.board}."), nearest(model, options, progress))


def unfit(error: DoesNotFit, found: Sequence[Candidate]) -> DoesNotFit:
    """The same error with them in place of its hint."""
    if not found:
        return DoesNotFit(*error.sentences, details=error.details, hint=f"Nothing near to it fits. {_ALL}")
    width = max(len(_said(one)) for one in found)
    lines = [f"  {_said(one).ljust(width)}  {room_text(one.cost.room)}" for one in found]
    return DoesNotFit(*error.sentences, details=[*error.details, "Nearest that fit:", *lines], hint=_ALL)


def _said(one: Candidate) -> str:
    """What asks for it."""
    return f"--board {one.board.name} --scheme {one.scheme} {one.asks}".rstrip()


def nearest(model: Path, options: Options, progress: Progress) -> list[Candidate]:
    """Up to `NUMBER` candidates that fit: one of each way to make do with less first, then the next of each.

    Of schemes, and of ways to store numbers, the ones that train most; of boards the cheapest. Raises TinytrainError.
    """
    progress.start("looking for what would fit", NUMBER)
    found: list[Candidate] = []
    with tempfile.TemporaryDirectory(prefix="tinytrain-") as folder:
        given = Variant(options.dtype, Costs(model, options), "--dtype fp16" if options.dtype == "fp16" else "")
        asked = chosen_scheme(options.scheme, given.costs.forward, given.costs.frozen, options)
        ways = (_smaller(given, asked), _narrower(model, options, asked, Path(folder)), _elsewhere(given, asked))
        for one in chain.from_iterable(zip_longest(*ways)):
            if one is not None:
                found.append(one)
                progress.advance(one.scheme)
            if len(found) == NUMBER:
                break
    return found


def _fitting(made: Variant, board: Board, schemes: Iterable[Scheme]) -> Iterator[Candidate]:
    return (one for scheme in schemes if not made.hopeless(board, scheme) and (one := made.on(board, scheme)).fits)


def _smaller(made: Variant, asked: Scheme) -> Iterator[Candidate]:
    """The same board with schemes that train less."""
    return _fitting(made, made.costs.board, (scheme for scheme in made.schemes if scheme.layers != asked.layers))


def _narrower(model: Path, options: Options, asked: Scheme, folder: Path) -> Iterator[Candidate]:
    """The same board with fp16, and with int8: as much as fits of each."""
    if options.dtype != "fp32" or options.grad != "fp32" or is_quantised(model, options):
        return
    for dtype in ("fp16", "int8"):
        try:
            made = variant(model, options, dtype, None, folder)
            yield from islice(_fitting(made, made.costs.board, _with_presets(made, asked)), 1)
        except TinytrainError:
            continue                                      # the model has no such form


def _elsewhere(made: Variant, asked: Scheme) -> Iterator[Candidate]:
    """The same scheme on other boards; if none has room for it, as much as fits of each."""
    others, fits = [board for board in real_boards() if board.name != made.costs.board.name], False
    for board in others:
        for one in _fitting(made, board, [asked]):
            fits = True
            yield one
    for board in () if fits else others:
        yield from islice(_fitting(made, board, made.schemes), 1)


def _with_presets(made: Variant, asked: Scheme) -> list[Scheme]:
    """What was asked for first, if it has a name by which it can be asked for of another form of the model."""
    return [*([asked] if asked.preset else []), *made.schemes]
