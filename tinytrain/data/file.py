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
ORDERS = (FIRST, LAST)


@dataclass(frozen=True)
class DataFile:
    """A data file or folder. A sample that the model gets is (value · scale − mean) / std.

    `columns` and `targets` name those of a table, or count them from 1; without them the file's own names decide. `window` rows of a
    series make one sample, the next of which begins `step` rows later; 0: each row, or each first index, is one. `order` is that of the
    axes in the file, None where their sizes say it. `mean` and `std` are one number, one a channel, or one an element.
    `normal` is the class that a model of what is normal was trained on.
    """

    path: Path
    targets: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    window: int = 0
    step: int = 0
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    order: str | None = None
    normal: str | None = None

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def of(cls, given: DataFile | Path | str) -> DataFile:
        """A path alone is read without further ado."""
        return given if isinstance(given, DataFile) else cls(Path(given))

    def at(self, path: Path | None) -> DataFile | None:
        """Another file that is read as this one is."""
        from dataclasses import replace

        return None if path is None else replace(self, path=path)

    @property
    def stride(self) -> int:
        """Rows from one window to the next."""
        return self.step or self.window

    def refuse(self, kind: str, *names: str) -> None:
        """Raise DataError where an option is given that has no effect on such data."""
        options = {"targets": "--label", "columns": "--channels", "window": "--window", "order": "--layout"}
        if given := next((options[name] for name in names if getattr(self, name)), None):
            raise DataError(f"{self.path} is {kind}: {given} has no effect on it.", hint=f"Leave {given} out.")

    def scaled(self, x: Array, channel: int) -> Array:
        """(n, …) float32 in the model's axes, of which `channel`, without the batch, has one mean for each. Raises DataError."""
        if not self.scales:
            return x
        scaled = x.astype(np.float64) * self.scale
        scaled -= self._by_channel("--mean", self.mean or (0.0,), x.shape[1:], channel)
        scaled /= self._by_channel("--std", self.std or (1.0,), x.shape[1:], channel)
        with np.errstate(over="ignore"):
            return scaled.astype(np.float32)

    @property
    def scales(self) -> bool:
        return self.scale != 1 or bool(self.mean) or bool(self.std)

    def scaling_text(self) -> str:
        """As a sentence about values can hold it."""
        if not self.scales:
            return "taken as they are"
        said = [f"times {self.scale:.6g}"] if self.scale != 1 else []
        said += [f"minus {_listed(self.mean)}"] if self.mean else []
        said += [f"divided by {_listed(self.std)}"] if self.std else []
        return ", ".join(said)

    def _by_channel(self, option: str, numbers: Sequence[float], shape: tuple[int, ...], channel: int) -> Array:
        if len(numbers) == 1:
            return np.array(numbers[0])
        if len(shape) > 0 and len(numbers) == shape[channel]:
            axes = [1] * len(shape)
            axes[channel] = len(numbers)
            return np.array(numbers).reshape(axes)
        message = f"{option} has {len(numbers)} numbers; expected one, or one for each of the {shape[channel] if shape else 1} channels."
        raise DataError(message, hint=f"The model takes samples of shape ({', '.join(map(str, shape))}).")


def _listed(numbers: Sequence[float]) -> str:
    few = [f"{number:.6g}" for number in numbers[:4]]
    return f"({', '.join(few)}{', …' if len(numbers) > len(few) else ''})" if len(numbers) > 1 else few[0]
