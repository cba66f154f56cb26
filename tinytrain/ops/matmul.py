# SPDX-License-Identifier: Apache-2.0
"""matmul: y[b,m,n] = Σ_k a[b,m,k] · b[b,k,n]         da = Σ_n dy·b         db = Σ_m a·dy

Both operands are computed. Each says in which order its axes lie in memory, and so does the result: `mbk` are rows of heads side by side,
as a projection leaves them. So neither a transposed operand, nor a gradient (a product of the same kind), nor a head has to be moved.
Of int8 operands, less their zero points, sums are int32; a gradient times int8 is fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import ALL_HALVES, FIRST_HALF, Cost, Declined, Example, Fusable, Kernel, Wanted, f32, no
from tinytrain.ir.types import F32, S8, S32, Array, Quant, TensorType, Value
from tinytrain.ops.elementwise import Scale
from tinytrain.ops.integer_rules import sums
from tinytrain.ops.simd import FLOATS, SIMD, Simd
from tinytrain.ops.sums import INT8, INT32_MAX, check_zero_point, factors, int8, sum_type, summed

Sided = tuple[Value, str, int]                            # an operand, its axes as they lie in memory, and its zero point
MOST_PRODUCTS = INT32_MAX // 255**2                       # of int8 numbers less their zero points, that an int32 sum has room for


@dataclass(frozen=True)
class Side:
    """Size of an axis, and elements from one index of it to the next in a, b and y: 0 in what has no such axis."""

    size: int
    a: int
    b: int
    y: int


def _column_tiles(op: MatMul, *types: TensorType) -> dict[str, int]:
    return {"NR": 4}                                      # columns that share an element of a


def _strip_bytes(simd: Simd, op: MatMul, *types: TensorType) -> int:
    return 4 * simd.lanes * op.sides(*types)["k"].size


def _columns(simd: Simd, packed: bool, op: MatMul, *types: TensorType) -> bool | Declined:
    """Whether vectors can run along the columns, of b as it stands or (`packed`) of strips made of what lies along the sum."""
    sides = op.sides(*types)
    if not (filled := simd.filled_by(sides["n"].size)):
        return filled
    if 1 not in (sides["m"].a, sides["k"].a):
        return no("neither rows nor sums run along a")
    return sides["k" if packed else "n"].b == 1 or no(f"{'sums' if packed else 'columns'} do not run along b")


@dataclass(frozen=True)
class MatMul(Fusable):
    """a, b -> y, whose axes lie in memory as `a`, `b` and `y` say: b counts matrices, m rows, n columns, and k what is summed."""

    a: str = "bmk"
    b: str = "bkn"
    y: str = "bmn"
    zeros: tuple[int, int] = field(default=(0, 0), kw_only=True)  # zero points of a and b, where they are int8

    name = "matmul"
    args = ("a", "b")
    parameters = {0: "weight", 1: "weight"}
    differentiable = True
    kernels = (
        *(
            Kernel("matmul", dtypes, params=_column_tiles, tries={"NR": (2, 4, 8)}, half=ALL_HALVES)
            for dtypes in ((F32,), (F32, S8, F32), (S8, S8, S32))
        ),
        *(Kernel("matmul", isa=s.isa, macro="matmul_packed", accepts=partial(_columns, s, True), params=s.tiles, tries=s.tries,
                 scratch=partial(_strip_bytes, s), spare=True, half=ALL_HALVES) for s in SIMD if s.isa),
        *(Kernel("matmul", kinds, s.isa, "matmul_direct", partial(_columns, s, False), s.tiles, tries=s.tries, half=FIRST_HALF)
          for s in SIMD if s.isa for kinds in FLOATS),
    )

    as_integer = sums

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        sides, (a, b) = self.sides(*types), types[:2]
        for operand, zero in zip((a, b), self.zeros, strict=True):
            check_zero_point(operand, zero)
        kind = sum_type(tuple(sides[axis].size for axis in self.y), a, b)
        if kind.dtype is S32 and sides["k"].size > MOST_PRODUCTS:
            raise ValueError(f"{sides['k'].size:,} products of int8 could overflow an int32 sum")
        if a.quant is None or b.quant is None or kind.dtype is not S32:
            return (kind,)
        if len(a.quant.scale) + len(b.quant.scale) > 2:
            raise ValueError("an operand has several scales: expected one")
        return (TensorType(kind.shape, S32, Quant((a.quant.scale[0] * b.quant.scale[0],))),)

    def sides(self, *types: TensorType) -> dict[str, Side]:
        """The four axes; ValueError where the operands do not fit each other."""
        (a, b), sizes = (t.shape for t in types[:2]), dict[str, int]()
        for shape, axes in ((a, self.a), (b, self.b)):
            if len(shape) != 3 or sorted(axes) != sorted("bkm" if axes is self.a else "bkn") or sorted(self.y) != sorted("bmn"):
                raise ValueError(f"{self.a} {a} times {self.b} {b}: expected axes b, m, k times b, k, n")
            for axis, size in zip(axes, shape, strict=True):
                if sizes.setdefault(axis, size) != size:
                    raise ValueError(f"{self.a} {a} times {self.b} {b}: {sizes[axis]} against {size} of {axis}")
        return {
            axis: Side(size, *(_step(axes, axis, sizes) for axes in (self.a, self.b, self.y))) for axis, size in sizes.items()
        }

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        a, b = (operand - zero for operand, zero in zip(factors(*arrays), self.zeros, strict=True))
        y = _turned(a, self.a, "bmk") @ _turned(b, self.b, "bkn")
        return (summed(np.ascontiguousarray(_turned(y, "bmn", self.y)), *arrays),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (a, b), dy = inputs, grads[0]
        assert dy is not None
        return (
            product(g, (dy, self.y, 0), (b, self.b, self.zeros[1]), self.a, name=f"d_{a.name}") if wanted[0] else None,
            product(g, (a, self.a, self.zeros[0]), (dy, self.y, 0), self.b, name=f"d_{b.name}") if wanted[1] else None,
        )

    def cost(self, *types: TensorType) -> Cost:
        return Cost(macs=int(np.prod([side.size for side in self.sides(*types).values()])))


def product(g: Builder, first: Sided, second: Sided, result: str, name: str) -> Value:
    """The sum over the axis that both operands have and the result has not; what they share with it is b."""
    op, a, b = ordered(first, second, result)
    return g.emit(op, a, b, name=name)


def ordered(first: Sided, second: Sided, result: str) -> tuple[MatMul, Value, Value]:
    """The op of such a product, and its operands in turn: int8 comes behind fp32; else b ends, for vectors, with an axis of the result."""
    (batch,) = set(first[1]) & set(second[1]) & set(result)

    def comes_first(operand: Sided) -> tuple[bool, bool]:
        return operand[0].type.dtype is not S8, operand[1][-1] not in set(result) - {batch}

    (left, a, zero_a), (right, b, zero_b) = sorted((first, second), key=comes_first, reverse=True)
    (rows,), (columns,), (summed_up,) = set(a) & set(result) - {batch}, set(b) & set(result) - {batch}, set(a) & set(b) - {batch}
    names = str.maketrans({batch: "b", rows: "m", columns: "n", summed_up: "k"})
    return MatMul(a.translate(names), b.translate(names), result.translate(names), zeros=(zero_a, zero_b)), left, right


def _step(axes: str, axis: str, sizes: dict[str, int]) -> int:
    return int(np.prod([sizes[a] for a in axes[axes.index(axis) + 1 :]])) if axis in axes else 0


def _turned(array: Array, have: str, want: str) -> Array:
    return array.transpose([have.index(axis) for axis in want])


_SIZES = ((1, 1, 1, 1), (1, 7, 5, 3), (2, 3, 19, 4), (3, 5, 1, 6), (2, 13, 33, 17))
_ORDERS = (
    ("bmk", "bkn", "bmn"), ("bmk", "bnk", "bmn"), ("bkm", "bkn", "bmn"), ("bkm", "bnk", "bnm"),
    ("mbk", "nbk", "mbn"), ("mbk", "kbn", "mbn"), ("kbm", "kbn", "mbn"),
)


def _types(op: MatMul, sizes: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    size = dict(zip("bmnk", sizes, strict=True))
    return tuple(tuple(size[axis] for axis in axes) for axes in (op.a, op.b))


_CASES = (*((_ORDERS[0], sizes) for sizes in _SIZES), *((orders, sizes) for orders in _ORDERS[1:] for sizes in _SIZES[2::2]))
_ZEROS = ((-128, 127), (0, 3), (5, 0))
MatMul.examples = (
    *(Example(MatMul(*orders), f32(*_types(MatMul(*orders), sizes))) for orders, sizes in _CASES),
    Example(MatMul(*_ORDERS[4], then=(Scale(0.25),)), f32(*_types(MatMul(*_ORDERS[4]), (2, 5, 18, 3)))),
    *(
        Example(MatMul(*orders, zeros=zeros), tuple(int8(x, z) for x, z in zip(_types(MatMul(*orders), sizes), zeros, strict=True)), INT8)
        for zeros, (orders, sizes) in zip(cycle(_ZEROS), _CASES[1::3], strict=False)
    ),
    *(
        Example(MatMul(*orders, zeros=(0, z)), (*f32((shapes := _types(MatMul(*orders), sizes))[0]), int8(shapes[1], z)), INT8)
        for (_, z), (orders, sizes) in zip(cycle(_ZEROS), _CASES[2::3], strict=False)
    ),
)
