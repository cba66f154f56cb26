# SPDX-License-Identifier: Apache-2.0
"""total: L = Σ w_i·L_i, the loss of a model with several outputs. Autodiff starts from each L_i with w_i (`gradient/autodiff.py`)."""

from __future__ import annotations

from dataclasses import dataclass

from tinytrain.ir.op import Elementwise, Example, f32
from tinytrain.ir.types import Array
from tinytrain.ir.words import Words
from tinytrain.ops.simd import elementwise


@dataclass(frozen=True)
class Total(Elementwise):
    """Losses (1,), … -> their weighted sum (1,), from the first to the last."""

    weights: tuple[float, ...] = (1.0,)

    name = "total"
    results = ("loss",)
    kernels = elementwise()

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        return tuple(f"loss{i}" for i in range(len(self.weights)))

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        total = arrays[0] * arrays[0].dtype.type(self.weights[0])
        for weight, loss in zip(self.weights[1:], arrays[1:], strict=True):
            total = total + loss * loss.dtype.type(weight)
        return (total,)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        total = w.mul(operands[0], w.number(self.weights[0]))
        for weight, loss in zip(self.weights[1:], operands[1:], strict=True):
            total = w.add(total, w.mul(loss, w.number(weight)))
        return (total,)


Total.examples = (Example(Total((1.0, 0.5)), f32((1,), (1,))), Example(Total((0.25, 2.0, 1.0)), f32((19,), (19,), (19,))))
