# SPDX-License-Identifier: Apache-2.0
"""adam: m' = β₁·m + (1 − β₁)·g;  v' = β₂·v + (1 − β₂)·g²;  direction = (m' / (1 − β₁ᵗ)) / (√(v' / (1 − β₂ᵗ)) + ε)

Kingma and Ba, arXiv 1412.6980. It gives the direction only: `w' = w − lr · direction` is the step of whatever optimiser follows, so that
it serves float and integer weights alike. The direction does not grow with g, so that nothing behind it tells in which unit g was:
that of a weight stored as q = w/s is divided by s first (`factored`), and moments, ε and direction are those of w.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.integer import IntegerForms, Operand
from tinytrain.ir.op import Declined, Elementwise, Example, Kernel, f32, no
from tinytrain.ir.types import F32, S32, Array, TensorType, Value
from tinytrain.ir.words import literal


@dataclass(frozen=True)
class Adam(Elementwise):
    """g, m, v (same shape), t (1, s32: 1 in the first step) [, factor (one per row, per channel or in all)] -> direction, m', v' [, 0].

    `scale` (1/N of N accumulated ones) and the factor multiply the gradient first; `clear` also gives the zero that the sum starts from
    again.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    scale: float = 1.0
    clear: bool = False
    factored: bool = False

    name = "adam"
    kernels = (Kernel("elementwise", (F32, F32, F32, S32, F32), macro="elementwise"),)

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        return ("g", "m", "v", "t", "factor") if self.factored else ("g", "m", "v", "t")

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        return ("direction", "m_new", "v_new", *(("g_new",) if self.clear else ()))

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        g, m, v = types[:3]
        if not g.shape == m.shape == v.shape or types[3].numel != 1:
            raise ValueError(f"gradient {g}, moments {m} and {v}, step {types[3]}")
        return tuple(g for _ in self.results)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        total, m, v, t = arrays[:4]
        real = total.dtype.type
        g = total * real(self.scale)
        if self.factored:
            g = arrays[4] * g
        # exp in float64: that of NumPy in float32 depends on the CPU, and of what is left of 1 − 0.999 a unit in the last place is much
        logs = (t.astype(total.dtype) * real(np.log(beta)) for beta in (self.beta1, self.beta2))
        gone1, gone2 = (real(1) - np.exp(log.astype(np.float64)).astype(total.dtype) for log in logs)
        m = real(self.beta1) * m + real(1 - self.beta1) * g
        v = real(self.beta2) * v + real(1 - self.beta2) * g * g
        return m / gone1 / (np.sqrt(np.abs(v / gone2)) + real(self.epsilon)), m, v, *((np.zeros_like(total),) if self.clear else ())

    def once(self, operand: int, element: str) -> tuple[str, ...]:
        betas = (self.beta1, self.beta2) if self.args[operand] == "t" else ()
        return tuple(f"1.0f - tt_expf((float){element} * {literal(np.log(beta))})" for beta in betas)

    def expr(self, *operands: str) -> tuple[str, ...]:
        g, m, v, gone1, gone2 = operands[:5]
        g = g if self.scale == 1.0 else f"({g} * {literal(self.scale)})"
        g = f"({operands[5]} * {g})" if self.factored else g
        m = f"({literal(self.beta1)} * {m} + {literal(1 - self.beta1)} * {g})"
        v = f"({literal(self.beta2)} * {v} + {literal(1 - self.beta2)} * {g} * {g})"
        # the second moment is never below zero; the sign is dropped so that no input gives a NaN
        root = f"tt_sqrtf({v} < 0.0f ? -{v} / {gone2} : {v} / {gone2})"
        return f"{m} / {gone1} / ({root} + {literal(self.epsilon)})", m, v, *(("0.0f",) if self.clear else ())

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return (0, 3 if self.clear else 0), (1, 1), (2, 2)

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        return no("its moments are computed in fp32", "Leave out --optimiser adam.")


Adam.examples = (
    Example(Adam(), (*f32((5, 3), (5, 3), (5, 3)), TensorType((1,), S32)), (1, 9)),
    Example(Adam(scale=0.25, clear=True), (*f32((7,), (7,), (7,)), TensorType((1,), S32)), (1, 9)),
    Example(Adam(0.5, 0.9, 1e-3), (*f32((1,), (1,), (1,)), TensorType((1,), S32)), (1, 2)),
    Example(Adam(factored=True), (*f32((4, 3, 2), (4, 3, 2), (4, 3, 2)), TensorType((1,), S32), TensorType((4, 1, 1))), (1, 9)),
    Example(Adam(scale=0.5, clear=True, factored=True), (*f32((7,), (7,), (7,)), TensorType((1,), S32), TensorType((7,))), (1, 9)),
)
