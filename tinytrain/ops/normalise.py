# SPDX-License-Identifier: Apache-2.0
"""normalise: y = (x − μ)·r with r = 1/√(σ² + ε); μ and σ² are the mean and the variance over the axes that broadcasting `shape` to x
would repeat; not `centred`, y = x/√(mean x² + ε).

dx = r·(dy − mean dy − y·mean(dy·y)), not centred without the mean of dy

The mean is found first, the variance of what is left of x second. A training step keeps y and one r for each mean, not x. A scale and an
offset are a product and a sum behind it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import ALL_HALVES, Cost, Declined, Example, Kernel, Op, Wanted, f32, no
from tinytrain.ir.types import Array, TensorType, Value
from tinytrain.ops.elementwise import Add, Broadcast, Mul, Scale, broadcastable, mapping


def _means(x: Array, shape: tuple[int, ...]) -> Array:
    padded = (1,) * (x.ndim - len(shape)) + shape
    return np.asarray(x.mean(axis=tuple(axis for axis, kept in enumerate(padded) if kept == 1), keepdims=True))


@dataclass(frozen=True)
class Normalise(Op):
    """x -> y alike [, mean where centred, r: of `shape`]. ONNX LayerNormalization, RMSNormalization, Instance- and GroupNormalization."""

    shape: tuple[int, ...] = ()
    epsilon: float = 1e-5
    centred: bool = True
    statistics: bool = True

    name = "normalise"
    kernels = (Kernel("normalise", half=ALL_HALVES),)
    differentiable = True

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        return ("y", *(("mean",) if self.centred else ()), "r") if self.statistics else ("y",)

    @property
    def wide(self) -> frozenset[int]:                     # type: ignore[override]
        return frozenset(~o for o in range(1, len(self.results)))

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        broadcastable(self.shape, types[0].shape)
        return (types[0], *(TensorType(self.shape, types[0].dtype) for _ in self.results[1:]))

    def axes(self, full: TensorType) -> tuple[tuple[int, int, int], ...]:
        """What the kernel loops over."""
        return mapping(full.shape, self.shape)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        mean = _means(x, self.shape)
        left = x - mean if self.centred else x
        r = 1 / np.sqrt(_means(left * left, self.shape) + x.dtype.type(self.epsilon))
        found = {"y": left * r, "mean": mean.reshape(self.shape), "r": r.reshape(self.shape)}
        return tuple(found[name] for name in self.results)

    def without(self, outputs: frozenset[int]) -> Op | Declined:
        every = frozenset(range(1, len(self.results)))
        return dataclasses.replace(self, statistics=False) if every and outputs == every else no("its statistics are left out together")

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        """The statistics have gradients too: dμ/dx = 1/n, dr/dx = −r²·y/n."""
        (x,) = inputs
        if not self.statistics:
            outputs = g.emit_all(dataclasses.replace(self, statistics=True), x)
            grads = (*grads, *(None for _ in outputs[1:]))
        (y, *_, r), (dy, *dmean, dr) = outputs, grads
        share, name = Scale(r.type.numel / y.type.numel), f"d_{x.name}"
        parts = []
        if dy:
            parts.append(g.emit(NormaliseGrad(self.shape, self.centred), dy, y, r, name=name))
        parts += [g.emit(Broadcast(x.shape), g.emit(share, d, name=name), name=name) for d in dmean if d]
        if dr:
            slope = g.emit(Scale(-share.factor), g.emit(Mul(), g.emit(Mul(), dr, r, name=name), r, name=name), name=name)
            parts.append(g.emit(Mul(), y, g.emit(Broadcast(x.shape), slope, name=name), name=name))
        return (reduce(lambda a, b: g.emit(Add(), a, b, name=name), parts),)

    def cost(self, *types: TensorType) -> Cost:
        return Cost(macs=types[0].numel, elements=types[0].numel)


@dataclass(frozen=True)
class NormaliseGrad(Op):
    """dy, y alike, r of `shape` -> dx."""

    shape: tuple[int, ...] = ()
    centred: bool = True

    name = "normalise_grad"
    args = ("dy", "y", "r")
    wide = frozenset((2,))
    results = ("dx",)
    kernels = (Kernel("normalise", half=ALL_HALVES),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        dy, y, r = types
        if dy.shape != y.shape or r.shape != self.shape:
            raise ValueError(f"dy {dy}, y {y} and r {r} for statistics of the shape {self.shape}")
        return (dy,)

    def axes(self, full: TensorType) -> tuple[tuple[int, int, int], ...]:
        """What the kernel loops over."""
        return mapping(full.shape, self.shape)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, y, r = arrays
        left = dy - _means(dy, self.shape) if self.centred else dy
        return ((left - y * _means(dy * y, self.shape)) * r,)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return (0, 0), (1, 0)

    def cost(self, *types: TensorType) -> Cost:
        return Cost(macs=2 * types[0].numel, elements=types[0].numel)


# rows; columns, as of a map with its channels last; groups of channels; everything; a single element
_SHAPES = (((5, 1), (5, 7)), ((1, 1, 3), (4, 5, 3)), ((1, 1, 2, 1), (3, 2, 2, 3)), ((1, 1), (3, 37)), ((1,), (1,)))

Normalise.examples = (
    *(Example(Normalise(small, centred=centred), f32(full)) for small, full in _SHAPES for centred in (True, False)),
    Example(Normalise((3, 1), statistics=False), f32((3, 16)), reals=(1.0, 10.0)),
    Example(Normalise((3, 1), 0.1, centred=False, statistics=False), f32((3, 5))),
)
NormaliseGrad.examples = tuple(
    Example(NormaliseGrad(small, centred), f32(full, full, small)) for small, full in _SHAPES for centred in (True, False)
)
