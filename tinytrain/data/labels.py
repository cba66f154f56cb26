# SPDX-License-Identifier: Apache-2.0
"""Labels: whole numbers from 0, or names of classes, which become such numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.errors import DataError
from tinytrain.ir.types import Array
from tinytrain.reading import plain

SHOWN = 6
MOST_COUNTED = 20
NORMAL = ("normal", "ok", "good", "healthy", "0")          # what those may be called that a model of what is normal knows


@dataclass(frozen=True, eq=False)
class Raw:
    """What a file holds: samples and targets, one a sample, as they are there. `names`: what the numbers in `y` are called, in their order.

    `notes`: what was chosen where the file does not say it.
    """

    x: Array
    y: Array | None
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def named(y: Array) -> tuple[Array, tuple[str, ...]]:
    """(numbers, their names in alphabetical order) of labels that are texts; others stay as they are, without names."""
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", "backslashreplace")            # of another encoding, names stay apart
    if y.dtype.kind != "U" or y.size != len(y):
        return y, ()
    names, numbers = np.unique(y.reshape(-1), return_inverse=True)
    return numbers.astype(np.int32), tuple(map(str, names))


def numbered(y: Array, names: Sequence[str], known: Sequence[str], where: str) -> tuple[Array, tuple[str, ...]]:
    """(labels, names of the classes), in the order of those that are known already. Raises DataError for a class that is none of them, and
    for a name that two classes have.
    """
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise DataError(f"{where} calls two classes {plain(twice)!r}; expected a name for each.", hint="Rename one of them.")
    if not names or not known:
        return y, tuple(names or known)
    if foreign := next((name for name in names if name not in known), None):
        message = f"{where} has the class {plain(foreign)!r}; the model knows {listed(known)}."
        raise DataError(message, hint="Rename the class, or leave it out. `compile --classes` and the first training give the names.")
    labels = whole(y, len(names), where)
    place = np.array([known.index(name) for name in names], np.int32)
    return place[labels], tuple(known)


def class_names(known: Sequence[str], count: int) -> tuple[str, ...]:
    """Of so many classes; those that nobody has named are called by their number."""
    return (*known, *map(str, range(len(known), count)))[:count]


def listed(names: Sequence[str], shown: int = SHOWN) -> str:
    return ", ".join(map(plain, names[:shown])) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def counted(names: Sequence[str]) -> str:
    """The names with their numbers, as `0 cat, 1 dog`."""
    return listed([f"{number} {name}" for number, name in enumerate(names)], MOST_COUNTED)


def whole(y: Array, classes: int, where: str) -> Array:
    """int32 (n,). Raises DataError for what is no label of a model with so many outputs."""
    y = y.reshape(len(y), -1)
    if y.shape[1] != 1:
        raise DataError(
            f"{where}: a label has {y.shape[1]} values; expected one integer for each sample.",
            hint="Use argmax for one-hot labels.",
        )
    y = y[:, 0]
    if not is_whole(y):
        raise DataError(
            f"{where}: its labels are not integers (the first is {plain(str(y[0]))}); expected 0 to {classes - 1}.",
            hint="Number the classes.",
        )
    bad = (y < 0) | (y >= classes)
    if bad.any():
        first, needed = int(np.argmax(bad)), int(y.max()) + 1
        fits = y.min() >= 0 and needed <= len(y)          # a head with a class for each
        raise DataError(
            f"{where}: label {int(y[first])} of sample {first} is out of range; "
            f"the model has {classes} outputs, expected 0 to {classes - 1}.",
            hint="Count classes from 0" + (f", or compile the model with --new-head {needed}." if fits else "."),
        )
    return y.astype(np.int32)


def is_whole(y: Array) -> bool:
    """Whether these are whole numbers, of whatever type."""
    return y.dtype.kind in "iub" or (y.dtype.kind == "f" and bool(np.isfinite(y).all() and (y == np.round(y)).all()))


def what_is_odd(y: Array, classes: Sequence[str], normal: str | None, where: str) -> tuple[Array | None, tuple[str, ...]]:
    """(which samples are not normal, what was assumed): those of another class than the one called so, or another label than 0.

    None where nobody says which class is normal. Raises DataError where `normal` is no class.
    """
    if normal is None and classes:
        normal = next((name for name in classes if name.lower() in NORMAL), None)
        if normal is None:
            return None, (f"no class is called {listed(NORMAL[:-1])}: --normal says which one is",)
    if normal is not None and normal not in classes and not normal.isdecimal():
        raise DataError(f"{where}: no class is called {plain(normal)!r}; expected one of {listed(classes) or 'the labels'}.")
    number = 0 if normal is None else classes.index(normal) if normal in classes else int(normal)
    called = f"class {plain(classes[number])}" if number < len(classes) else f"label {number}"
    return y.reshape(-1) != number, (f"{called} is normal, and each sample its own target",)
