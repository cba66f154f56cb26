# SPDX-License-Identifier: Apache-2.0
"""Integers that an ONNX file stores, as the DequantizeLinear behind them says what they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.ir.types import Array
from tinytrain.onnx_graph import stored_array

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, eq=False)
class StoredIntegers:
    """real = scale·(array − zero_point), with one scale and zero point or one of each per index of `axis`."""

    initializer: str
    array: Array
    scale: Array
    zero_point: Array
    axis: int | None

    @classmethod
    def of(cls, initializer: str, array: Array, scale: Array, zero_point: Array | None, axis: int) -> StoredIntegers:
        """From the operands of a DequantizeLinear and its axis, which only counts where there are several scales."""
        zero = np.zeros_like(scale, array.dtype) if zero_point is None else zero_point
        per_axis = scale.size > 1 or (scale.ndim and array.ndim == 1 and array.size == 1)
        along = (axis % array.ndim if array.ndim > 1 else 0) if per_axis else None
        return cls(initializer, array, scale.reshape(-1).astype(np.float64), zero.reshape(-1).astype(np.int64), along)

    def reals(self) -> Array:
        """What the integers stand for, as fp32."""
        along = [1] * self.array.ndim
        if self.axis is not None:
            along[self.axis] = -1
        zero_point = self.zero_point.reshape(along if self.zero_point.size > 1 else ())
        scale = self.scale.reshape(along if self.scale.size > 1 else ())
        return np.asarray((self.array.astype(np.int64) - zero_point) * scale).astype(np.float32)


def stored_tensors(model: onnx.ModelProto) -> dict[str, Array]:
    """What a model stores, by name: its initializers, and what a DequantizeLinear makes of one."""
    found: dict[str, Array] = {t.name: stored_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and all(name in found for name in node.input if name):
            array, scale, zero, *_ = (*(found[name] if name else None for name in node.input), None)
            assert array is not None and scale is not None, f"{node.name} has no operands"
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            found[node.output[0]] = StoredIntegers.of(node.input[0], array, scale, zero, axis).reals()
    return found
