# SPDX-License-Identifier: Apache-2.0
"""Samples of models with several inputs, or targets of several outputs: an .npz with one array for each, by its name in the model."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from tinytrain.data.arrays import Npz
from tinytrain.data.dataset import AS_MANY, SAMPLE_KEYS, TARGET_KEYS, Dataset, NoTargets, Target, Vectors, arrange
from tinytrain.data.layout import Layout
from tinytrain.errors import DataError
from tinytrain.ir.types import Array


def load_records(path: Path, inputs: Mapping[str, Layout], targets: Mapping[str, Target], *, split: str = "train") -> Dataset:
    """x and y are records of numbers, float32 (n, all elements of a sample). Arrays may end in `_train` or `_test`, as `split` says.

    A single input may be called x, and a single target y, as in other files. Raises DataError as `load_dataset` does.
    """
    if path.suffix.lower() != ".npz" or not path.is_file():
        raise DataError(
            f"{path} cannot hold samples of a model with several inputs or outputs; expected an .npz with the arrays "
            f"{', '.join((*inputs, *targets))}.",
            hint=f"numpy.savez(path, {', '.join(f'{name}={name}' for name in (*inputs, *targets))})",
        )
    return records(Npz(path), inputs, targets, split=split)


class Stored(Protocol):
    """Arrays by name; `path` is for messages."""

    @property
    def path(self) -> str | Path: ...

    @property
    def entries(self) -> Container[str]: ...

    def names(self) -> str: ...

    def read(self, name: str) -> Array: ...


def records(file: Stored, inputs: Mapping[str, Layout], targets: Mapping[str, Target], *, split: str) -> Dataset:
    """The same, of what is stored already."""
    found = [arrange(_read(file, name, SAMPLE_KEYS if len(inputs) == 1 else (), split), None, layout, None, f"{file.path}/{name}")
             for name, layout in inputs.items()]
    x = [part.x for part in found]
    y = [_target(file, name, target, TARGET_KEYS if len(targets) == 1 else (), split) for name, target in targets.items()]
    counts = {name: len(array) for name, array in zip((*inputs, *targets), (*x, *y), strict=True)}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        raise DataError(f"{file.path} holds different numbers of samples ({said}); expected as many of each.", hint=AS_MANY)
    ranges = ", ".join(f"{name} {part.min():.5g} to {part.max():.5g}" for name, part in zip(inputs, x, strict=True))
    return Dataset(
        _joined(x), _joined(y) if targets else None, doubts=tuple(doubt for part in found for doubt in part.doubts),
        summary=f"{file.path}: {len(x[0]):,} samples, {ranges} taken as they are",
    )


def _target(file: Stored, name: str, target: Target, others: tuple[str, ...], split: str) -> Array:
    y = _read(file, name, others, split)
    # the samples do not matter here: as many as there are targets
    found = arrange(np.zeros((len(y) if y.ndim else 1, 1), np.float32), y, Layout((1,), (0,)), target, f"{file.path}/{name}").y
    assert found is not None
    return found if isinstance(target, Vectors) else found.reshape(-1, 1)


def _read(file: Stored, name: str, others: tuple[str, ...], split: str) -> Array:
    for key in (f"{name}_{split}", name, *(f"{other}_{split}" for other in others), *others):
        if key in file.entries:
            return file.read(key)
    raise NoTargets(
        f"{file.path} holds the arrays {file.names()}; expected one called {name}, or {name}_{split}.",
        hint="Store one array for each input and each output that has a loss, under its name in the model.",
    )


def _joined(arrays: list[Array]) -> Array:
    return np.concatenate([a.reshape(len(a), -1).astype(np.float32) for a in arrays], axis=1)
