# SPDX-License-Identifier: Apache-2.0
"""Golden vectors: seeded samples and what the NumPy reference makes of them, shipped with every compiled project."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinytrain.emit.records import label_classes
from tinytrain.ir.graph import Program
from tinytrain.ir.pack import packed
from tinytrain.ir.types import S32, Array, DType, TensorType, Value
from tinytrain.verify.reference import ReferenceModel


@dataclass(frozen=True)
class Golden:
    """`x` (n, ...) and `target` (n, ...) in the layout of the device; `output` of x[0]; `losses` of n training steps in order."""

    x: Array
    target: Array
    output: Array
    losses: Array

    def save(self, path: Path) -> None:
        np.savez(path, x=self.x, target=self.target, output=self.output, losses=self.losses)


def golden_vectors(program: Program, steps: int = 3, seed: int = 0) -> Golden:
    """Run the reference on seeded samples; programs that only infer have no targets and no losses."""
    rng = np.random.default_rng(seed)
    infer = program.entries["infer"]
    x, given = _samples(rng, steps, infer.inputs[0])
    model = ReferenceModel(program)
    with np.errstate(all="ignore"):                       # at a rate that is too high the numbers go where the device's go
        output = model.infer(given[0])
        train = program.entries.get("train")
        if train is None:
            return Golden(x, np.zeros((steps, 0), np.float32), output, np.zeros(0, np.float32))
        target = _targets(rng, steps, program)
        losses = [model.train_step(given[i], target[i]) for i in range(steps)]
        return Golden(x, target, output, np.array(losses, np.float32))


def first_sample(program: Program, seed: int = 0) -> tuple[Array, ...]:
    """The first of these samples as the device is given it, with its target where the program trains."""
    rng = np.random.default_rng(seed)
    _, given = _samples(rng, 1, program.entries["infer"].inputs[0])
    return (given[0], *(_targets(rng, 1, program) if "train" in program.entries else []))


def _samples(rng: np.random.Generator, steps: int, sample: Value) -> tuple[Array, Array]:
    """(real samples, what the device is given for them): the same but for a model that takes integers for reals."""
    kind = sample.type
    if kind.quant is None:
        x = _records(steps, sample, [_numbers(rng, (steps, *part.shape), part.dtype) for part in _parts(sample)])
        return x, x
    stored = rng.integers(-128, 128, (steps, *kind.shape)).astype(kind.dtype.np)
    return (stored.astype(np.float32) - kind.quant.zero_point) * np.float32(kind.quant.scale[0]), stored


def _numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> Array:
    """Samples of an input; of integers, which often are indices, 0 and 1."""
    return rng.integers(0, 2, shape).astype(np.int32) if dtype is S32 else rng.standard_normal(shape).astype(np.float32)


def _targets(rng: np.random.Generator, steps: int, program: Program) -> Array:
    """Labels, 0 where no loss reads them, or distributions that also serve as regression targets and as probabilities."""
    evaluate = program.entries["evaluate"]
    target, classes = evaluate.inputs[1], label_classes(evaluate)
    made, at = [], 0
    for kind in _parts(target):
        if kind.dtype is S32:
            made.append(rng.integers(0, classes.get(at, 1), (steps, *kind.shape)).astype(np.int32))
        else:
            soft = rng.random((steps, *kind.shape)).astype(np.float32)
            made.append(np.asarray(soft / soft.sum(axis=tuple(range(1, soft.ndim)), keepdims=True), np.float32))
        at += kind.nbytes
    return _records(steps, target, made)


def _parts(value: Value) -> list[TensorType]:
    return [kind for _, kind in value.parts] or [value.type]


def _records(steps: int, value: Value, arrays: list[Array]) -> Array:
    """(steps, ...) of each part as (steps, ...) of the whole."""
    kinds = [kind.dtype for kind in _parts(value)]
    return np.stack([packed([a[i] for a in arrays], kinds) for i in range(steps)])
