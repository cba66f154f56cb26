# SPDX-License-Identifier: Apache-2.0
"""div: y = a/b, da = dy/b, db = −dy·y/b      max, min: the larger or smaller of a and b; its gradient goes to the one that was taken,
to b where they are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Elementwise, Example, Wanted, f32
from tinytrain.ir.types import Array, TensorType, Value
from tinytrain.ir.words import Words
from tinytrain.ops.elementwise import Binary, Mul, Scale, Sub, reduced
from tinytrain.ops.simd import elementwise


@dataclass(frozen=True)
class Div(Binary):
    """a/b. ONNX Div."""

    name = "div"
    kernels = Elementwise.kernels
    parameters = {1: "scale", 0: "scale"}

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        a, b = self.fitted(arrays)
        return (a / b,)

    def expr(self, *operands: str) -> tuple[str, ...]:
        a, b = operands
        return (f"{a} / {b}",)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (a, b), dy = inputs, grads[0]
        assert dy is not None
        da = g.emit(Div(), dy, b, name=f"d_{a.name}")
        if not wanted[1]:
            return da, None
        db = reduced(g, g.emit(Mul(), da, outputs[0], name=f"d_{b.name}"), b)
        return (da if wanted[0] else None, g.emit(Scale(-1.0), db, name=f"d_{b.name}"))


@dataclass(frozen=True)
class Extreme(Binary):
    """Base of the larger and the smaller of two."""

    commutative = True
    largest: ClassVar[bool] = True

    @staticmethod
    def neither(w: Words, a: str, b: str) -> str:
        """What is taken where neither is larger: the two are equal, or one is no number and flows on."""
        half = w.number(0.5)
        return w.add(w.mul(half, a), w.mul(half, b))

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (a, b), dy = inputs, grads[0]
        assert dy is not None
        da = g.emit(TakenGrad(), dy, *((outputs[0], b) if self.largest else (b, outputs[0])), name=f"d_{a.name}")
        db = reduced(g, g.emit(Sub(), dy, da, name=f"d_{b.name}"), b) if wanted[1] else None
        return (da if wanted[0] else None, db)


@dataclass(frozen=True)
class Max(Extreme):
    """The larger of a and b. ONNX Max."""

    name = "max"

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        a, b = self.fitted(arrays)
        return (np.maximum(a, b),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        a, b = operands
        return (w.where(a, b, a, w.where(b, a, b, self.neither(w, a, b))),)


@dataclass(frozen=True)
class Min(Extreme):
    """The smaller of a and b. ONNX Min."""

    name = "min"
    largest = False

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        a, b = self.fitted(arrays)
        return (np.minimum(a, b),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        a, b = operands
        return (w.where(b, a, a, w.where(a, b, b, self.neither(w, a, b))),)


@dataclass(frozen=True)
class TakenGrad(Elementwise):
    """dy where a > b, else 0. b is like dy and a, one per channel, one per row or one element; so may a be."""

    name = "taken_grad"
    args = ("dy", "a", "b")
    results = ("dx",)
    kernels = elementwise()

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return (types[0],)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, a, b = (x.reshape(()) if x.size == 1 and arrays[0].size > 1 else x for x in arrays)
        return (np.where(a > b, dy, np.zeros_like(dy)),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        dy, a, b = operands
        return (w.where(a, b, dy, w.number(0.0)),)


_OPERANDS = (((1,), (1,)), ((13,), (13,)), ((13,), (1,)), ((3, 5, 7), (7,)), ((3, 5, 7), (3, 5, 7)), ((5, 1), (1,)), ((4, 2, 3), (4, 1, 1)))

Div.examples = (*(Example(Div(), f32(a, b), reals=(1.0, 1.25)) for a, b in _OPERANDS), Example(Div(), f32((37,), (37,))))
for _extreme in (Max, Min):
    _extreme.examples = tuple(Example(_extreme(), f32(a, b)) for a, b in _OPERANDS)
TakenGrad.examples = tuple(Example(TakenGrad(), f32(a, *both)) for a, b in _OPERANDS for both in ((a, b), (b, a)))
