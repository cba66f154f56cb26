# SPDX-License-Identifier: Apache-2.0
"""Samples and targets from files: .npz, .npy, .csv, or a folder of images with one subfolder a class.

Values are taken as they are (an image gives 0 to 255): scale them beforehand if the model was trained on another range. What each kind
of file may look like, and how large it may be, stands in the module that reads it and in docs/data.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinytrain.data.arrays import Npz, read_npy
from tinytrain.data.images import read_images
from tinytrain.data.tables import read_csv
from tinytrain.errors import DataError
from tinytrain.ir.types import Array
from tinytrain.reading import plain, reading

SAMPLE_KEYS = ("x", "X", "data", "images", "samples", "inputs", "features")
TARGET_KEYS = ("y", "Y", "labels", "label", "target", "targets")
KINDS = ".npz, .npy, .csv, or a folder of images"
AS_MANY = "Store as many targets as samples, in the same order."


class NoTargets(DataError):
    """Samples without targets, where both are expected."""


@dataclass(frozen=True)
class Layout:
    """How samples look: ONNX shape without the batch, and the order of these axes on the device (`frontend.ports.Port.perm`)."""

    shape: tuple[int, ...]
    perm: tuple[int, ...]

    @property
    def device_shape(self) -> tuple[int, ...]:
        return tuple(self.shape[a] for a in self.perm)

    def __str__(self) -> str:
        onnx = f"({', '.join(map(str, self.shape))}) as in the model"
        return onnx if self.device_shape == self.shape else f"{onnx}, or channels-last ({', '.join(map(str, self.device_shape))})"


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

    `notes`: what the file does not say itself, such as which column is taken as the label; whoever loads it says them.
    """

    x: Array
    y: Array | None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.x)


def load_dataset(path: str | Path, layout: Layout, target: Target, *, split: str = "train") -> Dataset:
    """Read a data file; samples may have ONNX layout, channels-last layout, no axis for a single channel, or be flat.

    An .npz may hold several splits (`x_train`, `y_train`, `x_test`, …): the one named is taken, or else plain `x`, `y`.
    Raises DataError for a missing file, another kind of file, wrong shapes, labels out of range, numbers that are not finite.
    """
    path = Path(path)
    notes: tuple[str, ...] = ()
    with reading(path, f"a data file: {KINDS}", DataError, "Check the path."):
        exists, folder = path.exists(), path.is_dir()
    suffix = path.suffix.lower()
    if not exists:
        raise DataError(f"{path} does not exist; expected a data file: {KINDS}.", hint="Check the path.")
    if folder:
        x, y, notes = read_images(path, layout.shape, labelled=target is not None)
    elif suffix == ".npz":
        x, y, notes = _from_npz(path, split)
    elif suffix == ".npy":
        x, y = read_npy(path), None
    elif suffix == ".csv":
        width = 0 if target is None else 1 if isinstance(target, Labels) else math.prod(target.layout.shape)
        x, y, notes = read_csv(path, math.prod(layout.shape), width)
    else:
        raise DataError(
            f"{path} is a file of the kind {path.suffix or 'without suffix'}; expected {KINDS}.",
            hint="Save arrays x and y by numpy.savez(path, x=x, y=y).",
        )
    return dataclasses.replace(arrange(x, y, layout, target, str(path)), notes=notes)


def arrange(x: Array, y: Array | None, layout: Layout, target: Target, where: str) -> Dataset:
    """Check arrays and bring them into the layout of the device; `where` stands in messages."""
    samples = _samples(x, layout, where, "samples")
    if target is None:
        return Dataset(samples, None)
    if y is None and isinstance(target, Vectors) and math.prod(target.layout.shape) == math.prod(layout.shape):
        # an autoencoder is trained towards its own input
        y = x
    if y is None:
        raise NoTargets(
            f"{where} holds samples but no targets; expected both.",
            hint=f"Store them under one of the names {', '.join(TARGET_KEYS)}.",
        )
    if y.ndim == 0:
        raise DataError(f"{where}: its targets are a single number; expected one target for each of {len(x):,} samples.", hint=AS_MANY)
    if len(y) != len(x):
        raise DataError(
            f"{where} holds {len(x):,} samples but {len(y):,} targets; expected as many.", hint=AS_MANY,
        )
    if isinstance(target, Vectors):
        return Dataset(samples, _samples(_one_hot(y, target, where), target.layout, where, "targets"))
    return Dataset(samples, _labels(y, target.classes, where))


