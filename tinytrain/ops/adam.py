# SPDX-License-Identifier: Apache-2.0
"""adam: m' = β₁·m + (1 − β₁)·g;  v' = β₂·v + (1 − β₂)·g²;  direction = (m' / (1 − β₁ᵗ)) / (√(v' / (1 − β₂ᵗ)) + ε)

Kingma and Ba, arXiv 1412.6980. With weight decay beside it, in the step that follows, it is AdamW: Loshchilov and Hutter, arXiv
1711.05101.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.op import Example, Kernel, f32
from tinytrain.ir.types import F32, S32, Array, TensorType
from tinytrain.ir.words import literal
from tinytrain.ops.direction import Adaptive


@dataclass(frozen=True)
class Adam(Adaptive):
    """g, m, v (same shape), t (1, s32: 1 in the first step) [, w] [, factor] -> direction, m', v' [, 0]."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    name = "adam"
    kernels = (Kernel("elementwise", (F32, F32, F32, S32, F32), macro="elementwise"),)
    keeps = {"m": "moment", "v": "square"}

    @property
    def ones(self) -> tuple[str, ...]:
        return ("t",)

    def follow(self, g: Array, given: Mapping[str, Array]) -> tuple[Array, ...]:
        real, t = g.dtype.type, given["t"]
        # exp in float64: that of NumPy in float32 depends on the CPU, and of what is left of 1 − 0.999 a unit in the last place is much
        logs = (t.astype(g.dtype) * real(np.log(beta)) for beta in (self.beta1, self.beta2))
        gone1, gone2 = (real(1) - np.exp(log.astype(np.float64)).astype(g.dtype) for log in logs)
        m = real(self.beta1) * given["m"] + real(1 - self.beta1) * g
        v = real(self.beta2) * given["v"] + real(1 - self.beta2) * g * g
        return m / gone1 / (np.sqrt(np.abs(v / gone2)) + real(self.epsilon)), m, v

    def once(self, operand: int, element: str) -> tuple[str, ...]:
        betas = (self.beta1, self.beta2) if self.args[operand] == "t" else ()
        return tuple(f"1.0f - tt_expf((float){element} * {literal(np.log(beta))})" for beta in betas)

    def formula(self, g: str, *operands: str) -> tuple[str, ...]:
        m, v, gone1, gone2 = operands[:4]
        m = f"({literal(self.beta1)} * {m} + {literal(1 - self.beta1)} * {g})"
        v = f"({literal(self.beta2)} * {v} + {literal(1 - self.beta2)} * {g} * {g})"
        # the second moment is never below zero; the sign is dropped so that no input gives a NaN
        root = f"tt_sqrtf({v} < 0.0f ? -{v} / {gone2} : {v} / {gone2})"
        return f"{m} / {gone1} / ({root} + {literal(self.epsilon)})", m, v


_STEP = TensorType((1,), S32)
Adam.examples = (
    Example(Adam(), (*f32((5, 3), (5, 3), (5, 3)), _STEP), (1, 9)),
    Example(Adam(scale=0.25, clear=True), (*f32((7,), (7,), (7,)), _STEP), (1, 9)),
    Example(Adam(0.5, 0.9, 1e-3), (*f32((1,), (1,), (1,)), _STEP), (1, 2)),
    Example(Adam(factored=True), (*f32((4, 3, 2), (4, 3, 2), (4, 3, 2)), _STEP, TensorType((4, 1, 1))), (1, 9)),
    Example(Adam(scale=0.5, clear=True, factored=True), (*f32((7,), (7,), (7,)), _STEP, TensorType((7,))), (1, 9)),
    Example(Adam(decay=0.1, scale=0.5), (*f32((5, 3), (5, 3), (5, 3)), _STEP, TensorType((5, 3))), (1, 9)),
)
