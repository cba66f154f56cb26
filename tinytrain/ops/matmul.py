# SPDX-License-Identifier: Apache-2.0
"""matmul: y[b,m,n] = Σ_k a[b,m,k] · b[b,k,n]         da = Σ_n dy·b         db = Σ_m a·dy

Both operands are computed. Each says in which order its axes lie in memory, and so does the result: `mbk` are rows of heads side by side,
as a projection leaves them. So neither a transposed operand, nor a gradient (a product of the same kind), nor a head has to be moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Cost, Declined, Example, Fusable, Kernel, Wanted, f32, no
from tinytrain.ir.types import Array, TensorType, Value
from tinytrain.ops.elementwise import Scale
from tinytrain.ops.simd import SIMD, Simd

Sided = tuple[Value, str]                                 # an operand, and its axes as they lie in memory


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

    name = "matmul"
    args = ("a", "b")
    parameters = {0: "weight", 1: "weight"}
    differentiable = True
    kernels = (
        Kernel("matmul", params=_column_tiles, tries={"NR": (2, 4, 8)}),
        *(Kernel("matmul", isa=s.isa, macro="matmul_packed", accepts=partial(_columns, s, True), params=s.tiles, tries=s.tries,
                 scratch=partial(_strip_bytes, s), spare=True) for s in SIMD if s.isa),
        *(Kernel("matmul", isa=s.isa, macro="matmul_direct", accepts=partial(_columns, s, False), params=s.tiles, tries=s.tries)
          for s in SIMD if s.isa),
    )

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        sides = self.sides(*types)
        return (TensorType(tuple(sides[axis].size for axis in self.y)),)

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
        a, b = arrays
        y = _turned(a, self.a, "bmk") @ _turned(b, self.b, "bkn")
        return (np.ascontiguousarray(_turned(y, "bmn", self.y)),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (a, b), dy = inputs, grads[0]
        assert dy is not None
        return (
            product(g, (dy, self.y), (b, self.b), self.a, name=f"d_{a.name}") if wanted[0] else None,
            product(g, (a, self.a), (dy, self.y), self.b, name=f"d_{b.name}") if wanted[1] else None,
        )

    def cost(self, *types: TensorType) -> Cost:
        return Cost(macs=int(np.prod([side.size for side in self.sides(*types).values()])))


def product(g: Builder, first: Sided, second: Sided, result: str, name: str) -> Value:
    """The sum over the axis that both operands have and the result has not; what they share with it is b.

    The operand whose last axis is one of the result becomes b: vectors can then run along it.
    """
    op, a, b = ordered(first, second, result)
    return g.emit(op, a, b, name=name)


def ordered(first: Sided, second: Sided, result: str) -> tuple[MatMul, Value, Value]:
    """The op of such a product, and its operands in turn."""
    (batch,) = set(first[1]) & set(second[1]) & set(result)
    (left, a), (right, b) = (first, second) if second[1][-1] in set(result) - {batch} or first[1][-1] not in result else (second, first)
    (rows,), (columns,), (summed,) = set(a) & set(result) - {batch}, set(b) & set(result) - {batch}, set(a) & set(b) - {batch}
    names = str.maketrans({batch: "b", rows: "m", columns: "n", summed: "k"})
    return MatMul(a.translate(names), b.translate(names), result.translate(names)), left, right


def _step(axes: str, axis: str, sizes: dict[str, int]) -> int:
    return int(np.prod([sizes[a] for a in axes[axes.index(axis) + 1 :]])) if axis in axes else 0


def _turned(array: Array, have: str, want: str) -> Array:
    return array.transpose([have.index(axis) for axis in want])


_SIZES = ((1, 1, 1, 1), (1, 7, 5, 3), (2, 3, 19, 4), (3, 5, 1, 6), (2, 13, 33, 17))
_ORDERS = (
    ("bmk", "bkn", "bmn"), ("bmk", "bnk", "bmn"), ("bkm", "bkn", "bmn"), ("bkm", "bnk", "bnm"),
    ("mbk", "nbk", "mbn"), ("mbk", "kbn", "mbn"), ("kbm", "kbn", "mbn"),
)


def _example(op: MatMul, sizes: tuple[int, ...], *more: tuple[int, ...]) -> Example:
    size = dict(zip("bmnk", sizes, strict=True))
    return Example(op, f32(*(tuple(size[axis] for axis in axes) for axes in (op.a, op.b)), *more))


MatMul.examples = (
    *(_example(MatMul(*_ORDERS[0]), sizes) for sizes in _SIZES),
    *(_example(MatMul(*orders), sizes) for orders in _ORDERS[1:] for sizes in _SIZES[2::2]),
    _example(MatMul(*_ORDERS[4], then=(Scale(0.25),)), (2, 5, 18, 3)),
)
