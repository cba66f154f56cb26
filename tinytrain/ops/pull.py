# SPDX-License-Identifier: Apache-2.0
"""pull: direction = f·g + min(f·c·r², most)·(w − w0): towards where a weight started, by how much what was known depends on it

The gradient of ½ Σ c·r²·(w − w0)² beside that of the loss: elastic weight consolidation (Kirkpatrick et al., arXiv 1612.00796), where c·r²
is the Fisher information times a strength. Its root r is kept, in one byte: the squares of 127 numbers reach over four powers of ten.
A weight that is stored as an integer is pulled in units of that; f then takes the sum to the step of what is stored (`ops/direction.py`).
`most` takes a weight home in one step at the rate of this update, which may be set at any time: more would throw it beyond.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.integer import IntegerForms, Operand
from tinytrain.ir.op import Declined, Example, f32, no
from tinytrain.ir.types import F32, S8, S32, Array, TensorType, Value
from tinytrain.ir.words import Words
from tinytrain.ops.direction import Direction
from tinytrain.ops.simd import elementwise

MOST = 127                                                # what a root reaches


@dataclass(frozen=True)
class Pull(Direction):
    """g, root s8, w, start like w (all of one shape), most and factor (one per row, per channel or in all; the factor of
    integers) -> direction [, 0]; `strength` is c, `integer` says whether w is one."""

    strength: float = 1.0
    integer: bool = False

    name = "pull"
    kernels = (*elementwise(F32, S8, F32), *elementwise(F32, S8, S8, S8, F32), *elementwise(F32, S8, S32, S32, F32))

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        return ("g", "root", "w", "start", "most", *(("factor",) if self.factored else ()))

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        g, root, w, start = types[:4]
        if root != TensorType(g.shape, S8) or w.shape != g.shape or start != w or self.decay:
            raise ValueError(f"gradient {g} for weight {w} that started from {start}, pulled by {root}: s8 of that shape is expected")
        return super().infer(*types)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        given: Mapping[str, Array] = dict(zip(self.args, arrays, strict=True))
        total = given["g"]
        real = total.dtype.type
        root, w, start = (given[name].astype(total.dtype) for name in ("root", "w", "start"))
        g, by = total * real(self.scale), root * root * real(self.strength)
        if self.factored:
            g, by = given["factor"] * g, given["factor"] * by
        return (g + np.minimum(by, given["most"]) * (w - start), *((np.zeros_like(total),) if self.clear else ()))

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        g, root, weight, start, most, *factor = operands
        if self.integer:
            weight, start = w.real(weight), w.real(start)
        by = w.mul(w.mul(w.real(root), w.real(root)), w.number(self.strength))
        g = w.mul(g, w.number(self.scale)) if self.scale != 1.0 else g
        if factor:
            g, by = w.mul(factor[0], g), w.mul(factor[0], by)
        pulled = w.madd(g, w.where(by, most, most, by), w.sub(weight, start))
        return (pulled, *((w.number(0.0),) if self.clear else ()))

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        return no("weights are pulled in fp32", "Leave out --elastic.")


def _example(op: Pull, w: TensorType, *factor: TensorType) -> Example:
    bounds = ((0, 1), (0, MOST + 1), *((-100, 100),) * 2, (0, 1), (0, 1))
    return Example(op, (TensorType(w.shape), TensorType(w.shape, S8), w, w, *(factor or f32((1,))), *factor), bounds)


Pull.examples = (
    *(_example(Pull(strength=1e-4, scale=scale, clear=scale != 1.0), *f32(shape)) for shape in ((37,), (4, 3, 2)) for scale in (1.0, 0.25)),
    *(
        _example(Pull(strength=0.01, integer=True, factored=True, clear=clear), TensorType(shape, dtype), *f32(factor))
        for dtype in (S8, S32) for shape, factor, clear in (((4, 3, 3, 2), (4, 1, 1, 1), False), ((13,), (13,), True), ((13,), (1,), False))
    ),
)
