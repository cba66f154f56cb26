# SPDX-License-Identifier: Apache-2.0
"""Sums of products Σ (a − z)·b, whatever the elements: all fp32, or int8 times int8 in int32, or fp32 gradients times int8.

int8 stands for real numbers, real = scale·(stored − zero point). Weights have zero point 0, so an accumulator counts multiples of
s_x·s_w[k]. Gradients are with respect to stored numbers: no scale appears in them.
"""

from __future__ import annotations

import numpy as np

from tinytrain.ir.types import F32, S8, S32, Array, DType, Quant, TensorType

ZERO_POINTS = (-128, 0, 5, 127)                           # those that examples take in turn
INT8 = (-128, 128)                                        # bounds of their numbers
# … and of x, w, bias, and of what requantises
REQUANTISED = (INT8, INT8, (-20000, 20000), (2**30, 2**31 - 1), (38, 42))

PAIRS: dict[tuple[DType, DType], DType] = {(F32, F32): F32, (S8, S8): S32, (F32, S8): F32}
INT32_MAX = 2**31 - 1


def sum_type(shape: tuple[int, ...], a: TensorType, b: TensorType) -> TensorType:
    """Of sums of products of two tensors, one of which is a gradient."""
    if (a.dtype, b.dtype) not in PAIRS:
        raise ValueError(f"{a.dtype!r} times {b.dtype!r}: expected {', '.join(f'{x!r} times {y!r}' for x, y in PAIRS)}")
    return TensorType(shape, PAIRS[a.dtype, b.dtype])


def accumulator_type(shape: tuple[int, ...], x: TensorType, w: TensorType, zero_point: int) -> TensorType:
    """Of the output of a layer: as many scales as channels, if x and w stand for real numbers."""
    if (x.dtype, w.dtype) == (F32, S8):
        raise ValueError("x is F32 and w is S8: quantise x, or dequantise w")
    check_zero_point(x, zero_point)
    kind = sum_type(shape, x, w)
    if x.quant is None or w.quant is None:
        return kind
    if w.quant.zero_point or len(x.quant.scale) != 1:
        raise ValueError(f"x has {len(x.quant.scale)} scales and w zero point {w.quant.zero_point}: expected one scale, and 0")
    scales = w.quant.scale * (shape[-1] if len(w.quant.scale) == 1 else 1)
    if len(scales) != shape[-1]:
        raise ValueError(f"w has {len(scales)} scales: expected one per output channel, of which there are {shape[-1]}")
    return TensorType(shape, kind.dtype, Quant(tuple(x.quant.scale[0] * scale for scale in scales), 0, len(shape) - 1))


def check_zero_point(x: TensorType, zero_point: int) -> None:
    """An op says itself what it subtracts from x: its type must agree."""
    expected = x.quant.zero_point if x.quant else zero_point if x.dtype is S8 else 0
    if zero_point != expected:
        raise ValueError(f"the op subtracts {zero_point}, the zero point of x is {expected}")


def factors(a: Array, b: Array) -> tuple[Array, Array]:
    """Both in the type that their products are summed in. float64 sums of int8 products are exact: integers below 2^53."""
    floats = [array.dtype for array in (a, b) if array.dtype.kind == "f"]
    dtype = floats[0] if floats else np.dtype(np.float64)
    return a.astype(dtype, copy=False), b.astype(dtype, copy=False)


def summed(sums: Array, a: Array, b: Array) -> Array:
    """Sums as they are stored: int32 where a and b are integers."""
    if a.dtype.kind == "f" or b.dtype.kind == "f":
        return sums
    assert np.abs(sums).max(initial=0) <= INT32_MAX, "an int32 accumulator overflows; max_accumulator tells beforehand"
    return sums.astype(np.int32)


def max_accumulator(w: Array, zero_point: int, axis: int, bias: Array | None = None) -> int:
    """The largest magnitude that any partial sum of a layer can take, for every x in int8; above INT32_MAX it must be refused.

    Σ |w|·max(127 − z, z + 128) + |bias|, for the worst index of `axis` of w.
    """
    weights = np.abs(w.astype(np.int64)).sum(axis=tuple(i for i in range(w.ndim) if i != axis))
    sums = weights * max(127 - zero_point, zero_point + 128)
    return int((sums if bias is None else sums + np.abs(bias.astype(np.int64)).reshape(-1)).max(initial=0))


def int8(shape: tuple[int, ...], zero_point: int = 0, axis: int | None = None) -> TensorType:
    """The int8 type of an example; with an axis, no two neighbours on it have the same scale."""
    count = 1 if axis is None else shape[axis]
    return TensorType(shape, S8, Quant(tuple(2.0 ** -(6 + i % 3) for i in range(count)), zero_point, axis))


def per_channel(count: int) -> tuple[TensorType, ...]:
    """Bias, multipliers and shifts of an example whose accumulators are requantised."""
    return (TensorType((count,), S32),) * 3
