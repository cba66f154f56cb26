# SPDX-License-Identifier: Apache-2.0
"""The momentum of SGD in one byte an element: v ≈ q·2^e, |q| ≤ 127, one exponent a tensor.

momentum_q:        v = μ·q·2^e + g;  direction = v, or g + μ·v (Nesterov);  q' = saturate(round(v / 2^e')), at random by the fraction
momentum_exponent: e' = e + 1 where the largest |q| is 127, e − 1 where it is below 60 but not 0, else e

The next exponent is chosen from what is stored before the update, so that each element is read and written in one pass. What has grown
beyond it saturates, and the exponent follows in the next step; it starts low, and the first steps are those of plain SGD while it catches
up. Only what is kept is rounded or saturates, never the gradient of the step itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinytrain.ir.integer import IntegerForms, Operand, Scaled
from tinytrain.ir.op import Declined, Elementwise, Example, Kernel, Op, no
from tinytrain.ir.types import F32, S8, S32, Array, TensorType, Value
from tinytrain.ir.words import Words, literal
from tinytrain.ops.draws import drawn, word_text
from tinytrain.ops.momentum_int import FRACTION_BITS, MomentumInt
from tinytrain.ops.optimiser_int import rounded

FIRST_EXPONENT = -20
_MOST = 127
_ONE = TensorType((1,), S32)


@dataclass(frozen=True)
class MomentumQ(Elementwise):
    """g f32, q s8 alike, e s32[1], e_new s32[1], counter s32[1] -> direction f32, q' [, 0].

    `scale` multiplies the gradient first (1/N of N accumulated ones); `clear` also gives the zero that the sum starts from again.
    `counter` is the number of the step, `seed` differs from tensor to tensor.
    """

    momentum: float = 0.9
    nesterov: bool = False
    seed: int = 0
    scale: float = 1.0
    clear: bool = False

    name = "momentum_q"
    args = ("g", "q", "e", "e_new", "counter")
    kernels = (Kernel("elementwise", (F32, S8, S32), macro="elementwise"),)

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        return ("direction", "q_new", *(("g_new",) if self.clear else ()))

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return (0, 2 if self.clear else 0), (1, 1)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        g, q, *ones = types
        if q != TensorType(g.shape, S8) or any(one != _ONE for one in ones):
            raise ValueError(f"gradient {g}, momentum {q}, exponents and counter {ones}")
        return (g, q, *((g,) if self.clear else ()))

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        total, q, e, e_new, counter = arrays
        real = total.dtype.type
        g = total * real(self.scale) if self.scale != 1.0 else total
        with np.errstate(over="ignore", invalid="ignore"):
            v = real(self.momentum) * (q.astype(total.dtype) * np.ldexp(real(1), e)) + g
            direction = g + real(self.momentum) * v if self.nesterov else v
            kept = rounded(v * np.ldexp(real(1), -e_new), "stochastic", _MOST, drawn(self.seed, counter, g.shape))
        return direction, kept.astype(np.int8), *((np.zeros_like(total),) if self.clear else ())

    def derived(self, w: Words, operand: int, pointer: str, i: str, whole: TensorType) -> tuple[str, str] | None:
        return word_text(w, self.seed, pointer, i, whole) if self.args[operand] == "counter" else None

    def expr(self, *operands: str) -> tuple[str, ...]:
        g, q, e, e_new, word = operands
        g = g if self.scale == 1.0 else f"({g} * {literal(self.scale)})"
        v = f"({literal(self.momentum)} * ((float){q} * tt_exp2i({e})) + {g})"
        direction = f"{g} + {literal(self.momentum)} * {v}" if self.nesterov else v
        kept = f"(int8_t)tt_round_stochastic({v} * tt_exp2i(-{e_new}), {literal(_MOST)}, {word})"
        return direction, kept, *(("0.0f",) if self.clear else ())

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        grad, q, *numbers = inputs
        if not isinstance(grad, Scaled) or not isinstance(q, Value):
            return no("its gradient is not made of integers")
        if self.clear:
            return no("sums of gradients are fp32", "Leave out --accumulate.")
        if grad.factor.ndim:
            grad = g.short(grad)                          # what is kept has one factor for all channels
        op = MomentumInt(self.momentum, self.nesterov, self.seed)
        rest = (v for v in numbers if isinstance(v, Value))
        direction, kept = g.emit_all(op, grad.mantissa, grad.exponent, q, *rest, name=outputs[0].name)
        e_new = numbers[1]
        assert isinstance(e_new, Value), f"{e_new} is an integer"
        return Scaled(direction, e_new, grad.factor * 2.0**-FRACTION_BITS), kept


@dataclass(frozen=True)
class MomentumExponent(Op):
    """q s8, e s32[1] -> the exponent that q is written with next."""

    name = "momentum_exponent"
    args = ("q", "e")
    results = ("e_new",)
    kernels = (Kernel("momentum_q", (S8, S32)),)

    full: ClassVar[int] = _MOST
    empty: ClassVar[int] = 60
    limits: ClassVar[tuple[int, int]] = (-32, 60)         # 2^e and 2^-e are normal numbers; from the lowest it is not far back

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if types[0].dtype is not S8 or types[1] != _ONE:
            raise ValueError(f"momentum {types[0]}, exponent {types[1]}")
        return (_ONE,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        q, e = arrays
        top = int(np.abs(q.astype(np.int32)).max(initial=0))
        step = 1 if top >= self.full else -1 if 0 < top < self.empty else 0
        return (np.clip(e + step, *self.limits).astype(np.int32),)


_BOUNDS = ((0, 1), (-127, 128), (-8, 3), (-8, 3), (0, 100_000))
MomentumQ.examples = tuple(
    Example(op, (TensorType(shape), TensorType(shape, S8), _ONE, _ONE, _ONE), _BOUNDS)
    for op, shape in (
        (MomentumQ(), (13,)), (MomentumQ(0.5, True, 7), (4, 3, 3, 2)), (MomentumQ(0.9, False, 2**32 - 1, 0.25, True), (5, 3)),
        (MomentumQ(0.99, True, 3, 1e9, True), (7,)), (MomentumQ(), (1,)),
    )
)
MomentumExponent.examples = tuple(
    Example(MomentumExponent(), (TensorType(shape, S8), _ONE), (bounds, (-32, 61)))
    for shape, bounds in (((300,), (-127, 128)), ((3, 5), (-40, 40)), ((7,), (0, 1)), ((2, 2), (60, 100)), ((1,), (127, 128)))
)
