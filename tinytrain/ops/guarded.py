# SPDX-License-Identifier: Apache-2.0
"""Updates that can be left out: k is 0 where they are.

unscale:  g = k·g', or 0                   where k = 0, also of what is infinite or not a number
kept:     new, or old                      where k = 0
guarded:  what a rule makes, or the old    where k = 0; what has no old, a direction, is then 0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.op import Elementwise, Example, Kernel, f32
from tinytrain.ir.types import F32, S8, S16, S32, Array, DType, TensorType
from tinytrain.ir.words import PLAIN, Words
from tinytrain.ops.adam import Adam
from tinytrain.ops.momentum_q import MomentumQ
from tinytrain.ops.optimiser import Sgd
from tinytrain.ops.optimiser_half import SgdHalf
from tinytrain.ops.optimiser_int import SgdInt
from tinytrain.ops.pull import Pull
from tinytrain.ops.simd import elementwise

_ONE, _COUNTER = TensorType((1,)), TensorType((1,), S32)


def _check_factor(k: TensorType) -> None:
    if k != _ONE:
        raise ValueError(f"factor {k}: f32[1] is expected")


@dataclass(frozen=True)
class Unscale(Elementwise):
    """g, k f32[1] -> k·g where k > 0, else 0."""

    name = "unscale"
    args = ("g", "k")
    results = ("unscaled",)
    kernels = elementwise()

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        _check_factor(types[1])
        return (types[0],)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        g, k = arrays
        return (g * k[0] if k[0] > 0 else np.zeros_like(g),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        g, k = operands
        zero = w.number(0.0)
        return (w.where(k, zero, w.mul(g, k), zero),)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)


@dataclass(frozen=True)
class Kept(Elementwise):
    """made, old (like made), k f32[1] -> made where k > 0, else old."""

    name = "kept"
    args = ("made", "old", "k")
    results = ("chosen",)
    kernels = (*elementwise(), Kernel("elementwise", (S32, S32, F32), macro="elementwise"))

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        new, old, k = types
        _check_factor(k)
        if new != old:
            raise ValueError(f"{new} in place of {old}")
        return (new,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        new, old, k = arrays
        return (new if k[0] > 0 else old,)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        new, old, k = operands
        return (w.where(k, w.number(0.0), new, old),)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return (0, 0), (1, 0)


# operands of the rules behind their weight, where those are not all floats
_KINDS: tuple[tuple[DType, ...], ...] = (
    (F32, F32, F32, S32, F32), (F32, F32, F32, F32, S32, F32), (F32, F32, F32, S16, F32), (F32, F32, F32, F32, S16, F32),
    (F32, S8, S32, S32, S32, F32), (F32, S8, S8, S8, F32), (F32, S8, S32, S32, F32),
    *((F32, w, F32, *more, F32) for w in (S8, S32) for more in ((), (F32, S32), (F32, F32, S32), (F32, S32, S8), (F32, F32, S32, S8))),
)


@dataclass(frozen=True)
class Guarded(Elementwise):
    """The operands of a rule, k f32[1] -> what the rule makes where k > 0.

    Else what the rule may write over keeps its value, and other results are 0: so is a sum that starts again.
    """

    rule: Elementwise

    name = "guarded"
    kernels = (*elementwise(), *(kernel for kinds in _KINDS for kernel in elementwise(*kinds)))

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        return (*self.rule.args, "guard")

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        return self.rule.results

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return self.rule.inplace

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        _check_factor(types[-1])
        return self.rule.infer(*types[:-1])

    def _old(self, result: int) -> int | None:
        """The operand whose new value a result is; operand 0, the gradient, has none."""
        return next((i for i, o in self.rule.inplace if o == result and i > 0), None)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        *operands, k = arrays
        with np.errstate(over="ignore", invalid="ignore"):
            made = self.rule.reference(*operands)
        if k[0] > 0:
            return made
        old = (self._old(o) for o in range(len(made)))
        return tuple(np.zeros_like(new) if i is None else operands[i] for new, i in zip(made, old, strict=True))

    def _chosen(self, w: Words, made: Sequence[str], operands: Sequence[str]) -> tuple[str, ...]:
        zero = w.number(0.0)
        old = (zero if i is None else operands[i] for i in map(self._old, range(len(made))))
        kinds = ("int32_t" if name in self.rule.whole else "float" for name in self.results)
        return tuple(w.where(operands[-1], zero, new, kept, kind) for new, kept, kind in zip(made, old, kinds, strict=True))

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...] | None:
        made = self.rule.lanes(w, *operands[:-1])
        return None if made is None else self._chosen(w, made, operands)

    def expr(self, *operands: str) -> tuple[str, ...]:
        return self._chosen(PLAIN, self.rule.expr(*operands[:-1]), operands)

    def load(self, operand: int, pointer: str, i: str, c: str, types: Sequence[TensorType]) -> tuple[str, str]:
        if operand < len(self.rule.args):
            return self.rule.load(operand, pointer, i, c, types[:-1])
        return super().load(operand, pointer, i, c, types)

    def derived(self, w: Words, operand: int, pointer: str, i: str, whole: TensorType) -> tuple[str, str] | None:
        return self.rule.derived(w, operand, pointer, i, whole) if operand < len(self.rule.args) else None

    def once(self, operand: int, element: str) -> tuple[str, ...]:
        return self.rule.once(operand, element) if operand < len(self.rule.args) else ()


# with every factor above 0, and with every one below
_SIGNS = ((1.0, 1.5), (1.0, -1.5))


def _guarded(*rules: type[Elementwise]) -> list[Example]:
    """Of the examples of these rules one for each combination of types, in both signs of k."""
    kinds = {(e.op.name, e.op.results, tuple(t.dtype for t in e.inputs)): e for rule in rules for e in rule.examples}
    return [
        Example(Guarded(e.op), (*e.inputs, _ONE), (*(e.bounds(i) for i in range(len(e.inputs))), (0, 1)), reals)
        for e in kinds.values() if isinstance(e.op, Elementwise) for reals in _SIGNS
    ]


Unscale.examples = tuple(Example(Unscale(), f32(shape, (1,)), reals=reals) for shape in ((1,), (37,), (3, 5, 7)) for reals in _SIGNS)
Kept.examples = tuple(
    Example(Kept(), (kind, kind, _ONE), (-100, 100), reals)
    for kind in (*f32((1,), (37,), (5, 7)), _COUNTER, TensorType((9,), S32)) for reals in _SIGNS
)
Guarded.examples = tuple(_guarded(Sgd, SgdHalf, Adam, MomentumQ, SgdInt, Pull))
