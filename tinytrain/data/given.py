# SPDX-License-Identifier: Apache-2.0
"""Samples and targets that a program has as arrays: in the model's own layout, and nothing is guessed about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinytrain.data.dataset import Dataset, NoTargets, Target, Vectors, arrange, load_dataset
from tinytrain.data.file import OPTIONS, DataFile
from tinytrain.data.layout import Layout
from tinytrain.data.several import load_records, records
from tinytrain.errors import DataError
from tinytrain.ir.types import Array

Arrays = ArrayLike | Mapping[str, ArrayLike]


@dataclass(frozen=True, eq=False)
class Given:
    """x: (n, *input shape without the batch). y: (n,) integer labels, (n, *output shape), or None.

    Of a model with several inputs, or with targets of several outputs, x or y is a mapping from their names.
    """

    x: Arrays
    y: Arrays | None = None

    def __str__(self) -> str:
        return "data"


Source = Path | DataFile | Given
File = str | Path | DataFile
Samples = Arrays | File                                   # as a program gives them
Pair = tuple[Arrays, Arrays]                              # x and y


def source_of(x: Samples | Given, y: Arrays | None = None) -> Source:
    """A file has its own targets."""
    return Path(x) if isinstance(x, str) else x if isinstance(x, (Path, DataFile, Given)) else Given(x, y)


def source_of_both(given: Pair | Samples | Given) -> Source:
    """A pair is x and y; anything else is x alone, or a file."""
    return Given(*given) if isinstance(given, tuple) and len(given) == 2 else source_of(given)


def dataset(source: Source, layout: Layout, target: Target, *, split: str = "train", classes: Sequence[str] = ()) -> Dataset:
    """The samples of a file, or those given; `classes` are the names that labels are known by. Raises DataError as `load_dataset` does."""
    if not isinstance(source, Given):
        return load_dataset(source, layout, target, split=split, classes=classes)
    x, y = _array(source.x, "x"), None if source.y is None else _array(source.y, "y")
    _check(x, layout, "x")
    if isinstance(target, Vectors) and y is not None and (y.dtype.kind == "f" or y.ndim > 1):
        _check(y, target.layout, "y")
    try:
        return arrange(x, y, layout, target, str(source), classes=classes)
    except NoTargets:
        raise NoTargets("x is given without targets; expected both.", hint="Give y, or x and y as a pair.") from None


def dataset_of_records(source: Source, inputs: Mapping[str, Layout], targets: Mapping[str, Target], *, split: str = "train") -> Dataset:
    """The same for models with several inputs or outputs. Raises DataError as `load_records` does."""
    if not isinstance(source, Given):
        file = DataFile.of(source)
        file.refuse("for a model with several inputs or outputs", *OPTIONS)
        return load_records(file.path, inputs, targets, split=split)
    named = {**_named(source.x, [*inputs], "x"), **(_named(source.y, [*targets], "y") if source.y is not None else {})}
    layouts = {**inputs, **{name: target.layout for name, target in targets.items() if isinstance(target, Vectors)}}
    for name, layout in layouts.items():
        if name in named:
            _check(named[name], layout, name)
    return records(_Named(named), inputs, targets, split=split)


class _Named:
    """Arrays by name, as an .npz has them."""

    path = "data"

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self.entries = arrays

    def names(self) -> str:
        return ", ".join(self.entries) or "none"

    def read(self, name: str) -> Array:
        return self.entries[name]


def _named(arrays: Arrays, names: list[str], what: str) -> dict[str, Array]:
    """A single one needs no name."""
    if not isinstance(arrays, Mapping):
        if len(names) != 1:
            message = f"{what} is one array; expected a mapping of {', '.join(names)} to one each."
            raise DataError(message, hint=f"{what}={{{', '.join(f'{name!r}: ...' for name in names)}}}")
        return {names[0]: _array(arrays, what)}
    if strange := [name for name in arrays if name not in names]:
        raise DataError(f"{what} has {strange[0]!r}; expected {', '.join(names)}.", hint="The names are those of the model.")
    return {name: _array(array, f"{what}[{name!r}]") for name, array in arrays.items()}


def _array(given: Any, what: str) -> Array:
    if isinstance(given, Mapping):
        message = f"{what} is a mapping; expected one array, as the model has one input and one output."
        raise DataError(message, hint="Give the array alone.")
    try:
        return np.asarray(given)
    except ValueError as error:                           # rows of different lengths
        raise DataError(f"{what} is no array: {error}.", hint="Give a NumPy array, or rows of one length.") from None


def _check(array: Array, layout: Layout, what: str) -> None:
    """Of another shape only a file is taken: whoever has an array can put it in order."""
    found, wanted = array.shape[1:], layout.shape
    if array.ndim and found == wanted:
        return
    axes = ", ".join(map(str, ("n", *wanted)))
    hint = f"{what}.reshape(-1, {', '.join(map(str, wanted))}) where the values are in that order." if wanted else f"{what}.reshape(-1)"
    if array.ndim and array.shape == wanted:
        hint = f"A single one is a batch of one: {what}[None]"
    elif found == layout.device_shape:
        inverse = (0, *(1 + layout.perm.index(axis) for axis in range(len(layout.perm))))
        hint = f"Its channels are last: {what}.transpose{inverse}"
    raise DataError(f"{what} has the shape {array.shape}; expected ({axes}) as in the model.", hint=hint)
