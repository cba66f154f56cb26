# SPDX-License-Identifier: Apache-2.0
"""Einsum of one or two operands: sums over what only one has, then a product of matrices with the axes of each group as one.

    bhqd,bhkd->bhqk:   b, h are a batch, q rows, k columns, d is summed over
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.layout import Tensor
from tinytrain.ir.types import Value
from tinytrain.ops.elementwise import SumTo
from tinytrain.ops.matmul import ordered

WRITE_OUT = "Write it as Transpose, MatMul and ReduceSum."


@dataclass(frozen=True)
class _Named:
    """A tensor whose axes have letters."""

    tensor: Tensor
    letters: str

    def size(self, letter: str) -> int:
        return self.tensor.shape[self.letters.index(letter)]

    def grouped(self, call: Call, *groups: str) -> Value:
        """The axes of each group as one axis, the groups in this order."""
        order = tuple(self.letters.index(letter) for group in groups for letter in group)
        return call.view(self.tensor, order, tuple(math.prod(map(self.size, group)) for group in groups))


@handles("Einsum")
def einsum(call: Call) -> Tensor:
    operands, out = _equation(call)
    first, *others = (_summed(call, operand, set(out).union(*(o.letters for o in operands if o is not operand))) for operand in operands)
    if not others:
        letters = _in_memory(first)
        return Tensor(first.grouped(call, letters), call.shape, tuple(out.index(letter) for letter in letters))
    (second,) = others
    both = [letter for letter in first.letters if letter in second.letters]
    b, k = ("".join(letter for letter in both if (letter in out) == kept) for kept in (True, False))
    m, n = ("".join(letter for letter in one.letters if letter not in other.letters) for one, other in ((first, second), (second, first)))
    a, c = first.grouped(call, b, m, k), second.grouped(call, b, n, k)
    y = call.emit(*ordered((a, "bmk", 0), (c, "bnk", 0), "bmn"))
    return Tensor(y, call.shape, tuple(out.index(letter) for letter in b + m + n))


def _in_memory(operand: _Named) -> str:
    return "".join(operand.letters[axis] for axis in operand.tensor.order)


def _equation(call: Call) -> tuple[list[_Named], str]:
    """The operands with the letters of their axes, and those of the result."""
    text = call.text("equation", "").replace(" ", "")
    left, arrow, out = text.partition("->")
    names = left.split(",")
    count = Counter(left.replace(",", ""))
    if not arrow:
        out = "".join(sorted(letter for letter, times in count.items() if times == 1))
    if "." in text:
        raise call.fail(f"its equation is {text}, expected a letter for each axis", "Write the axes of the ellipsis as letters.")
    if len(names) > 2 or len(names) != len(call.node.input):
        raise call.fail(f"its equation {text} is for {len(names)} operands, expected one or two", "Write it as several of two operands.")
    if repeated := next((name for name in (*names, out) if len(set(name)) < len(name)), None):
        raise call.fail(f"its equation {text} has a letter twice in {repeated}, expected different ones", "Take the diagonal by a Gather.")
    operands = [_Named(call.tensor(i), name) for i, name in enumerate(names)]
    sizes: dict[str, int] = {}
    for operand in operands:
        for letter, size in zip(operand.letters, operand.tensor.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise call.fail(f"its equation {text} gives {letter} the sizes {sizes[letter]} and {size}, expected one", WRITE_OUT)
    return operands, out


def _summed(call: Call, operand: _Named, wanted: set[str]) -> _Named:
    """Without the axes that neither the result nor the other operand has."""
    memory = _in_memory(operand)
    kept, gone = ("".join(letter for letter in memory if (letter in wanted) == stays) for stays in (True, False))
    if not gone:
        return operand
    rows = operand.grouped(call, kept, gone)
    total = call.emit(SumTo((rows.shape[0], 1)), rows, part="total")
    shape = tuple(map(operand.size, kept))
    return _Named(Tensor(total, shape, tuple(range(len(shape)))), kept)
