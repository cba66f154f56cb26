# SPDX-License-Identifier: Apache-2.0
"""Which order the axes of an ONNX tensor have in our memory.

A tensor of ONNX shape (d0, d1, …) and order (a0, a1, …) lies in memory as `onnx.transpose(order)`. A Transpose in ONNX therefore
changes only the order, and so does a Reshape that splits or merges axes which lie next to each other. Axes of size 1 can stand anywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tinytrain.ir.op import Op
from tinytrain.ir.types import Value

Dims = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Tensor:
    """An ONNX tensor: the IR value that holds it, its ONNX shape (batch included), the order of its axes in memory.

    The shape of the value is any that has the same elements in the same order. Where the value is integers, the tensor is the real
    numbers that they stand for, with the elementwise ops `then` still to be applied; `settled` integers are already what the
    QuantizeLinear on their way will make of them.
    """

    value: Value
    shape: Dims
    order: Dims
    then: tuple[Op, ...] = ()
    settled: bool = False

    def __post_init__(self) -> None:
        assert sorted(self.order) == list(range(len(self.shape))), f"{self.order} is no order of {self.shape}"
        assert math.prod(self.shape) == self.value.type.numel, f"{self.value!r} cannot hold {self.shape}"


def plain(shape: Dims) -> Dims:
    return tuple(range(len(shape)))


def lasting(shape: Dims, order: Dims) -> Dims:
    """The order without axes of size 1: two orders are the same in memory if these are."""
    return tuple(a for a in order if shape[a] != 1)


def ir_shape(shape: Dims, order: Dims) -> Dims:
    """Shape of the IR value: axes in memory order, without the batch of one."""
    kept = [a for a in order if a != 0 or shape[0] != 1 or len(shape) == 1]
    return tuple(shape[a] for a in kept) or (1,)


def channels_last(shape: Dims) -> Dims:
    """N, C, space… -> N, space…, C."""
    return (0, *range(2, len(shape)), 1)


def reshaped_order(shape: Dims, order: Dims, new: Dims) -> Dims | None:
    """The order of the axes after an ONNX Reshape that moves no data, or None if the data have to move first.

    (1, C, H, W) in order H, W, C reshaped to (1, C, H·W) lies in order H·W, C; reshaped to (1, C·H·W) it has to move.
    """
    position = {axis: i for i, axis in enumerate(lasting(shape, order))}
    groups: list[tuple[int, list[int]]] = []
    for old_axes, new_axes in _factors(shape, new):
        places = [position[a] for a in old_axes]
        if places != list(range(places[0], places[0] + len(places))):
            return None
        groups.append((places[0], new_axes))
    moved = [a for _, axes in sorted(groups) for a in axes]
    return (*(a for a in range(len(new)) if new[a] == 1), *moved)


def _factors(shape: Dims, new: Dims) -> list[tuple[list[int], list[int]]]:
    """Smallest groups of neighbouring axes (size 1 left out) with equal products, old and new."""
    old_left = [a for a in range(len(shape)) if shape[a] != 1]
    new_left = [a for a in range(len(new)) if new[a] != 1]
    groups: list[tuple[list[int], list[int]]] = []
    while old_left:
        olds, news = [old_left.pop(0)], [new_left.pop(0)]
        while (a := math.prod(shape[i] for i in olds)) != (b := math.prod(new[i] for i in news)):
            if a < b:
                olds.append(old_left.pop(0))
            else:
                news.append(new_left.pop(0))
        groups.append((olds, news))
    return groups
