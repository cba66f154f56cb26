# SPDX-License-Identifier: Apache-2.0
"""momentum_int: the momentum of one byte an element (ops/momentum_q.py) of gradients that are integers: v ≈ q·2^e, g·2^eg the gradient

v = μ·q·2^(e − e') + g·2^(eg − e');  direction = v, or g·2^(eg − e') + μ·v (Nesterov);  q' = saturate(round(v)), at random by the fraction

Directions have 16 bits below the unit of q', and end at 2^14 such units: while the exponent of a new momentum catches up with gradients
that are larger, that bounds their steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinytrain.ir.op import Elementwise, Example, Kernel
from tinytrain.ir.types import S8, S32, Array, TensorType
from tinytrain.ir.words import Words
from tinytrain.ops.draws import drawn, word_text
from tinytrain.ops.fixed import scaled, velocity, velocity_within

FRACTION_BITS = 16                                        # of a direction, and of μ
_ONE = TensorType((1,), S32)


@dataclass(frozen=True)
class MomentumInt(Elementwise):
    """g s8|s32, eg s32[1], q s8 like g, e s32[1], e_new s32[1] (one from e at most), counter s32[1] -> direction s32, q'.

    `counter` is the number of the step, `seed` differs from tensor to tensor.
    """

    momentum: float = 0.9
    nesterov: bool = False
    seed: int = 0

    name = "momentum_int"
    args = ("g", "eg", "q", "e", "e_new", "counter")
    results = ("direction", "q_new")
    kernels = tuple(Kernel("elementwise", (g, S32, S8, S32), macro="elementwise") for g in (S8, S32))

    @property
    def mu(self) -> int:
        """μ with 16 fraction bits."""
        return int(np.rint(np.ldexp(self.momentum, FRACTION_BITS)))

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        g, eg, q, *ones = types
        if g.dtype not in (S8, S32) or q != TensorType(g.shape, S8) or any(one != _ONE for one in (eg, *ones)):
            raise ValueError(f"gradient {g}, momentum {q}, exponents and counter {(eg, *ones)}")
        return TensorType(g.shape, S32), q

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        g, eg, q, e, e_new, counter = arrays
        gradient = scaled(g, int(eg[0]) - int(e_new[0]) + FRACTION_BITS)
        v = velocity(gradient, q, self.mu, int(e[0]) - int(e_new[0]))
        direction = velocity_within(gradient + (self.mu * v >> FRACTION_BITS)) if self.nesterov else v
        words = drawn(self.seed, counter, g.shape).astype(np.int64)
        kept = np.clip((v + (words >> (32 - FRACTION_BITS))) >> FRACTION_BITS, -127, 127)
        return direction.astype(np.int32), kept.astype(np.int8)

    def derived(self, w: Words, operand: int, pointer: str, i: str, whole: TensorType) -> tuple[str, str] | None:
        return word_text(w, self.seed, pointer, i, whole) if self.args[operand] == "counter" else None

    def expr(self, *operands: str) -> tuple[str, ...]:
        g, eg, q, e, e_new, word = operands
        gradient = f"tt_scaled({g}, {eg} - {e_new} + {FRACTION_BITS})"
        v = f"tt_velocity({gradient}, {q}, {self.mu}, {e} - {e_new})"
        return f"tt_ahead({gradient}, {v}, {self.mu})" if self.nesterov else v, f"tt_velocity_kept({v}, {word})"

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((2, 1),)


_NEAR, _FAR = (-8, 3), (-40, 40)                          # exponents of momentum and gradient
MomentumInt.examples = tuple(
    Example(op, (TensorType(shape, g), _ONE, TensorType(shape, S8), _ONE, _ONE, _ONE), (size, eg, (-127, 128), _NEAR, _NEAR, (0, 100_000)))
    for op, g, shape, size, eg in (
        (MomentumInt(), S32, (13,), (-1000, 1001), _NEAR),
        (MomentumInt(0.5, True, 7), S32, (4, 3, 3, 2), (-(2**29), 2**29), _FAR),
        (MomentumInt(0.99, False, 2**32 - 1), S8, (5, 3), (-127, 128), _FAR),
        (MomentumInt(0.9, True), S8, (1,), (-127, 128), (-60, -10)),
        (MomentumInt(0.99, True, 3), S32, (7,), (-(2**29), 2**29), (20, 60)),
    )
)
