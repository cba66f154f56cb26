# SPDX-License-Identifier: Apache-2.0
"""Samples and targets from files: .npz, .npy, .csv, or a folder of images with one subfolder a class.

Values are taken as they are (an image gives 0 to 255) where nothing else is asked for. What each kind of file may look like, and how
large it may be, stands in the module that reads it and in docs/data.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinytrain.data.arrays import Npz, read_npy
from tinytrain.data.file import DataFile
from tinytrain.data.images import read_images
from tinytrain.data.labels import Raw, counted, is_whole, named, numbered, what_is_odd, whole
from tinytrain.data.layout import Layout, across, axes_as_in_model
from tinytrain.data.series import read_series
from tinytrain.data.tables import read_csv
from tinytrain.errors import DataError
from tinytrain.ir.types import Array
from tinytrain.reading import reading

SAMPLE_KEYS = ("x", "X", "data", "images", "samples", "inputs", "features")
TARGET_KEYS = ("y", "Y", "labels", "label", "target", "targets")
CLASS_KEYS = ("classes", "class_names", "label_names", "target_names")
KINDS = ".npz, .npy, .csv, or a folder of images"
AS_MANY = "Store as many targets as samples, in the same order."


class NoTargets(DataError):
    """Samples without targets, where both are expected."""


@dataclass(frozen=True)
class Labels:
    """Integer labels 0 to classes − 1."""

    classes: int


@dataclass(frozen=True)
class Vectors:
    """One float array a sample (soft target, regression), laid out like the model's output."""

    layout: Layout


Target = Labels | Vectors | None


@dataclass(frozen=True, eq=False)
class Dataset:
    """x: float32 (n, *device shape). y: int32 (n,) for labels, float32 (n, *device shape of the output) for vectors, else None.

    `itself`: y is x, for a model that is trained to give back its own input; `odd` (n,), bool, then tells what is not normal from what is,
    where labels are given. `classes` are the names of labels, in order. `notes`: what the file does not say itself, such as which column
    is taken as the label. `doubts`: what may well be wrong about it. `summary`: how all of it was read, in one line; whoever loads a file
    says that.
    """

    x: Array
    y: Array | None
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    itself: bool = False
    odd: Array | None = None
    doubts: tuple[str, ...] = ()
    summary: str = ""

    def __len__(self) -> int:
        return len(self.x)

    def some(self, chosen: Array | slice) -> Dataset:
        """The chosen samples."""
        y, odd = (None if array is None else array[chosen] for array in (self.y, self.odd))
        return dataclasses.replace(self, x=self.x[chosen], y=y, odd=odd)


def load_dataset(
    given: DataFile | str | Path, layout: Layout, target: Target, *, split: str = "train", classes: Sequence[str] = ()
) -> Dataset:
    """Read a data file; samples may have ONNX layout, channels-last layout, no axis for a single channel, or be flat.

    An .npz may hold several splits (`x_train`, `y_train`, `x_test`, …): the one named is taken, or else plain `x`, `y`. `classes` are the
    names that the model has for its labels; without them those of the file count, in their order there.
    Raises DataError for a missing file, another kind of file, wrong shapes, labels out of range, numbers that are not finite.
    """
    file = DataFile.of(given)
    if target is not None and not _gives_back(target, layout):
        file.refuse("for a model that does not give back its input", "normal")
    order = file.order
    laid: tuple[str, ...] = ()
    if file.window:
        labels = isinstance(target, Labels) or _gives_back(target, layout)
        raw = read_series(file, lambda part, labelled: _read(part, layout, target if labelled else None, split), labels=labels)
        x, order, laid = across(raw.x, layout, order)
    else:
        raw = _read(file, layout, target, split)
        x = raw.x
    found = arrange(x, raw.y, layout, target, str(file), file=dataclasses.replace(file, order=order), names=raw.names, classes=classes)
    notes = raw.notes + laid + found.notes
    return dataclasses.replace(found, notes=notes, summary=f"{file}: {'; '.join((_summary(found, layout, file, target), *notes))}")


def _read(file: DataFile, layout: Layout, target: Target, split: str) -> Raw:
    path = file.path
    with reading(path, f"a data file: {KINDS}", DataError, "Check the path."):
        exists, folder = path.exists(), path.is_dir()
    suffix = path.suffix.lower()
    if not exists:
        raise DataError(f"{path} does not exist; expected a data file: {KINDS}.", hint="Check the path.")
    if folder:
        file.refuse("a folder of images", "targets", "columns", "order")
        return read_images(path, layout.shape, labelled=target is not None)
    if suffix == ".csv":
        return read_csv(file, math.prod(layout.shape), 0 if target is None else 1 if isinstance(target, Labels) else target.layout.size)
    file.refuse("no table", "targets", "columns")
    if suffix == ".npz":
        return _from_npz(path, split)
    if suffix == ".npy":
        return Raw(read_npy(path), None)
    raise DataError(
        f"{path} is a file of the kind {path.suffix or 'without suffix'}; expected {KINDS}.",
        hint="Save arrays x and y by numpy.savez(path, x=x, y=y).",
    )


