# SPDX-License-Identifier: Apache-2.0
"""renormalise: y = g·f / 2^k as seven bits and a sign, 2^k as small as that allows;  e' = e + k     (g·f·2^e = y·2^e', rounded)
scaled_add: y·2^e' = a·2^ea + b·2^eb
rate: m·2^-s = lr·f·2^e, lr taken as fp32 bits;  sgd_integer: w' = saturate(w − bounded(round(m·g / 2^s)))

A gradient is mantissa·2^exponent (ops/fixed.py). The products of one update are made once per channel, not once per weight.

A step is bounded by a sixteenth of the range of a weight; that of a bias by as much at the largest input, a sixteenth of 127². The first
samples of a changed world have a loss many times what it will be, and without a bound they throw weights by half of their range at a
rate at which all later ones learn well: units then rest in their flat part, whose gradient is 0, for ever. Nothing but such samples
reaches the bound. It takes no pass over the gradient, which is in no memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.op import Elementwise, Example, Kernel, Op
from tinytrain.ir.types import F32, S8, S32, Array, DType, TensorType
from tinytrain.ir.words import Words
from tinytrain.ops.draws import drawn, word_text
from tinytrain.ops.fixed import bit_length, dithered_step, round7

ONE = TensorType((1,), S32)
MOST = {S8: 127 // 16, S32: 127 * 127 // 16}              # of a step
LIMITS = {S8: (-127, 127), S32: (-(2**30), 2**30)}       # symmetric weights; biases that leave room for the sum they are added to


def _lead(op: Op, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
    return max(0, outputs[0].nbytes - inputs[0].nbytes)   # element by element: what ends no later, or begins no later, is never ahead


@dataclass(frozen=True)
class Renormalise(Op):
    """g s8|s32, e s32[1] [, f s32 (C,) from 0 to below 2^30] -> y s8, e' s32[1]; `offset` is added to the exponent."""

    factored: bool = False
    offset: int = 0

    name = "renormalise"
    results = ("y", "e_new")
    kernels = (Kernel("integer", (S32,), lead=_lead), Kernel("integer", (S8, S32), lead=_lead))

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        return ("g", "e", "f") if self.factored else ("g", "e")

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        g, e = types[:2]
        if g.dtype not in (S8, S32) or e != ONE or (self.factored and types[2] != TensorType(g.shape[-1:], S32)):
            raise ValueError(f"mantissas {g}, exponent {e}, factors {types[2:]}")
        return TensorType(g.shape, S8), ONE

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        v = arrays[0].astype(np.int64) * (arrays[2] if self.factored else 1)
        shift = max(bit_length(v) - 7, 0)
        return round7(v, shift), arrays[1] + np.int32(shift + self.offset)


