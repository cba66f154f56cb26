# SPDX-License-Identifier: Apache-2.0
"""Handlers of products of matrices: with a constant one, which is a dense layer, and of two computed operands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.handlers_elementwise import padded_shape, placed, widened
from tinytrain.frontend.layout import Dims, Tensor, lasting
from tinytrain.ir.types import Value
from tinytrain.ops.dense import Dense
from tinytrain.ops.elementwise import Add, Scale
from tinytrain.ops.matmul import Sided, ordered


@handles("Gemm")
def gemm(call: Call) -> Tensor:
    """alpha · A·B + beta · C; a constant B is kept as (N, K)."""
    a = _turned(call.tensor(0)) if call.integer("transA") else call.tensor(0)
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    biased = call.has(2) and beta != 0
    part = "sum" if biased or alpha != 1 else ""
    if call.is_const(1):
        w = call.const(1, "matrix B", perm=(0, 1) if call.integer("transB") else (1, 0))
        y = Tensor(call.emit(Dense(), call.view(a, (0, 1)), w, part=part), call.shape, (0, 1))
    else:
        y = multiplied(call, a, _turned(call.tensor(1)) if call.integer("transB") else call.tensor(1), part)
    if alpha != 1:
        y = replace(y, value=call.emit(Scale(alpha), y.value, part="scaled" if biased else ""))
    if biased:
        y = replace(y, value=call.emit(Add(), y.value, _gemm_bias(call, y, beta)))
    return y


def _gemm_bias(call: Call, y: Tensor, beta: float) -> Value:
    """C as one per column, a single element, or one per element; a beta stays outside so that C remains what is trained."""
    shape = call.operand_shape(2)
    full = padded_shape(shape, 2)
    if not call.is_const(2):
        bias = placed(call, 2, full, y.order, lasting(y.shape, y.order), y.value.shape)
    elif full == y.shape and y.shape[0] > 1:
        bias = call.const(2, "bias C", shape=full, perm=y.order, ir=y.value.shape)
    elif full[0] == 1 and y.order[-1] == 1:
        bias = call.const(2, "bias C", ir=(full[1],))
    else:
        raise call.fail(
            f"its bias C has the shape {shape} for an output of {call.shape}, expected one value per column", "Use a bias of shape (N,)."
        )
    return bias if beta == 1 else call.emit(Scale(beta), bias, part="bias")


@handles("MatMul")
def matmul(call: Call) -> Tensor:
    """x (…, K) by a constant (K, N), a constant (M, K) by x (…, K, N), or both computed."""
    for side in (1, 0):
        if call.is_const(side) and not call.is_const(1 - side):
            shape = call.operand_shape(side)
            if math.prod(shape[:-2]) == 1 and len(shape) <= max(2, len(call.operand_shape(1 - side))):
                return _dense(call, side, shape)
    return multiplied(call, call.tensor(0), call.tensor(1))


def _dense(call: Call, side: int, shape: Dims) -> Tensor:
    """The operand of `side` as a weight; one on the left makes its rows the last axis in memory, where the result has them too."""
    x = call.tensor(1 - side)
    rank = len(x.shape)
    summed = rank - 1 if side else max(rank - 2, 0)
    n = shape[-1 if side else -2] if len(shape) > 1 else 1
    matrix = (x.shape[summed], n) if side else (n, x.shape[summed])
    w = call.const(side, "right operand" if side else "left operand", shape=matrix, perm=(1, 0) if side else (0, 1))
    order = (*(a for a in x.order if a != summed), summed)
    y = call.emit(Dense(), call.view(x, order), w)
    if len(shape) > 1:
        return Tensor(y, call.shape, order)
    return Tensor(y, call.shape, tuple(a - (a > summed) for a in order[:-1]))


@dataclass(frozen=True)
class _Operand:
    """A tensor of full rank, and for each group of its axes (b, m or n, k) those that are longer than 1, as they follow in memory."""

    tensor: Tensor
    groups: dict[str, Dims]

    @classmethod
    def of(cls, tensor: Tensor, groups: dict[str, Dims], order: Sequence[int] = ()) -> _Operand:
        """Groups stay where they are if each lies together; `order` is the one that b must have."""
        found = {letter: tuple(a for a in tensor.order if a in axes) for letter, axes in groups.items()}
        return cls(tensor, {**found, "b": tuple(order) or found["b"]})

    def placed(self, call: Call) -> Sided:
        """The operand with one axis for each group, the letters of these axes, and its zero point."""
        shape = self.tensor.shape
        letter_of = {a: letter for letter, axes in self.groups.items() for a in axes}
        letters = "".join(dict.fromkeys(letter_of[a] for a in lasting(shape, self.tensor.order)))
        letters = "".join(letter for letter in self.groups if letter not in letters) + letters
        if letters[-1] == "b" and self.groups["b"]:
            letters = "".join(self.groups)                # neither rows nor sums would run along memory
        axes = [a for letter in letters for a in self.groups[letter]]
        order = (*(a for a in range(len(shape)) if a not in axes), *axes)
        value = call.view(self.tensor, order, tuple(math.prod(shape[a] for a in self.groups[letter]) for letter in letters))
        return value, letters, value.type.quant.zero_point if value.type.quant else 0


def multiplied(call: Call, a: Tensor, b: Tensor, part: str = "") -> Tensor:
    """Σ_k a·b where both are computed, fp32 or int8. Axes that only one of them has, whatever they are, are rows of a or columns of b."""
    single = (len(a.shape) == 1, len(b.shape) == 1)
    rank = max(len(a.shape), len(b.shape), 2)
    a = widened(a, rank)
    b = widened(_turned(widened(b, 2)) if single[1] else b, rank)
    leading = range(rank - 2)
    shared = tuple(i for i in leading if a.shape[i] > 1 and b.shape[i] > 1)
    if any(a.shape[i] != b.shape[i] for i in shared) or a.shape[-1] != b.shape[-2]:
        raise call.fail(f"it multiplies {a.shape} by {b.shape}, which do not fit each other", "Export the model again.")
    left = _Operand.of(a, {"b": shared, "m": _longer(a, shared, rank - 1), "k": _longer(a, range(rank - 1))})
    right = _Operand.of(b, {"b": shared, "k": _longer(b, (*leading, rank - 1)), "n": _longer(b, shared, rank - 2)}, left.groups["b"])
    first, second = left.placed(call), right.placed(call)
    result = f"{first[1].replace('k', '')}n"
    y = call.emit(*ordered(first, second, result), part=part)
    long = [axis for letter in result for axis in (left.groups | right.groups)[letter]]
    kept = [axis for axis in range(rank) if not (single[0] and axis == rank - 2) and not (single[1] and axis == rank - 1)]
    order = (*(axis for axis in kept if axis not in long), *(axis for axis in long if axis in kept))
    return Tensor(y, call.shape, tuple(kept.index(axis) for axis in order))


def _longer(x: Tensor, *but: Sequence[int] | int) -> Dims:
    """Axes longer than 1 that are not among these."""
    out = {axis for some in but for axis in ([some] if isinstance(some, int) else some)}
    return tuple(axis for axis, size in enumerate(x.shape) if size > 1 and axis not in out)


def _turned(x: Tensor) -> Tensor:
    """With its last two axes in each other's place."""
    last = len(x.shape) - 1
    swapped = {last: last - 1, last - 1: last}
    return Tensor(x.value, (*x.shape[:-2], x.shape[-1], x.shape[-2]), tuple(swapped.get(a, a) for a in x.order))
