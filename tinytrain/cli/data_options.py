# SPDX-License-Identifier: Apache-2.0
"""Options that say which samples are read, and how (docs/data.md), and from where on an output means something."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import click

from tinytrain.cli.option import Option, asked
from tinytrain.cli.options import Decorated, Number, Real, option, together
from tinytrain.errors import TinytrainError


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """Finite numbers with commas between, each maybe a fraction."""

    name = "N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        numbers = []
        for part in str(value).split(","):
            above, slash, below = part.partition("/")
            try:
                number = float(above) / (float(below) if slash else 1.0)
            except (ValueError, ZeroDivisionError):
                number = math.nan
            if not math.isfinite(number):
                self.fail(f"{value} is not numbers as 0.5, 1/255 or 0.1,0.2,0.3.", param, ctx)
            numbers.append(number)
        return tuple(numbers)


class Names(click.ParamType):  # type: ignore[type-arg]
    """Texts with commas between."""

    name = "A,B,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        return tuple(name.strip() for name in str(value).split(","))


KINDS = "npz with x and y, npy, csv, or a folder of images"
_read = functools.partial(click.option, cls=Option, section="How data is read")
_reading = together(
    _read("--label", "--target", "targets", type=Names(),
          help="Columns of a csv that are the target, by name or counted from 1; without it the one that is called so, or the last ones."),
    _read("--channels", "columns", type=Names(),
          help="Columns of a csv that are the sample, in the order of the model; all others without it."),
    _read("--window", type=click.IntRange(1), metavar="ROWS", help="The data is a series: so many rows make one sample."),
    _read("--step", type=click.IntRange(1), metavar="ROWS", only_with="--window",
          help="Rows from one window to the next; as many as it has without it."),
    _read("--scale", type=Numbers(), help="What values are multiplied by first, as 1/255: one number, or one for each channel."),
    _read("--mean", type=Numbers(), help="What is then taken off."),
    _read("--std", type=Numbers(), help="What the rest is divided by."),
    _read("--layout", "order", type=click.Choice(["channels-first", "channels-last"]),
          help="Order of the axes of samples in the file; what their sizes say without it."),
    _read("--normal", metavar="CLASS", help="Of a model that gives back what is normal: the class that is."),
)

# What says yes, or that a sample is not normal.
threshold_options = together(
    option("--percentile", type=Number(50, 100, min_open=True), show_default="99",
           help="Of a model that gives back what is normal: part of normal samples that the suggested threshold lets pass."),
    option("--threshold", type=Real(), not_with="--percentile",
           help="The threshold of such a model, or of outputs that say yes, to measure it."),
)


def data_options(what: str = "Samples", *, required: bool = True) -> Callable[[Decorated], Decorated]:
    """The command gets `data`, and `validation`, `remember` and `old` where it has them, as a `DataFile`."""

    def decorated(command: Decorated) -> Decorated:
        @functools.wraps(command)
        def read(data: Path | None, **given: Any) -> Any:
            from tinytrain.data.file import OPTIONS, DataFile

            how = {name: value for name in OPTIONS if (value := given.pop(name)) is not None}
            beside = {name: path for name in ("validation", "remember", "old") if (path := given.get(name)) is not None}
            if data is None and not beside:
                if name := next((name for name in how if asked(click.get_current_context(), name)), None):
                    raise TinytrainError(f"{OPTIONS[name]} has no effect without --data.", hint="Leave it out, or give both.")
                return command(data=None, **given)
            given |= {name: DataFile(path, **how) for name, path in beside.items()}
            return command(data=None if data is None else DataFile(data, **how), **given)

        data = option("--data", type=click.Path(path_type=Path), required=required, help=f"{what}: {KINDS}.")
        return together(data, _reading)(cast(Decorated, read))

    return decorated
