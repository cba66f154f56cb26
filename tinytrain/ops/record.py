# SPDX-License-Identifier: Apache-2.0
"""part: y = the elements of x from `offset` on, under a shape of their own; a view.

A sample with several inputs, or several targets, is one record: arrays of four-byte elements one behind the other. Where their types
differ the record counts as int32, and a part of it may show its bytes as floats.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Example, Op, f32
from tinytrain.ir.pack import record_type
from tinytrain.ir.types import F32, S32, Array, DType, Role, TensorType, Value


@dataclass(frozen=True)
class Part(Op):
    """Elements offset.. of a record, as `dtype`. Only entry points read records, so none has a gradient."""

    offset: int
    shape: tuple[int, ...]
    dtype: DType = F32

    name = "part"
    view = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        record = types[0]
        if self.offset + math.prod(self.shape) > record.numel or record.dtype.np.itemsize != self.dtype.np.itemsize:
            raise ValueError(f"{self.dtype.tag}{self.shape} from element {self.offset} on is no part of {record}")
        return (TensorType(self.shape, self.dtype),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        part = arrays[0].reshape(-1)[self.offset : self.offset + math.prod(self.shape)]
        shown = part if part.dtype.kind == self.dtype.np.kind else part.view(self.dtype.np)
        return (shown.reshape(self.shape),)

    def starts(self, *types: TensorType) -> int:
        return self.offset * types[0].dtype.np.itemsize


Part.examples = (
    Example(Part(0, (3, 2)), f32((7,))), Example(Part(2, (5,), S32), (TensorType((7,), S32),), (-9, 9)), Example(Part(6, (1,)), f32((7,))),
)


def record(g: Builder, name: str, parts: Sequence[tuple[str, TensorType]]) -> tuple[Value, tuple[Value, ...]]:
    """(an input, its parts): one for each (name, type), in order; a single one is the input itself, and goes by its own name.

    Raises ValueError where a part of several has no four-byte elements.
    """
    if len(parts) == 1:
        value = g.value(parts[0][0], parts[0][1], Role.INPUT)
        return value, (value,)
    if strange := [part for part, kind in parts if kind.dtype not in (F32, S32)]:
        raise ValueError(f"{strange[0]} has other elements than float32 and int32")
    whole = TensorType((sum(kind.numel for _, kind in parts),), record_type([kind.dtype for _, kind in parts]))
    value = dataclasses.replace(g.value(name, whole, Role.INPUT), parts=tuple(parts))
    ends = np.cumsum([kind.numel for _, kind in parts]).tolist()
    views = [
        g.emit(Part(end - kind.numel, kind.shape, kind.dtype), value, name=part) for (part, kind), end in zip(parts, ends, strict=True)
    ]
    return value, tuple(views)