def arrange(
    x: Array, y: Array | None, layout: Layout, target: Target, where: str, *, file: DataFile | None = None, names: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> Dataset:
    """Check arrays and bring them into the layout of the device; `where` stands in messages.

    `names` are those of the labels in `y`, which may be texts themselves; `classes` those that the model has. `file` says how to scale
    the samples, and in which order their axes are. Raises DataError.
    """
    file = file or DataFile(Path(where))
    given, doubts = axes_as_in_model(x, layout, where, "samples", file.order)
    samples = _laid(file.scaled(given, layout.channel), layout, where, "samples")
    if target is None:
        return Dataset(samples, None, classes=tuple(classes), doubts=doubts)
    if y is None and not _gives_back(target, layout):
        raise NoTargets(
            f"{where} holds samples but no targets; expected both.",
            hint=f"Store them under one of the names {', '.join(TARGET_KEYS)}.",
        )
    if y is not None:
        if y.ndim == 0:
            raise DataError(f"{where}: its targets are a single number; expected one target for each of {len(x):,} samples.", hint=AS_MANY)
        if len(y) != len(x):
            raise DataError(f"{where} holds {len(x):,} samples but {len(y):,} targets; expected as many.", hint=AS_MANY)
        if not names:
            y, names = named(y)
        y, classes = numbered(y, names, classes, where)
    if isinstance(target, Labels):
        assert y is not None
        return Dataset(samples, whole(y, target.classes, where), classes=tuple(classes), doubts=doubts)
    if y is not None and _gives_back(target, layout) and np.array_equal(x, y):
        y = None                                          # said twice
    if y is not None and not (_gives_back(target, layout) and _tells_apart(y, target, file)):
        goal, _ = axes_as_in_model(_one_hot(y, target, where), target.layout, where, "targets", None)
        return Dataset(samples, _laid(goal, target.layout, where, "targets"), classes=tuple(classes), doubts=doubts)
    # an autoencoder is trained towards its own input
    goal = samples.transpose(0, *(a + 1 for a in layout.back)).reshape(len(samples), *target.layout.shape)
    odd, notes = what_is_odd(y, classes, file.normal, where) if y is not None else (None, ())
    return Dataset(samples, _laid(goal, target.layout, where, "targets"), notes, tuple(classes), True, odd, doubts)


def _gives_back(target: Target, layout: Layout) -> bool:
    """Whether the model gives as many numbers as it takes, as an autoencoder does."""
    return isinstance(target, Vectors) and target.layout.size == layout.size


def _tells_apart(y: Array, target: Vectors, file: DataFile) -> bool:
    """Whether these are labels beside the samples that a model gives back, and no targets themselves."""
    size = target.layout.size
    return y.size == len(y) and size > 1 and is_whole(y) and (file.normal is not None or 0 <= y.min() <= y.max() < size - 1)


def _one_hot(y: Array, target: Vectors, where: str) -> Array:
    """Integer labels as soft targets, where the output is a row of classes."""
    if y.ndim == 1 and is_whole(y) and target.layout.size > 1:
        return np.eye(target.layout.size, dtype=np.float32)[whole(y, target.layout.size, where)]
    return y


def _laid(onnx: Array, layout: Layout, where: str, what: str) -> Array:
    """float32 in device layout. Raises DataError where not all are finite."""
    with np.errstate(over="ignore", invalid="ignore"):    # told below
        laid = np.ascontiguousarray(onnx.transpose(0, *(a + 1 for a in layout.perm)), dtype=np.float32)
    bad = ~np.isfinite(laid.reshape(len(laid), -1)).all(axis=1)
    if bad.any():
        raise DataError(
            f"{where}: {int(bad.sum()):,} of {len(laid):,} {what} hold NaN, infinite values or some beyond fp32, "
            f"the first at index {int(np.argmax(bad))}; expected finite numbers.", hint="Clean the data first.",
        )
    return laid


def _summary(found: Dataset, layout: Layout, file: DataFile, target: Target) -> str:
    """What was read, for one line."""
    shape = f"({', '.join(map(str, layout.shape))})" if len(layout.shape) > 1 else f"{layout.size:,} number{_s(layout.size)}"
    said = [f"{len(found):,} sample{_s(len(found))} of {shape}, {found.x.min():.5g} to {found.x.max():.5g} {file.scaling_text()}"]
    if found.classes:
        said.append(f"classes {counted(found.classes)}")
    elif found.y is not None and isinstance(target, Labels):
        said.append(f"labels {found.y.min()} to {found.y.max()}")
    return ", ".join(said)


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _from_npz(path: Path, split: str) -> Raw:
    """Samples and targets of the split where the file has such samples; both under their plain names otherwise."""
    file = Npz(path)
    of_split = [f"{key}_{split}" for key in SAMPLE_KEYS]
    samples = _known(file, of_split)
    end = f"_{split}" if samples else ""
    samples = samples or _known(file, SAMPLE_KEYS)
    targets = _known(file, [key + end for key in TARGET_KEYS])
    if not samples:
        raise DataError(
            f"{path} holds the arrays {file.names()}; expected the samples under the name x or x_{split}.",
            hint=f"Names that are known: {', '.join(SAMPLE_KEYS)}; for targets {', '.join(TARGET_KEYS)}.",
        )
    notes = tuple(
        f"{names[0]} is taken as the {what}; {', '.join(names[1:])} may be meant as well, and is left out"
        for names, what in ((samples, "samples"), (targets, "targets")) if len(names) > 1
    )
    x, y = file.read(samples[0]), file.read(targets[0]) if targets else None
    return Raw(x, y, _named_in(file) if y is not None and is_whole(y) else (), notes)


def _named_in(file: Npz) -> tuple[str, ...]:
    """What the file calls its classes, in the order of their numbers."""
    names = next((file.read(key) for key in _known(file, CLASS_KEYS)), np.empty(0))
    return tuple(map(str, names)) if names.ndim == 1 and names.dtype.kind == "U" else ()


def _known(file: Npz, names: Sequence[str]) -> list[str]:
    return [name for name in names if name in file.entries]
