# SPDX-License-Identifier: Apache-2.0
"""Golden vectors: seeded samples and what the NumPy reference makes of them, shipped with every compiled project."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinytrain.ir.graph import Program
from tinytrain.ir.types import S32, Array, TensorType
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
    kind = infer.inputs[0].type
    x, given = _samples(rng, steps, kind)
    model = ReferenceModel(program)
    with np.errstate(all="ignore"):                       # at a rate that is too high the numbers go where the device's go
        output = model.infer(given[0])
        train = program.entries.get("train")
        if train is None:
            return Golden(x, np.zeros((steps, 0), np.float32), output, np.zeros(0, np.float32))
        target = _targets(rng, steps, train.inputs[1].type, infer.outputs[0].type.numel)
        losses = [model.train_step(given[i], target[i]) for i in range(steps)]
        return Golden(x, target, output, np.array(losses, np.float32))


def first_sample(program: Program, seed: int = 0) -> tuple[Array, ...]:
    """The first of these samples as the device is given it, with its target where the program trains."""
    rng = np.random.default_rng(seed)
    infer, train = program.entries["infer"], program.entries.get("train")
    _, given = _samples(rng, 1, infer.inputs[0].type)
    return (given[0], *([] if train is None else _targets(rng, 1, train.inputs[1].type, infer.outputs[0].type.numel)))


def _samples(rng: np.random.Generator, steps: int, kind: TensorType) -> tuple[Array, Array]:
    """(real samples, what the device is given for them): the same but for a model that takes integers."""
    shape = (steps, *kind.shape)
    if kind.quant is None:
        x = rng.standard_normal(shape).astype(np.float32)
        return x, x
    stored = rng.integers(-128, 128, shape).astype(kind.dtype.np)
    return (stored.astype(np.float32) - kind.quant.zero_point) * np.float32(kind.quant.scale[0]), stored


def _targets(rng: np.random.Generator, steps: int, kind: TensorType, classes: int) -> Array:
    """Labels, or distributions that also serve as regression targets and as probabilities."""
    if kind.dtype is S32:
        return rng.integers(0, classes, (steps, *kind.shape)).astype(np.int32)
    soft = rng.random((steps, *kind.shape)).astype(np.float32)
    return np.asarray(soft / soft.sum(axis=tuple(range(1, soft.ndim)), keepdims=True), np.float32)
