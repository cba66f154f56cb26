# SPDX-License-Identifier: Apache-2.0
"""Integers that an ONNX file stores, as the DequantizeLinear behind them says what they stand for."""

from __future__ import annotations

from dataclasses import dataclass

from tinytrain.ir.types import Array


@dataclass(frozen=True, eq=False)
class StoredIntegers:
    """real = scale·(array − zero_point), with one scale and zero point or one of each per index of `axis`."""

    initializer: str
    array: Array
    scale: Array
    zero_point: Array
    axis: int | None
