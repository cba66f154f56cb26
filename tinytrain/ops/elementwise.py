# SPDX-License-Identifier: Apache-2.0
"""add: y = a + b;  sub: y = a − b;  mul: y = a·b.  b is like a, or one per channel, or one per row,
or a single element. Int32 sums may be added (a bias to an accumulator); that they fit is proven where their bounds are known.

broadcast: NumPy broadcasting to a shape; every other combination goes through it.
sum_to: its transpose, y[j] = Σ x[i] over the i that broadcasting maps to j. It is also the gradient of a bias.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.growth import Bounded, Growth, times
from tinytrain.ir.integer import IntegerForms, Operand, Scaled
from tinytrain.ir.op import ALL_HALVES, Cost, Declined, Elementwise, Example, Fusable, Kernel, Wanted, f32, is_row_operand, no
from tinytrain.ir.types import F16, F32, S8, S32, Array, DType, Quant, Role, TensorType, Value
from tinytrain.ir.words import Words
from tinytrain.ops.integer_arith import ProductInteger
from tinytrain.ops.integer_rules import moves, sums
from tinytrain.ops.optimiser import Sgd
from tinytrain.ops.optimiser_int import SgdInt, moved
from tinytrain.ops.simd import OF_HALVES, SIMD, Simd, elementwise


@dataclass(frozen=True)
class Binary(Elementwise):
    """Base of a ∘ b. Input 0 has the full shape; input 1 the same, (C,), (K, 1, …) or one element."""

    args = ("a", "b")
    differentiable = True
    kernels = elementwise()

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        a, b = types
        if not (b.shape in (a.shape, a.shape[-1:]) or b.numel == 1 or is_row_operand(b, a)):
            raise ValueError(f"b {b.shape} against a {a.shape}: the same shape, one per channel, one per row, or one element is expected")
        if a.dtype is not b.dtype:
            raise ValueError(f"{a.dtype.tag} and {b.dtype.tag}: elements of one type are expected")
        return (a,)

    @staticmethod
    def fitted(arrays: Sequence[Array]) -> tuple[Array, Array]:
        a, b = arrays
        return a, b.reshape(()) if b.size == 1 else b


def reduced(g: Builder, grad: Value, like: Value) -> Value:
    """Sum a gradient of the full shape down to that of the operand it belongs to."""
    return grad if grad.shape == like.shape else g.emit(SumTo(like.shape), grad, name=f"d_{like.name}")


@dataclass(frozen=True)
class Add(Binary, Bounded):
    """a + b. ONNX Add. Of s32: a bias and the accumulator it belongs to, at one scale."""

    name = "add"
    kernels = (*elementwise(), Kernel("elementwise", (S32,), macro="elementwise"))
    commutative = adds = True
    parameters = {1: "bias", 0: "bias"}
    extends_layer = True

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        a, b = self.fitted(arrays)
        return (a + b,)

    def growth(self, *types: TensorType) -> Growth | None:
        a, b = types                                      # (a + b)² <= 4·max(a², b²)
        return Growth(((0,), (1,)), 2 + times(-(-a.numel // b.numel)))

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        return (w.add(*operands),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        dy = grads[0]
        assert dy is not None
        return (dy if wanted[0] else None, reduced(g, dy, inputs[1]) if wanted[1] else None)

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        a, b = inputs
        if isinstance(b, Value) and b.role is Role.STATE:
            return no("sums of the gradients of several samples are fp32", "Leave out --accumulate.")
        if not isinstance(a, Scaled) or not isinstance(b, Scaled) or a.mantissa.shape != b.mantissa.shape:
            return no("it adds other values than two gradients")
        return (g.added(a, b, outputs[0].name),)


@dataclass(frozen=True)
class Sub(Binary):
    """a − b. ONNX Sub."""

    name = "sub"
    parameters = {1: "bias", 0: "bias"}
    extends_layer = True

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        a, b = self.fitted(arrays)
        return (a - b,)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        return (w.sub(*operands),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        dy = grads[0]
        assert dy is not None
        # summed first: the sign then costs one multiplication per element of the smaller operand
        db = g.emit(Scale(-1.0), reduced(g, dy, inputs[1]), name=f"d_{inputs[1].name}") if wanted[1] else None
        return (dy if wanted[0] else None, db)


@dataclass(frozen=True)
class Mul(Binary):
    """a·b. ONNX Mul."""

    name = "mul"
    commutative = True
    parameters = {1: "scale", 0: "scale"}
    extends_layer = True

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        a, b = self.fitted(arrays)
        return (a * b,)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        return (w.mul(*operands),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (a, b), dy = inputs, grads[0]
        assert dy is not None
        return (
            g.emit(Mul(), dy, b, name=f"d_{a.name}") if wanted[0] else None,
            reduced(g, g.emit(Mul(), dy, a, name=f"d_{b.name}"), b) if wanted[1] else None,
        )

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        a, b = inputs
        if not isinstance(a, Scaled) or isinstance(b, Scaled) or b.data is None or b.type.numel not in (1, a.mantissa.shape[-1]):
            return no("only constants, one or one per channel, multiply gradients")
        if b.role is Role.PARAM:
            return no("it multiplies gradients by a factor that is trained", "Leave its scale out of the scheme.")
        return (a.times(b.data.reshape(-1) if b.type.numel > 1 else b.data.reshape(())),)


@dataclass(frozen=True)
class Scale(Elementwise, Bounded):
    """x·factor, the factor known at compile time."""

    factor: float = 1.0

    name = "scale"
    differentiable = True
    kernels = elementwise()

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (arrays[0] * arrays[0].dtype.type(self.factor),)

    def growth(self, *types: TensorType) -> Growth | None:
        return Growth(((0,),), max(0, 2 * math.frexp(self.factor)[1]))

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        return (w.mul(operands[0], w.number(self.factor)),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        dy = grads[0]
        assert dy is not None
        return (g.emit(self, dy, name=f"d_{inputs[0].name}"),)

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        x = inputs[0]
        if not isinstance(x, Scaled):
            return no("its operand is no gradient")
        if self.factor >= 0:
            return (x.times(self.factor),)
        x = g.short(x)                                    # a factor has no sign, a mantissa has
        made = g.emit(ProductInteger(), x.mantissa, g.shared("minus_one", np.array([-1], np.int8)), name=outputs[0].name)
        return (dataclasses.replace(x, mantissa=made).times(-self.factor),)


def _has_rows(op: Broadcast | SumTo, *types: TensorType) -> bool | Declined:
    axes = op.axes(types[0])
    return (len(axes) == 2 and axes[0][2] == 0) or no("what it repeats, or sums, are not the rows of a matrix")


def _rows_fill(simd: Simd, op: Broadcast | SumTo, *types: TensorType) -> bool | Declined:
    if not (rows := _has_rows(op, *types)):
        return rows
    return simd.filled_by(op.axes(types[0])[1][0])


def _over_rows(macro: str, *dtypes: DType) -> tuple[Kernel, ...]:
    """Kernels for matrices: of a row and all rows."""
    return tuple(
        Kernel("broadcast", kinds, simd.isa, macro, partial(_rows_fill, simd), simd.tiles, half=ALL_HALVES)
        for simd in (*SIMD, *OF_HALVES) if simd.words for kinds in simd.taken((dtype,) for dtype in dtypes)
    )


def mapping(full: tuple[int, ...], small: tuple[int, ...]) -> tuple[tuple[int, int, int], ...]:
    """(size, stride in the full shape, stride in the small shape, 0 where repeated) of each axis; neighbours that belong together merge."""
    padded = (1,) * (len(full) - len(small)) + small
    axes: list[tuple[int, int, int]] = []
    wide = narrow = 1
    for size, kept in zip(reversed(full), reversed(padded), strict=True):
        step = narrow if kept != 1 else 0
        if size != 1:
            inner = axes[-1] if axes else None
            if inner and (step == inner[2] == 0 or (inner[2] != 0 and step == inner[2] * inner[0])):
                axes[-1] = (inner[0] * size, inner[1], inner[2])
            else:
                axes.append((size, wide, step))
        wide *= size
        narrow *= kept
    return tuple(reversed(axes))


def broadcastable(small: tuple[int, ...], full: tuple[int, ...]) -> None:
    """Raises ValueError where NumPy does not repeat `small` to `full`."""
    try:
        fits = np.broadcast_shapes(small, full) == full
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"shape {small} cannot be broadcast to {full}")


@dataclass(frozen=True)
class Broadcast(Fusable, Bounded):
    """x -> x repeated along axes of size 1 to `shape`, as NumPy does. ONNX Expand."""

    shape: tuple[int, ...] = ()

    name = "broadcast"
    differentiable = True
    kernels = (*(Kernel("broadcast", (kind,), half=ALL_HALVES, shared=True) for kind in (F32, S8, S32)), *_over_rows("broadcast_rows", F32))
    as_integer = moves

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        broadcastable(types[0].shape, self.shape)
        quant = types[0].quant
        return (TensorType(self.shape, types[0].dtype, quant if quant and quant.axis is None else None),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (np.ascontiguousarray(np.broadcast_to(arrays[0], self.shape)),)

    def axes(self, small: TensorType) -> tuple[tuple[int, int, int], ...]:
        """What the kernel loops over."""
        return mapping(self.shape, small.shape)

    def growth(self, *types: TensorType) -> Growth | None:
        return Growth(((0,),), times(-(-math.prod(self.shape) // types[0].numel)))

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        dy = grads[0]
        assert dy is not None
        return (g.emit(SumTo(inputs[0].shape), dy, name=f"d_{inputs[0].name}"),)


def _has_columns(op: SumTo, *types: TensorType) -> bool | Declined:
    return _has_rows(op, *types) and (op.axes(types[0])[1][0] >= 8 or no("it has fewer than eight columns"))


def _sums_words(op: SumTo, *types: TensorType) -> bool | Declined:
    axes = op.axes(types[0])
    if len(axes) != 2 or axes[0][2] or not axes[1][2]:
        return no("it does not add up rows of a matrix")
    return axes[1][0] % 4 == 0 or no("its columns do not fill words of four")


@dataclass(frozen=True)
class SumTo(Fusable):
    """x -> the sum of x over the axes that broadcasting `shape` to x would repeat; summed in ascending order of index."""

    shape: tuple[int, ...] = ()

    name = "sum_to"
    differentiable = True
    kernels = (
        *(Kernel("broadcast", (dtype,), half=ALL_HALVES) for dtype in (F32, S8)),
        Kernel("broadcast", (S8,), "dsp", "sum_to_dsp", accepts=_sums_words),
        *(Kernel("broadcast", (F32,), simd.isa, "sum_columns", _has_columns, simd.tiles) for simd in SIMD if simd.dots),
        *_over_rows("sum_rows", F32, S8), Kernel("broadcast", (F16,), "xpulp", "sum_pairs", accepts=_has_rows),
    )
    as_integer = sums

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        broadcastable(self.shape, types[0].shape)
        return (TensorType(self.shape, S32 if types[0].dtype is S8 else types[0].dtype),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        padded = (1,) * (x.ndim - len(self.shape)) + self.shape
        axes = tuple(axis for axis, kept in enumerate(padded) if kept == 1)
        dtype = np.dtype(np.int32) if x.dtype == np.int8 else x.dtype
        return (x.sum(axis=axes, dtype=dtype, keepdims=True).reshape(self.shape),)

    def axes(self, full: TensorType) -> tuple[tuple[int, int, int], ...]:
        """What the kernel loops over."""
        return mapping(full.shape, self.shape)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        dy = grads[0]
        assert dy is not None
        return (g.emit(Broadcast(inputs[0].shape), dy, name=f"d_{inputs[0].name}"),)

    def cost(self, *types: TensorType) -> Cost:
        return Cost(elements=types[0].numel)


_OPERANDS = (
    ((1,), (1,)), ((13,), (13,)), ((13,), (1,)), ((3, 5, 7), (7,)), ((3, 5, 7), (3, 5, 7)), ((4, 2, 3), (1,)), ((5, 1), (1,)),
    ((4, 2, 3), (4, 1, 1)),
)
_BROADCASTS = (
    ((1,), (1,)), ((7,), (7,)), ((1,), (7,)), ((3,), (5, 3)), ((5, 1), (5, 3)), ((2, 1, 3), (2, 4, 3)), ((1, 4, 1), (2, 4, 3)),
    ((4, 1), (2, 4, 3)), ((), (2, 3)), ((1, 1, 5), (3, 2, 5)), ((2, 1, 3, 1), (2, 5, 3, 7)), ((11,), (7, 5, 11)),
    ((37,), (3, 2, 37)),
)

for _binary in (Add, Sub, Mul):
    _binary.examples = tuple(Example(_binary(), f32(a, b)) for a, b in _OPERANDS)
_sum = tuple(TensorType(shape, S32, Quant((0.5, 0.25, 0.125), 0, axis)) for shape, axis in (((2, 5, 3), 2), ((3,), 0)))
Add.examples += (Example(Add(), _sum, (-1000, 1000)), Example(Add(), (_sum[0], _sum[0]), (-1000, 1000)))
Scale.examples = (Example(Scale(0.25), f32((35,))), Example(Scale(-1.0), f32((2, 3))))
Broadcast.examples = (
    *(Example(Broadcast(full), f32(small)) for small, full in _BROADCASTS),
    Example(Broadcast((4, 3), then=(Add(),)), f32((3,), (4, 3))),
    *(Example(Broadcast((5, 3)), (TensorType((3,), dtype),), (-128, 128)) for dtype in (S8, S32)),
)
SumTo.examples = (
    *(Example(SumTo(small), f32(full)) for small, full in _BROADCASTS),
    *(Example(SumTo(small), (TensorType(full, S8),), (-128, 128)) for small, full in (*_BROADCASTS, ((8,), (7, 40, 8)))),
    Example(SumTo((4,)), (TensorType((256, 4), S8),), (-128, -127)),
    Example(SumTo((9,), then=(SgdInt(bits=32),)), (*f32((4, 5, 9)), *moved((9,), (9,), S32)), ((-1000, 1000),)),
    Example(SumTo((70,), then=(SgdInt("truncate", 32),)), (*f32((3, 70)), *moved((70,), (70,), S32)[:3]), ((-1000, 1000),)),
    Example(SumTo((9,), then=(Sgd(),)), f32((4, 5, 9), (9,), (1,))),
    Example(SumTo((16,)), f32((4, 4, 16))),              # as many rows as columns: numbers that a compiler may keep in one register
    Example(SumTo((5,), then=(Sgd(momentum=0.9),)), f32((5,), (5,), (1,), (5,))),
)
