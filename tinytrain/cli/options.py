# SPDX-License-Identifier: Apache-2.0
"""Options and arguments that several commands share, and what they say as the compiler's own types."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from tinytrain.cli.option import Option
from tinytrain.errors import TinytrainError

if TYPE_CHECKING:
    from tinytrain.api.choices import Choices
    from tinytrain.compiler import Options

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
option = functools.partial(click.option, cls=Option)


class Real(click.types.FloatParamType):
    """A finite number: click lets NaN through, in ranges too, as it compares false with both ends."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Number(Real, click.FloatRange):
    """One in a range; or a word, which stands for one that is found."""

    def __init__(self, *given: Any, word: str | None = None, **more: Any) -> None:
        super().__init__(*given, **more)
        self.word = word

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if self.word is not None and value == self.word else super().convert(value, param, ctx)


_SIZES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_COUNTS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3}


class Amount(click.ParamType):  # type: ignore[type-arg]
    """A number with a suffix: bytes, where K is 1024, or a count, where it is 1000."""

    def __init__(self, units: dict[str, int], example: str) -> None:
        self.units = units
        self.name = example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", str(value).strip(), re.IGNORECASE)
        if not found or (amount := round(float(found[1]) * self.units[found[2].upper()])) <= 0:
            self.fail(f"{value} is not an amount like {self.name}.", param, ctx)
        return amount


BYTES, COUNT = Amount(_SIZES, "150K"), Amount(_COUNTS, "60M")


def together(*options: Callable[[Decorated], Decorated]) -> Callable[[Decorated], Decorated]:
    """Several options as one decorator, in the order in which --help shows them."""

    def decorate(command: Decorated) -> Decorated:
        for one in reversed(options):
            command = one(command)
        return command

    return decorate


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        if not name or not all(re.fullmatch(r"\s*[0-9]{1,9}\s*", s) for s in sizes.split(",")):
            raise TinytrainError(f"--shape {text}: expected INPUT=1,3,32,32.")
        shapes[name] = tuple(int(s) for s in sizes.split(","))
    return shapes


def compiler_options(board: str, *, several: bool = False, **given: Any) -> Options:
    """What the options of `model_options` took, as the compiler's own; those that a command does not have are as they are there.

    Raises TinytrainError where they do not fit together.
    """
    from tinytrain.api.choices import options_of

    schemes = given.pop("schemes")
    return options_of(board, schemes if several else [one_scheme(schemes)], choices(given))


def one_scheme(schemes: Sequence[str]) -> str:
    """Raises TinytrainError where there are several."""
    if len(schemes) > 1:
        raise TinytrainError(f"--scheme is given {len(schemes)} times; expected one.", hint="Only `tinytrain compile` takes several.")
    return schemes[0]


def choices(given: Mapping[str, Any]) -> Choices:
    """What `model_options` took, with texts as what they mean. Raises TinytrainError where they mean nothing."""
    weights = given.get("class_weights")
    return cast("Choices", {
        **given, "shapes": parse_shapes(given["shapes"]), "rates": dict(map(_rate, given.get("rates", ()))),
        "class_weights": weights if weights in (None, "balanced") else weights.split(","),
    })


def _rate(text: str) -> tuple[str, float]:
    layer, _, number = text.rpartition("=")
    if not layer:
        raise TinytrainError(f"--rate {text}: expected LAYER=FACTOR.", hint="`tinytrain scheme show` lists the layers.")
    return layer, _number(number)


def _number(text: str) -> float:
    """NaN where the text is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


MODEL = click.argument("model", type=click.Path(path_type=Path))
PROJECT = click.argument("project", type=click.Path(path_type=Path))
device = functools.partial(click.option, cls=Option, section="Device")
TIMEOUT = device("--timeout", type=Number(0, min_open=True), default=60.0, show_default=True,
                 help="Seconds to wait for one answer of the device.")
PORT_KINDS = "/dev/ttyACM0, COM3, socket://HOST:PORT, or auto for the only one on USB"
PORT = device("--port", metavar="PORT", help=f"Serial port of the real board that runs PROJECT: {PORT_KINDS}; without it an "
              "emulator, or this computer.")
BAUD_RATE: dict[str, Any] = {"type": click.IntRange(300, 20_000_000), "default": 115_200, "show_default": True}
BAUD = device("--baud", **BAUD_RATE, only_with="--port", help="Rate of --port, bits a second.")
TRUST = device("--trust", is_flag=True, help="Run the C of PROJECT as it is, though others made it or it was changed.")


def _boards(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    """Names that a shell completes."""
    from tinytrain.target.board import board_names

    return [name for name in board_names() if name.startswith(begun)]


BOARD = option("--board", default="host", show_default=True, shell_complete=_boards,
               help="A board by name (see `tinytrain boards`), or the path of its file or folder.")


def device_options(command: Decorated) -> Decorated:
    """Options that say which device runs PROJECT. The command gets that project opened, and `timeout`; its own options stand before."""

    @functools.wraps(command)
    def opened(project: Path, port: str | None, baud: int, trust: bool, **given: Any) -> Any:
        from tinytrain.device.project import Project

        return command(project=Project.open(project, trust=trust, port=port, baud=baud), **given)

    return together(PORT, BAUD, TIMEOUT, TRUST)(cast(Decorated, opened))


_job = functools.partial(click.option, cls=Option, section="Where it runs")

# Where jobs run: the fields of `tinytrain.jobs.Jobs`.
job_options = together(
    _job("--jobs", "processes", type=click.IntRange(1), help="Processes on this machine; one a core without it."),
    _job("--cluster", metavar="tcp://HOST:PORT", help="Run on the dask cluster with this scheduler."),
    _job("--cache", type=click.Path(path_type=Path), help="Folder for finished results; ~/.cache/tinytrain/jobs without it."),
)
