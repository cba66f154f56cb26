# SPDX-License-Identifier: Apache-2.0
"""sgd_half: what sgd does to a weight that is stored as fp16.

With a master the weight is an fp32 number: w is its nearest half, which all kernels read, and r, 16 bits in the optimiser's state, how many
floats it lies behind that ("Mixed Precision Training", arXiv 1710.03740, keeps w twice in place of that). Both are moved away from zero by
2^-16 before they are counted: there 16 bits hold all numbers of floats between halves. Without, w' is one of the two halves around the new
weight, drawn so that the mean is right: updates that are far smaller than the distance between halves add up ("Deep Learning with Limited
Numerical Precision", arXiv 1502.02551).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.op import Example, f32
from tinytrain.ir.types import F32, S16, S32, Array, TensorType
from tinytrain.ir.words import Words
from tinytrain.ops.draws import drawn, word_text
from tinytrain.ops.optimiser import Sgd, in_place
from tinytrain.ops.simd import elementwise

_AWAY, _NORMAL = np.float32(2.0**-16), np.float32(2.0**-14)  # the latter is the least half with a leading one


def join(half: Array, rest: Array) -> Array:
    """The fp32 numbers that halves (in any type) and rests stand for."""
    half = half.astype(np.float32)
    away = np.copysign(_AWAY, half)
    return np.asarray(((half + away).view(np.int32) + rest).view(np.float32) - away)


def split(number: Array) -> tuple[Array, Array]:
    """(half as fp32, rest as int16) of the master of a number: of what fp32 leaves of it that is moved away from zero and back."""
    number = number.astype(np.float32)
    away = np.copysign(_AWAY, number)
    with np.errstate(over="ignore"):
        half = ((number + away) - away).astype(np.float16).astype(np.float32)
    return half, ((number + away).view(np.int32) - (half + away).view(np.int32)).astype(np.int16)


@dataclass(frozen=True)
class SgdHalf(Sgd):
    """g, w (same shape, w a half), lr (1) [, v like w], r s16 like w | counter s32 (1) -> w' [, v'] [, r'] [, 0].

    `counter` is the number of the step, `seed` differs from weight to weight.
    """

    master: bool = True
    seed: int = 0

    name = "sgd_half"
    whole = frozenset({"r_new"})
    # with and without v: the last that fits is taken
    kernels = tuple(
        kernel for more in ((S16,), (S32,), (F32, S16), (F32, S32)) for kernel in elementwise(F32, F32, F32, *more)
    )

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        return (*super().args, "r" if self.master else "counter")

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        optional = {"v_new": self.momentum != 0, "r_new": self.master, "g_new": self.clear}
        return ("w_new", *(name for name, there in optional.items() if there))

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        made = super().infer(*types[:-1])
        kept = types[-1]
        expected = TensorType(types[1].shape, S16) if self.master else TensorType((1,), S32)
        if kept != expected:
            raise ValueError(f"{self.args[-1]} {kept}: {expected} is expected")
        return tuple(expected if name == "r_new" else made[0] for name in self.results)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        grad, w, *others, kept = arrays
        held = join(w, kept).astype(w.dtype) if self.master else w
        made = dict(zip(super().results, super().reference(grad, held, *others), strict=True))
        to = made["w_new"]
        if self.master:
            half, made["r_new"] = split(to)
            made["w_new"] = half.astype(to.dtype)
        else:
            made["w_new"] = self._drawn(to, drawn(self.seed, kept, w.shape))
        return tuple(made[name] for name in self.results)

    @staticmethod
    def _drawn(to: Array, words: Array) -> Array:
        """The half below or above, by 13 random bits each: as many as a float has more, where what is subnormal as a half is lifted."""
        number = to.astype(np.float32)
        lift = np.where(np.abs(number) < _NORMAL, np.copysign(_NORMAL, number), np.float32(0))
        dithered = (number + lift).view(np.uint32) + (words >> np.uint32(19))
        return np.asarray(((dithered & np.uint32(0xFFFFE000)).view(np.float32) - lift).astype(to.dtype))

    def derived(self, w: Words, operand: int, pointer: str, i: str, whole: TensorType) -> tuple[str, str] | None:
        return word_text(w, self.seed, pointer, i, whole) if self.args[operand] == "counter" else None

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...] | None:
        g, weight, *others, kept = operands
        made = dict(zip(super().results, self._moved(w, g, w.master(weight, kept) if self.master else weight, *others), strict=True))
        to = made["w_new"]
        made["w_new"] = w.master_half(to) if self.master else w.drawn_half(to, kept)
        if self.master:
            made["r_new"] = w.rest(to, made["w_new"])
        return tuple(made[name] for name in self.results)

    def _moved(self, w: Words, g: str, weight: str, lr: str, *v: str) -> tuple[str, ...]:
        """What sgd gives, each product rounded: r is what rounding leaves, and would tell a fused one from another."""
        if self.scale != 1.0:
            g = w.mul(g, w.number(self.scale))
        if self.weight_decay:
            g = w.add(g, w.mul(w.number(self.weight_decay), weight))
        cleared = (w.number(0.0),) if self.clear else ()
        if not self.momentum:
            return w.sub(weight, w.mul(lr, g)), *cleared
        mu = w.number(self.momentum)
        new = w.add(w.mul(mu, v[0]), g)
        return w.sub(weight, w.mul(lr, w.add(g, w.mul(mu, new)) if self.nesterov else new)), new, *cleared

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return in_place(self.args, self.results)


def _example(op: SgdHalf, shape: tuple[int, ...] = (5, 7)) -> Example:
    kept = TensorType(shape, S16) if op.master else TensorType((1,), S32)
    bounds: Sequence[tuple[int, int]] = [(0, 1)] * (len(op.args) - 1) + [(-32768, 32768) if op.master else (0, 100_000)]
    return Example(op, (*f32(shape, shape, (1,), *([shape] if op.momentum else [])), kept), tuple(bounds))


SgdHalf.examples = tuple(
    _example(dataclasses.replace(rule, master=master, seed=7)) for master in (True, False)
    for rule in (
        SgdHalf(), SgdHalf(weight_decay=0.01), SgdHalf(0.9), SgdHalf(0.9, True, 0.001), SgdHalf(scale=0.25),
        SgdHalf(0.5, scale=0.125, clear=True),
    )
)
