# SPDX-License-Identifier: Apache-2.0
"""Bases of rules that make another direction of a gradient: `w' = w − lr · direction` is the step of whatever optimiser follows, so that
they serve float and integer weights alike.

A direction has no unit, or that of the real weight: the gradient of a weight stored as q = w/s is divided by s first (`factored`), and
what is kept, ε and direction are those of w. Weight decay that goes through the rule is λ·w added to the gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from tinytrain.ir.integer import IntegerForms, Operand
from tinytrain.ir.op import Declined, Elementwise, no
from tinytrain.ir.types import Array, TensorType, Value
from tinytrain.ir.words import PLAIN, Words


@dataclass(frozen=True)
class Direction(Elementwise):
    """g, what is kept (like g), single elements [, w like g] [, factor (one per row, per channel or in all)]
    -> direction, what is kept [, 0].

    `scale` (1/N of N accumulated ones) and the factor multiply the gradient first, `decay` adds that part of w; `clear` also gives the
    zero that the sum starts from again. `keeps` are arguments and what the states behind them are called, `ones` those of one element.
    """

    scale: float = field(default=1.0, kw_only=True)
    clear: bool = field(default=False, kw_only=True)
    factored: bool = field(default=False, kw_only=True)
    decay: float = field(default=0.0, kw_only=True)

    keeps: ClassVar[Mapping[str, str]] = {}

    @property
    def ones(self) -> tuple[str, ...]:
        return ()

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        return ("g", *self.keeps, *self.ones, *(("w",) if self.decay else ()), *(("factor",) if self.factored else ()))

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        return ("direction", *(f"{name}_new" for name in self.keeps), *(("g_new",) if self.clear else ()))

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        given = dict(zip(self.args, types, strict=True))
        g = given["g"]
        if any(given[name].shape != g.shape for name in (*self.keeps, *(("w",) if self.decay else ()))):
            raise ValueError(f"gradient {g}, with it {', '.join(map(str, types[1:]))}")
        if any(given[name].numel != 1 for name in self.ones):
            raise ValueError(f"{', '.join(f'{name} {given[name]}' for name in self.ones)}: one element is expected")
        return tuple(g for _ in self.results)

    def follow(self, g: Array, given: Mapping[str, Array]) -> tuple[Array, ...]:
        """(direction, what is kept) of a gradient that is scaled."""
        raise NotImplementedError(self.name)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        given = dict(zip(self.args, arrays, strict=True))
        total = given["g"]
        real = total.dtype.type
        g = total * real(self.scale)
        if self.factored:
            g = given["factor"] * g
        if self.decay:
            g = g + real(self.decay) * given["w"]
        return (*self.follow(g, given), *((np.zeros_like(total),) if self.clear else ()))

    def gradient(self, w: Words, operands: Sequence[str]) -> str:
        """The scaled gradient in words; w and the factor are the last operands."""
        g, *last = operands[0], *operands[len(operands) - bool(self.decay) - self.factored :]
        if self.scale != 1.0:
            g = w.mul(g, w.number(self.scale))
        if self.factored:
            g = w.mul(last.pop(), g)
        return w.madd(g, w.number(self.decay), last.pop()) if self.decay else g

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return (0, len(self.results) - 1 if self.clear else 0), *((i, i) for i in range(1, 1 + len(self.keeps)))


@dataclass(frozen=True)
class Adaptive(Direction):
    """Base of those that divide a gradient by what is kept of earlier ones: roots and quotients, of one element at a time."""

    squares = True

    def formula(self, g: str, *operands: str) -> tuple[str, ...]:
        """C of (direction, what is kept) from C of the scaled gradient and of what is kept, then of single elements."""
        raise NotImplementedError(self.name)

    def expr(self, *operands: str) -> tuple[str, ...]:
        g = self.gradient(PLAIN, operands)
        made = self.formula(f"({g})" if " " in g else g, *operands[1:])
        return *made, *(("0.0f",) if self.clear else ())

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        return no("what it keeps is computed in fp32", "Use --optimiser sgd.")


def root(square: str) -> str:
    """C of √square. What is kept of squares is never below zero; the sign is dropped so that no input gives a NaN."""
    return f"tt_sqrtf({square} < 0.0f ? -{square} : {square})"
