# SPDX-License-Identifier: Apache-2.0
"""Where samples come from and how they are read: a path, and what no file says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinytrain.errors import DataError
from tinytrain.ir.types import Array

FIRST, LAST = "channels-first", "channels-last"
PIECE = 4096                                              # samples
Texts = str | Sequence[str]
Numbers = float | Sequence[float]
OPTIONS = {                                               # what a user knows a field by
    "targets": "--label", "columns": "--channels", "window": "--window", "step": "--step", "scale": "--scale", "mean": "--mean",
    "std": "--std", "order": "--layout", "normal": "--normal",
}


@dataclass(frozen=True)
class DataFile:
    """A data file or folder. A sample that the model gets is (value · scale − mean) / std.

    `columns` and `targets` name those of a table, or count them from 1; without them the file's own names decide. `window` rows of a
    series make one sample, the next of which begins `step` rows later; 0: each row, or each first index, is one. `order` is that of the
    axes in the file, None where their sizes say it. `scale`, `mean` and `std` are none, one number, or one a channel. `normal` is the
    class that is, of a model that gives back what is normal.
    """

    path: Path
    targets: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    window: int = 0
    step: int = 0
    scale: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    order: str | None = None
    normal: str | None = None

    def __str__(self) -> str:
        return str(self.path)

    def __post_init__(self) -> None:
        """Raises DataError for what nobody could mean."""
        if self.step and not self.window:
            raise DataError("--step has no effect without --window.", hint="Leave it out, or give both.")
        if not all((*self.scale, *self.std)):
            found = "--std" if all(self.scale) else "--scale"
            raise DataError(f"{found} is 0: nothing would be left of a value; expected another number.", hint="Try --scale 1/255.")

    @classmethod
    def of(cls, given: DataFile | Path | str) -> DataFile:
        """A path alone is read without further ado."""
        return given if isinstance(given, DataFile) else cls(Path(given))

    @property
    def stride(self) -> int:
        """Rows from one window to the next."""
        return self.step or self.window

    def refuse(self, kind: str, *names: str) -> None:
        """Raise DataError where an option is given that has no effect on such data."""
        if given := next((OPTIONS[name] for name in names if getattr(self, name)), None):
            raise DataError(f"{self.path} is {kind}: {given} has no effect on it.", hint=f"Leave {given} out.")

    @property
    def scales(self) -> bool:
        """Whether values are not taken as they are."""
        return bool(self.scale or self.mean or self.std)

    def scaled(self, x: Array, channel: int) -> Array:
        """(n, …) in the model's axes, of which `channel`, without the batch, may have numbers of its own each. Raises DataError."""
        if not self.scales:
            return x
        scale, mean, std = (
            _by_channel(option, numbers, x.shape[1:], channel)
            for option, numbers in (("--scale", self.scale or (1.0,)), ("--mean", self.mean or (0.0,)), ("--std", self.std or (1.0,)))
        )
        scaled = np.empty(x.shape, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):            # whoever checks that numbers are finite says so
            for begin in range(0, len(x), PIECE):
                rows = slice(begin, begin + PIECE)
                scaled[rows] = (x[rows] * scale - mean) / std
        return scaled

    def scaling_text(self) -> str:
        """As a sentence about values can hold it."""
        said = [
            f"{what} {_listed(numbers)}"
            for what, numbers in (("times", self.scale), ("minus", self.mean), ("divided by", self.std)) if numbers
        ]
        return f"(each {', '.join(said)})" if said else "taken as they are"


def data_file(
    path: str | Path, *, label: Texts = (), channels: Texts = (), window: int = 0, step: int = 0, scale: Numbers = (), mean: Numbers = (),
    std: Numbers = (), layout: str | None = None, normal: str | None = None,
) -> DataFile:
    """A data file and how to read it, as the options of these names on the command line say it (docs/data.md).

    `label` and `channels` are columns of a table, by name or counted from 1; `window` rows of a series are one sample. A sample is
    (value · `scale` − `mean`) / `std`, each one number or one for each channel; `layout` is channels-first or channels-last.

    Raises DataError for what nobody could mean; what does not fit the file is said where it is read.
    """
    if layout not in (None, FIRST, LAST):
        raise DataError(f"layout {layout!r} is none; expected {FIRST} or {LAST}.", hint="Leave it out where the sizes of the axes say it.")
    if min(window, step) < 0:
        raise DataError(f"window is {window} and step {step}; expected numbers of rows.", hint="Leave step out.")
    times, minus, over = (tuple(map(float, np.atleast_1d(given))) for given in (scale, mean, std))
    targets, columns = ((given,) if isinstance(given, str) else tuple(given) for given in (label, channels))
    return DataFile(Path(path), targets, columns, window, step, times, minus, over, layout, normal)


def _by_channel(option: str, numbers: Sequence[float], shape: tuple[int, ...], channel: int) -> Array:
    if len(numbers) == 1:
        return np.array(numbers[0])
    if shape and len(numbers) == shape[channel]:
        axes = [1] * len(shape)
        axes[channel] = len(numbers)
        return np.array(numbers).reshape(axes)
    message = f"{option} has {len(numbers)} numbers; expected one, or one for each of {shape[channel] if shape else 1} channels."
    raise DataError(message, hint=f"The model takes samples of shape ({', '.join(map(str, shape))}).")


def _listed(numbers: Sequence[float]) -> str:
    few = [f"{number:.6g}" for number in numbers[:4]]
    return f"({', '.join(few)}{', …' if len(numbers) > len(few) else ''})" if len(numbers) > 1 else few[0]