@dataclass(frozen=True)
class ScaledAdd(Op):
    """a s8, ea s32[1], b like a, eb s32[1] -> y s32, e s32[1]; 16 bits below the larger exponent are kept."""

    name = "scaled_add"
    args = ("a", "ea", "b", "eb")
    results = ("y", "e")
    kernels = (Kernel("integer", (S8, S32, S8, S32), lead=_lead),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        a, ea, b, eb = types
        if (a.shape, a.dtype, b.dtype, ea, eb) != (b.shape, S8, S8, ONE, ONE):
            raise ValueError(f"a {a}, b {b}, exponents {ea}, {eb}")
        return TensorType(a.shape, S32), ONE

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        a, ea, b, eb = arrays
        e = max(int(ea[0]), int(eb[0])) - 16

        def shifted(x: Array, by: int) -> Array:
            return x.astype(np.int32) << by if by >= 0 else x.astype(np.int32) >> min(-by, 7)

        return shifted(a, int(ea[0]) - e) + shifted(b, int(eb[0]) - e), np.array([e], np.int32)


@dataclass(frozen=True)
class Rate(Op):
    """lr f32[1] (its sign is ignored), e s32[1], m and s s32 alike (m in [2^30, 2^31) or 0) -> m', s' like them, s' in 1..62."""

    name = "rate"
    args = ("lr", "e", "m", "s")
    results = ("m_new", "s_new")
    kernels = (Kernel("integer", (F32, S32)),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        lr, e, m, s = types
        if lr.numel != 1 or e != ONE or m != s or m.dtype is not S32:
            raise ValueError(f"learning rate {lr}, exponent {e}, multiplier {m}, shift {s}")
        return m, m

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        lr, e, m, s = arrays
        bits = int(lr.astype(np.float32).view(np.uint32)[0])
        power = bits >> 23 & 255
        product = m.astype(np.int64) * (bits & 0x7FFFFF | 0x800000 if power else 0)
        carry = product >= 2**54
        small = np.where(carry, product >> 24, product >> 23)
        shift = s.astype(np.int64) - int(e[0]) - power + 150 - 23 - carry
        none, huge = (small == 0) | (shift > 62), shift < 1
        m_new = np.where(none, 0, np.where(huge, 2**31 - 1, small))
        return m_new.astype(np.int32), np.where(none, 62, np.where(huge, 1, shift)).astype(np.int32)


@dataclass(frozen=True)
class SgdInteger(Elementwise):
    """g s8|s32, w s8|s32, m, s s32 (per row, per channel or one; s in 1..62) [, counter s32[1]] -> w'.

    Rounded with a chance drawn from (seed, counter·n + i), or to nearest; `within` are the bounds of a weight of fewer bits, of whose
    range a step is a sixteenth, too, or one unit.
    """

    kind: DType = S8                                      # of w
    stochastic: bool = True
    seed: int = 0
    within: tuple[int, ...] = ()

    name = "sgd_integer"
    results = ("w_new",)
    kernels = (
        *(Kernel("elementwise", (S32, w, S32), macro="elementwise") for w in (S8, S32)),
        *(Kernel("elementwise", (S8, w, S32), macro="elementwise") for w in (S8, S32)),
    )

    @property
    def most(self) -> int:
        """Of a step."""
        return max(self.within[1] // 16, 1) if self.within else MOST[self.kind]

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        return ("g", "w", "m", "s", "counter") if self.stochastic else ("g", "w", "m", "s")

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        g, w, m, s = types[:4]
        if g.shape != w.shape or m != s or w.dtype is not self.kind:
            raise ValueError(f"gradient {g} for weight {w}, multiplier {m}, shift {s}")
        return (w,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        g, w, m, s = (a.astype(np.int64) for a in arrays[:4])
        words = np.full(g.shape, 2**31, np.int64)
        if self.stochastic:
            words = drawn(self.seed, arrays[4], g.shape).astype(np.int64)
        least, most = self.within or LIMITS[self.kind]
        # a bias of a channel of tiny scale may lie beyond: it is not pulled back
        low, high = (np.minimum(w, least), np.maximum(w, most)) if self.kind is S32 else (least, most)
        step = np.clip(dithered_step(g, m, s, words), -self.most, self.most)
        return (np.clip(w - step, low, high).astype(arrays[1].dtype),)

    def derived(self, w: Words, operand: int, pointer: str, i: str, whole: TensorType) -> tuple[str, str] | None:
        return word_text(w, self.seed, pointer, i, whole) if self.args[operand] == "counter" else None

    def expr(self, *operands: str) -> tuple[str, ...]:
        g, w, m, s = operands[:4]
        word = operands[4] if self.stochastic else "UINT32_C(0x80000000)"
        low, high = map(str, self.within or LIMITS[self.kind])
        if self.kind is S8:
            return (f"(int8_t)tt_stepped({w}, {g}, {m}, {s}, {word}, {self.most}, {low}, {high})",)
        low, high = f"{w} < {low} ? {w} : {low}", f"{w} > {high} ? {w} : {high}"
        return (f"tt_saturated({w}, tt_step({g}, {m}, {s}, {word}), {self.most}, {low}, {high})",)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((1, 0),)


def _kinds(*shapes: tuple[int, ...]) -> tuple[TensorType, ...]:
    return tuple(TensorType(shape, S32) for shape in shapes)


_WIDE = (-1_000_000, 1_000_001)
Renormalise.examples = tuple(
    Example(Renormalise(bool(f), offset), (TensorType(shape, kind), ONE, *_kinds(*f)), (bounds, (-40, 40), (0, bounds[1])))
    for kind in (S8, S32)
    for shape, f, offset, bounds in (
        ((1,), (), 0, _WIDE), ((5, 3), (), -7, (-40, 40)), ((17,), (), 0, (-200, 200)), ((3, 4, 6), ((6,),), -30, _WIDE),
        ((9,), ((9,),), 2, (0, 1)), ((11,), (), 0, (-(2**29), 2**29)),
    )
)
ScaledAdd.examples = tuple(
    Example(ScaledAdd(), (TensorType(shape, S8), ONE, TensorType(shape, S8), ONE), bounds)
    for shape in ((1,), (3, 7)) for bounds in ((-128, 128), (-9, 9), (-1000, 1000))
)
Rate.examples = tuple(
    Example(Rate(), (TensorType((1,)), ONE, *_kinds(shape, shape)), bounds)
    for shape in ((1,), (7,), (6, 1, 1, 1)) for bounds in ((0, 60), (2**30, 2**30 + 2**20), (-20, 90))
)
_STEP = (1, 63)
SgdInteger.examples = tuple(
    Example(
        SgdInteger(w, noise, 3, within), (TensorType(shape, g), TensorType(shape, w), *_kinds(each, each), *([ONE] if noise else [])), _STEP
    )
    for g in (S8, S32) for w, within in ((S8, ()), (S32, ()), (S8, (-8, 7))) for noise in (True, False)
    for shape, each in (((5,), (5,)), ((4, 3), (4, 1)), ((2, 3, 5), (1,)))
)
