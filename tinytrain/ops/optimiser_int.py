# SPDX-License-Identifier: Apache-2.0
"""sgd_int: v = [μ·v +] f·g [+ λ·w];  w' = saturate(w − round(lr·v))          w int8 or int32, g fp32, f one per row, channel or tensor

round(d), d in units of the last place of w; u 32 random bits from (seed, step·n + i), as a fraction in [0, 1):
    stochastic  sign d·(⌊|d|⌋ + [u < |d| − ⌊|d|⌋]): d in the mean, so that updates far below one unit add up
    nearest     a half away from zero
    residual    stochastic, of W = 256·w + r: r are eight more bits of each weight, kept beside it
    master      w' + m' = w + m − lr·v, w' the nearest: m is all that rounding has left out so far, in fp32. With it beside each weight,
                what is trained are fp32 weights, as on a large machine
    truncate    w' = w − lr·v without its fraction, as a C cast does it: each step pulls every weight toward zero; for comparison only

f takes the gradient of the stored number to the step of the stored number. With f = 1/s² (s the scale of the row) the step is that of
the real weight s·w under plain SGD: quantisation-aware scaling ("On-Device Training Under 256KB Memory", arXiv 2206.15472). Where g is a
direction of the real weight (Adam's), it is f = 1/s.
int8 saturates at ±127, the symmetric range of weights; int32 at ±2^30, which leaves a sum as much room again, or where it lies beyond
(the bias of a channel of tiny scale). A step that is infinite is the largest there is; one that is not a number is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from tinytrain.ir.integer import IntegerForms, Operand
from tinytrain.ir.op import Declined, Elementwise, Example, no
from tinytrain.ir.types import F32, S8, S32, Array, DType, TensorType, Value
from tinytrain.ir.words import PLAIN, Words, literal
from tinytrain.ops.draws import drawn, word_text
from tinytrain.ops.optimiser import in_place
from tinytrain.ops.simd import elementwise

Rounding = Literal["stochastic", "nearest", "residual", "master", "truncate"]
_BOUND = {8: 127, 32: 2**30}                              # of weights, by their bits
_LARGEST_STEP = {8: 65536.0, 32: 2147483520.0}            # in units of w or of r; more would take any weight beyond its bound, or int32
_DTYPE = {8: S8, 32: S32}


def rounded(d: Array, rounding: Rounding, limit: float, words: Array) -> Array:
    """round(d) as int64; `words` are 32 random bits an element. Truncation leaves out the fraction."""
    size = np.minimum(np.abs(d), d.dtype.type(limit))
    size = np.where(np.isnan(size), d.dtype.type(0), size)
    whole = np.floor(size)
    fraction = size - whole
    up = np.zeros(d.shape, bool)
    if rounding in ("stochastic", "residual"):
        up = words < np.ldexp(fraction, 32).astype(np.uint32)
    elif rounding in ("nearest", "master"):
        up = fraction >= 0.5
    n = whole.astype(np.int64) + up
    return np.asarray(np.where(d < 0, -n, n))


@dataclass(frozen=True)
class SgdInt(Elementwise):
    """g f32, w s8|s32, factor f32 (one per row, per channel or in all), lr f32[1] [, v f32 like w] [, counter s32[1]] [, r s8 like w]
    -> w' [, v'] [, r'] [, 0].

    `bits` are those of w. `scale` multiplies the gradient first (1/N of N accumulated ones); `clear` also gives the zero that the sum
    starts from again. `counter` is the number of the step, `seed` differs from weight to weight; `within` are the bounds of a weight of
    fewer bits.
    """

    rounding: Rounding = "stochastic"
    bits: int = 8
    seed: int = 0
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    scale: float = 1.0
    clear: bool = False
    within: tuple[int, ...] = ()

    name = "sgd_int"
    whole = frozenset({"w_new"})
    # with and without v, counter and r: the last that fits is taken
    kernels = tuple(
        kernel for w in (S8, S32) for more in ((F32, F32, S32, S8), (F32, S32, S8), (F32, F32, S32), (F32, S32), ())
        for kernel in elementwise(F32, w, F32, *more)
    )

    @property
    def draws(self) -> bool:
        """Whether random numbers are needed, and with them a counter."""
        return self.rounding in ("stochastic", "residual")

    @property
    def still(self) -> bool:                              # type: ignore[override]
        return self.rounding in ("stochastic", "nearest") and not self.momentum and not self.weight_decay

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        optional = {"v": self.momentum != 0, "counter": self.draws, "r": self.rounding == "residual", "m": self.rounding == "master"}
        return ("g", "w", "factor", "lr", *(name for name, there in optional.items() if there))

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        residual, master = self.rounding == "residual", self.rounding == "master"
        optional = {"v_new": self.momentum != 0, "r_new": residual, "m_new": master, "g_new": self.clear}
        return ("w_new", *(name for name, there in optional.items() if there))

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return in_place(self.args, self.results)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        kinds = dict(zip(self.args, types, strict=True))
        g, w = kinds["g"], kinds["w"]
        if self.rounding not in get_args(Rounding) or self.bits not in _BOUND:
            raise ValueError(f"{self.rounding} rounding of {self.bits} bits: expected one of {', '.join(get_args(Rounding))}, and 8 or 32")
        if g.shape != w.shape or w.dtype is not _DTYPE[self.bits] or (w.quant and w.quant.zero_point):
            raise ValueError(f"gradient {g} for weight {w}: {self.bits} bits of the same shape and zero point 0 are expected")
        if kinds["lr"].numel != 1 or kinds.get("counter", TensorType((1,), S32)) != TensorType((1,), S32):
            raise ValueError(f"learning rate {kinds['lr']}, counter {kinds.get('counter')}: f32[1] and s32[1] are expected")
        made = {"w_new": w, "v_new": g, "r_new": TensorType(w.shape, S8), "m_new": g, "g_new": g}
        return tuple(made[name] for name in self.results)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        given = dict(zip(self.args, arrays, strict=True))
        g, w, lr = given["g"], given["w"], given["lr"]
        number = g.dtype.type
        with np.errstate(over="ignore", invalid="ignore"):
            gradient = given["factor"] * (g * number(self.scale) if self.scale != 1.0 else g)
            if self.weight_decay:
                gradient = gradient + number(self.weight_decay) * w.astype(g.dtype)
            v = number(self.momentum) * given["v"] + gradient if self.momentum else gradient
            d = lr * (gradient + number(self.momentum) * v if self.nesterov and self.momentum else v)
            if self.rounding == "master":
                d = d - given["m"]
            units = 256 if self.rounding == "residual" else 1
            words = np.zeros(g.shape, np.uint32)
            if self.draws:
                words = drawn(self.seed, given["counter"], g.shape)
            bound = _BOUND[self.bits] * units
            old = w.astype(np.int64) * units + given.get("r", np.zeros(1, np.int8)).astype(np.int64)
            if self.rounding == "truncate":
                to = w.astype(g.dtype) - d
                new = np.where(np.isnan(to), old, rounded(to, self.rounding, bound, words))
            else:
                low, high = (np.minimum(old, -bound), np.maximum(old, bound)) if self.bits == 32 else (-bound, bound)
                step = rounded(d * number(units), self.rounding, _LARGEST_STEP[self.bits], words)
                new = np.clip(old - step, low, high)
            if self.within:
                new = np.clip(new, self.within[0] * units, self.within[1] * units)
        kept = (new + units // 2) // units
        made = {"w_new": kept.astype(w.dtype), "v_new": v, "r_new": (new - kept * units).astype(np.int8), "g_new": np.zeros_like(g)}
        if self.rounding == "master":
            made["m_new"] = step.astype(g.dtype) - d
        return tuple(made[name] for name in self.results)

    def derived(self, w: Words, operand: int, pointer: str, i: str, whole: TensorType) -> tuple[str, str] | None:
        return word_text(w, self.seed, pointer, i, whole) if self.args[operand] == "counter" else None

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...] | None:
        if self.rounding not in ("stochastic", "nearest") or self.momentum or self.weight_decay or self.clear or self.within:
            return None
        g, weight, factor, lr, *word = operands
        d = w.mul(lr, w.mul(factor, w.mul(g, w.number(self.scale)) if self.scale != 1.0 else g))
        step = w.rounded(self.rounding, d, _LARGEST_STEP[self.bits], *word)
        return (w.moved(weight, step, _BOUND[self.bits], self.bits == 32),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        if simple := self.lanes(PLAIN, *operands):
            return simple
        given = dict(zip(self.args, operands, strict=True))
        w, mu = given["w"], literal(self.momentum)
        gradient = f"{given['factor']} * " + (f"({given['g']} * {literal(self.scale)})" if self.scale != 1.0 else given["g"])
        if self.weight_decay:
            gradient = f"({gradient} + {literal(self.weight_decay)} * (float){w})"
        v = f"{mu} * {given['v']} + {gradient}" if self.momentum else gradient
        d = f"{given['lr']} * ({f'{gradient} + {mu} * ({v})' if self.nesterov and self.momentum else v})"
        if self.rounding == "master":
            d = f"({d} - {given['m']})"
        residual, bound, wide = self.rounding == "residual", _BOUND[self.bits], self.bits == 32
        if self.rounding == "truncate":
            new = f"tt_truncated((float){w} - {d}, {literal(bound)}, {w})"
        else:
            how = "stochastic" if self.draws else "nearest"
            word = f", {given['counter']}" if self.draws else ""
            step = f"tt_round_{how}({f'{d} * 256.0f' if residual else d}, {literal(_LARGEST_STEP[self.bits])}{word})"
            old = f"{'(int64_t)' if wide else ''}{w} * 256 + {given['r']}" if residual else w
            new = f"tt_moved{'_wide' if wide else ''}({old}, {step}, {bound * (256 if residual else 1)}{'LL' if wide else ''})"
        if self.within:
            low, high = (end * (256 if residual else 1) for end in self.within)
            new = f"tt_within({new}, {low}, {high})"
        kind = _DTYPE[self.bits].c
        made = {
            "w_new": f"({kind})(({new} + 128) >> 8)" if residual else f"({kind}){new}",
            "v_new": v,
            # the last eight bits, read as a signed number
            "r_new": f"(int8_t)((({new} + 128) & 255) - 128)",
            "m_new": f"(float)tt_round_nearest({d}, {literal(_LARGEST_STEP[self.bits])}) - {d}",
            "g_new": "0.0f",
        }
        return tuple(made[name] for name in self.results)

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        given = dict(zip(self.args, inputs, strict=True))
        w, factor, lr, counter = (given.get(name) for name in ("w", "factor", "lr", "counter"))
        if self.momentum:
            return no("its momentum is fp32", "Use --momentum-type int8.")
        if self.weight_decay or self.clear:
            return no("weight decay and sums of gradients are fp32", "Leave out --weight-decay, --accumulate.")
        if self.rounding not in ("stochastic", "nearest"):
            return no(f"{self.rounding} rounding is one of fp32 steps", "Use --rounding stochastic or nearest.")
        if not isinstance(w, Value) or not isinstance(lr, Value) or not isinstance(factor, Value) or factor.data is None:
            return no("its weight, factor or learning rate is computed")
        step = factor.data.astype(np.float64) * self.scale
        made = g.moved(w, given["g"], step, lr, self.seed, counter if isinstance(counter, Value) else None)
        return made if isinstance(made, Declined) else (made,)


def _example(op: SgdInt, shape: tuple[int, ...], factor: tuple[int, ...], bounds: tuple[int, int]) -> Example:
    kinds = {
        "w": (TensorType(shape, _DTYPE[op.bits]), bounds),
        "counter": (TensorType((1,), S32), (0, 100_000)),
        "r": (TensorType(shape, S8), (-128, 128)),
        **{name: (TensorType(size), (0, 1)) for name, size in (("g", shape), ("v", shape), ("m", shape), ("lr", (1,)), ("factor", factor))},
    }
    return Example(op, tuple(kinds[name][0] for name in op.args), tuple(kinds[name][1] for name in op.args))


def moved(shape: tuple[int, ...], factor: tuple[int, ...], dtype: DType = S8) -> tuple[TensorType, ...]:
    """Operands of an example that updates where the gradient is made: weight, factor, learning rate, counter."""
    return TensorType(shape, dtype), TensorType(factor), TensorType((1,)), TensorType((1,), S32)


_ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)
SgdInt.examples = (
    *(_example(SgdInt(rounding, 8, 7), (4, 3, 3, 2), (4, 1, 1, 1), (-127, 128)) for rounding in _ROUNDINGS),
    *(_example(SgdInt(rounding, 32, 2**32 - 1), (13,), (13,), (-300, 300)) for rounding in _ROUNDINGS),
    *(_example(SgdInt(rounding, 8, 3, scale=1e9), (3, 5, 7), (7,), (-127, 128)) for rounding in _ROUNDINGS),
    *(_example(SgdInt(rounding, 32, 3, scale=1e12), (9,), (1,), (-2**30, 2**30 - 1)) for rounding in _ROUNDINGS),
    *(_example(SgdInt(rounding, 32, 3), (9,), (1,), (2**30 - 9, 2**31 - 1)) for rounding in _ROUNDINGS if rounding != "truncate"),
    _example(SgdInt("residual", 32, 3, scale=1e6), (9,), (1,), (-2**31, -2**30 + 9)),
    *(_example(SgdInt(rounding, 8, 5, 0.9, True, 0.01, 20.0, True), (5, 3), (5, 1), (-127, 128)) for rounding in _ROUNDINGS),
    *(_example(SgdInt(rounding, 32, momentum=0.9, scale=30.0), (6,), (6,), (-1000, 1000)) for rounding in _ROUNDINGS),
    *(_example(SgdInt(rounding, 8, 7, scale=50.0, within=(-8, 7)), (5, 3), (5, 1), (-8, 8)) for rounding in _ROUNDINGS),
    _example(SgdInt(bits=32, weight_decay=0.1, scale=30.0), (6,), (6,), (-1000, 1000)),
)
