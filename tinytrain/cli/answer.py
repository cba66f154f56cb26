# SPDX-License-Identifier: Apache-2.0
"""What a command says: text for people, or with --json one document for programs, of the kinds of `tinytrain.cli.results`.

Standard output has the answer, standard error everything about the way to it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import click

from tinytrain.cli.option import Option

if TYPE_CHECKING:
    from tinytrain.cli.results import Result
    from tinytrain.report.live import Progress

JSON_ASKED, QUIET_ASKED, DEBUG_ASKED = "tinytrain.json", "tinytrain.quiet", "tinytrain.debug"
JSON = Option(
    ["--json"], is_flag=True, expose_value=False, section="Output", help="Print one JSON document (docs/json.md), and no text.",
    callback=lambda ctx, param, value: ctx.meta.__setitem__(JSON_ASKED, value or ctx.meta.get(JSON_ASKED, False)),
)
QUIET = Option(
    ["-q", "--quiet"], is_flag=True, expose_value=False, section="Output", help="Print errors, and what was asked for; not what was made.",
    callback=lambda ctx, param, value: ctx.meta.__setitem__(QUIET_ASKED, value),
)
DEBUG = Option(
    ["--debug"], is_flag=True, is_eager=True, expose_value=False, section="Output", help="Show the traceback of an error.",
    callback=lambda ctx, param, value: ctx.meta.__setitem__(DEBUG_ASKED, value or ctx.meta.get(DEBUG_ASKED)),
)


@dataclass(frozen=True)
class Answer:
    """What a command gives back: `text` as people read it, `result` for programs.

    `asked`: the text is what the command is for, and not about files that it made; --quiet leaves it.
    """

    text: str
    result: Result
    asked: bool = False
    exit_code: int = 0


def show(ctx: click.Context, answer: Answer) -> None:
    """Print an answer in the form that was asked for."""
    if ctx.meta[JSON_ASKED]:
        click.echo(json_of(answer.result.schema, asdict(answer.result)))
    elif answer.text and (answer.asked or not ctx.meta.get(QUIET_ASKED)):
        click.echo(answer.text)


def fail(ctx: click.Context, sentence: str, details: Sequence[str] = (), hint: str | None = None, *, said: bool = True) -> None:
    """Print an error as people read it, unless something else does it, and beside that as JSON where that was asked for."""
    if said:
        click.echo("\n".join([f"tinytrain: {sentence}", *details, *([hint] if hint else [])]), err=True)
    if ctx.meta[JSON_ASKED]:
        click.echo(json_of("error/1", {"error": sentence, "details": details, "hint": hint}))


def say(line: str, *, asked: bool = False) -> None:
    """A line on the way to the answer; with --quiet only where it was `asked` for."""
    meta = click.get_current_context().meta
    if asked or not meta.get(QUIET_ASKED):
        click.echo(line, err=meta[JSON_ASKED])


class Spoken(list[str]):
    """Lines that are said at once, and are the answer; `asked` as there."""

    def __init__(self, *, asked: bool = False) -> None:
        super().__init__()
        self.asked = asked

    def __call__(self, line: str) -> None:
        self.append(line)
        say(line, asked=self.asked)

    def answer(self) -> Answer:
        from tinytrain.cli.results import Said

        return Answer("", Said(tuple(self)))


@contextmanager
def progress() -> Iterator[Progress]:
    """How far long work is, as `report.live` shows it; nothing of it with --quiet."""
    from tinytrain.report.live import Quiet, training_bar

    if click.get_current_context().meta.get(QUIET_ASKED):
        yield Quiet()
        return
    with training_bar(say) as bar:
        yield bar


def json_of(schema: str, fields: Mapping[str, Any]) -> str:
    """A document. JSON has no NaN and no infinity: null stands for them."""
    return json.dumps(_plain({"schema": f"tinytrain/{schema}", **fields}), indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return str(value) if isinstance(value, PurePath) else value
