# SPDX-License-Identifier: Apache-2.0
"""Types of the IR: element types, quantisation, tensor types, roles and values.

Feature maps are H, W, C and weights K, R, S, C (out, rows, columns, in); the batch of one is not written down.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class DType(Enum):
    """An element type: its tag in kernel names, its C type, its NumPy type."""

    F32 = ("f32", "float", np.float32)
    F16 = ("f16", "tt_half", np.float16)
    S8 = ("s8", "int8_t", np.int8)
    S16 = ("s16", "int16_t", np.int16)
    S32 = ("s32", "int32_t", np.int32)
    U8 = ("u8", "uint8_t", np.uint8)

    def __init__(self, tag: str, c: str, numpy: type[np.generic]) -> None:
        self.tag = tag
        self.c = c
        self.np: np.dtype[Any] = np.dtype(numpy)

    @property
    def is_float(self) -> bool:
        return self.np.kind == "f"

    def __repr__(self) -> str:
        return self.name


F32, F16, S8, S16, S32, U8 = DType.F32, DType.F16, DType.S8, DType.S16, DType.S32, DType.U8


@dataclass(frozen=True)
class Quant:
    """real = scale · (stored − zero_point); one scale per tensor, or one per index of `axis`."""

    scale: tuple[float, ...]
    zero_point: int = 0
    axis: int | None = None


@dataclass(frozen=True)
class TensorType:
    """Shape (elements), element type and, for integers that stand for reals, quantisation."""

    shape: tuple[int, ...]
    dtype: DType = F32
    quant: Quant | None = None

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.np.itemsize

    @property
    def computed(self) -> TensorType:
        """What arithmetic sees: fp16 is a way of storing fp32, no type that anything computes with."""
        return dataclasses.replace(self, dtype=F32) if self.dtype is F16 else self

    def __str__(self) -> str:
        return f"{self.dtype.tag}[{'x'.join(map(str, self.shape))}]"


class Role(Enum):
    """Where a value lives: with the caller, in flash, in RAM for good, or in the arena for a while."""

    INPUT = "input"      # given by the caller of the entry point
    CONST = "const"      # flash
    PARAM = "param"      # RAM, starts from flash, is updated, is read and written over the link
    STATE = "state"      # RAM, belongs to the optimiser (momentum, accumulated gradient, learning rate)
    TEMP = "temp"        # arena


@dataclass(frozen=True)
class Source:
    """The ONNX initializer a PARAM or CONST came from and how it was laid out anew.

    `ir = transpose(reshape(onnx, shape), perm)` reshaped to the value's shape, or to `whole` where the value has only some indices of an
    axis, or has them in another order: `take` lists them, axis by axis. `to_onnx` inverts it. Integers are stored in ONNX with `offset`
    added (uint8, or a zero point); where `scale` is given (one, or one per element of a bias), ONNX stores their reals. `within` are the
    bounds of those that have fewer bits than their type. What is `auxiliary` is no part of the ONNX model: a method of learning added it.
    """

    initializer: str
    onnx_shape: tuple[int, ...]
    shape: tuple[int, ...]
    perm: tuple[int, ...]
    offset: int = 0
    scale: tuple[float, ...] = ()
    whole: tuple[int, ...] = ()
    take: tuple[tuple[int, tuple[int, ...]], ...] = ()
    within: tuple[int, ...] = ()
    auxiliary: bool = False

    def taking(self, axis: int, indices: Sequence[int], shape: tuple[int, ...]) -> Source:
        """The source of these indices, in this order, along an axis of the value of `shape` whose source this is."""
        before = dict(self.take)
        before[axis] = tuple(before[axis][i] for i in indices) if axis in before else tuple(indices)
        return dataclasses.replace(self, whole=self.whole or shape, take=tuple(sorted(before.items())))

    def to_ir(self, array: Array, ir_shape: tuple[int, ...]) -> Array:
        moved = self._moved(array, self.whole or ir_shape)
        for axis, indices in self.take:
            moved = moved.take(indices, axis)
        return np.ascontiguousarray(moved)

    def to_onnx(self, array: Array, before: Array | None = None) -> Array:
        """The initializer with what `array` has of it; `before`, in ONNX layout, holds the rest where that is not all."""
        if self.take:
            grid = np.ix_(*(dict(self.take).get(axis, range(size)) for axis, size in enumerate(self.whole)))
            covered = array.size == math.prod(self.whole)
            assert covered or before is not None, f"{self.initializer}: only {array.shape} of {self.whole} are given"
            whole = np.empty(self.whole, array.dtype) if before is None else self._moved(before, self.whole).astype(array.dtype)
            whole[grid] = array.reshape(whole[grid].shape)
            array = whole
        moved = tuple(self.shape[axis] for axis in self.perm)
        inverse = tuple(int(i) for i in np.argsort(self.perm))
        if self.scale:
            array = (array * np.array(self.scale)).astype(np.float32)
        elif self.offset:
            array = array.astype(np.int32) + self.offset
        return np.ascontiguousarray(array.reshape(moved).transpose(inverse)).reshape(self.onnx_shape)

    def _moved(self, array: Array, shape: tuple[int, ...]) -> Array:
        moved = np.ascontiguousarray(array.reshape(self.shape).transpose(self.perm)).reshape(shape)
        if self.scale:
            limit = 2**31 - 1
            return np.clip(np.rint(moved.astype(np.float64) / self.scale), -limit, limit).astype(np.int32)
        return (moved.astype(np.int32) - self.offset).astype(np.int8) if self.offset else moved


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the graph. Two values are the same only if they are the same object.

    `parts` are the names and types of what a record is made of, one behind the other (`ops/record.py`).
    """

    name: str
    type: TensorType
    role: Role = Role.TEMP
    data: Array | None = field(default=None, repr=False)
    source: Source | None = None
    parts: tuple[tuple[str, TensorType], ...] = field(default=(), repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape

    @property
    def home(self) -> Source:
        """Where what is learned of it goes back to."""
        assert self.source is not None, f"{self!r} is trained, but nobody knows what it is in the ONNX model"
        return self.source

    def __repr__(self) -> str:
        return f"%{self.name}:{self.type}"