def _one_hot(y: Array, target: Vectors, where: str) -> Array:
    """Integer labels as soft targets, where the output is a row of classes."""
    size = math.prod(target.layout.shape)
    if y.ndim == 1 and y.dtype.kind in "iu" and size > 1:
        return np.eye(size, dtype=np.float32)[_labels(y, size, where)]
    return y


def _samples(x: Array, layout: Layout, where: str, what: str) -> Array:
    """float32 in device layout; the four accepted shapes are tried from the most to the least explicit."""
    if x.dtype.kind not in "fiub":
        raise DataError(f"{where}: its {what} are of type {plain(str(x.dtype))}; expected numbers.", hint="Store them as float32 or uint8.")
    shape = tuple(x.shape[1:])
    if x.ndim == 0 or not len(x):
        raise DataError(f"{where} holds no {what}; expected at least one.", hint="Check how the file was written.")
    bare = tuple(d for d in shape if d != 1)
    inverse = tuple(int(i) for i in np.argsort(layout.perm))
    size = math.prod(layout.shape)
    if shape == layout.shape or shape == (size,) or (shape == () and size == 1):
        onnx = x.reshape(-1, *layout.shape)
    elif shape == layout.device_shape:
        onnx = x.transpose(0, *(a + 1 for a in inverse))
    elif bare == tuple(d for d in layout.shape if d != 1):
        onnx = x.reshape(-1, *layout.shape)
    elif bare == tuple(d for d in layout.device_shape if d != 1):
        onnx = x.reshape(-1, *layout.device_shape).transpose(0, *(a + 1 for a in inverse))
    else:
        raise DataError(
            f"{where}: its {what} have the shape ({', '.join(map(str, shape))}); expected {layout}.",
            hint="Crop, pad or resize them to that shape.",
        )
    with np.errstate(over="ignore", invalid="ignore"):    # told below
        laid = np.ascontiguousarray(onnx.transpose(0, *(a + 1 for a in layout.perm)), dtype=np.float32)
    bad = ~np.isfinite(laid.reshape(len(laid), -1)).all(axis=1)
    if bad.any():
        raise DataError(
            f"{where}: {int(bad.sum()):,} of {len(laid):,} {what} hold NaN, infinite values or some beyond fp32, "
            f"the first at index {int(np.argmax(bad))}; expected finite numbers.", hint="Clean the data first.",
        )
    return laid


def _labels(y: Array, classes: int, where: str) -> Array:
    y = y.reshape(len(y), -1)
    if y.shape[1] != 1:
        raise DataError(
            f"{where}: a label has {y.shape[1]} values; expected one integer for each sample.",
            hint="Use argmax for one-hot labels.",
        )
    y = y[:, 0]
    if y.dtype.kind not in "fiub" or (y.dtype.kind == "f" and not (np.isfinite(y).all() and (y == np.round(y)).all())):
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


def _from_npz(path: Path, split: str) -> tuple[Array, Array | None, tuple[str, ...]]:
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
        f"{names[0]} of {path} is taken as the {what}; {', '.join(names[1:])} may be meant as well, and is left out"
        for names, what in ((samples, "samples"), (targets, "targets")) if len(names) > 1
    )
    return file.read(samples[0]), file.read(targets[0]) if targets else None, notes


def _known(file: Npz, names: Sequence[str]) -> list[str]:
    return [name for name in names if name in file.entries]
