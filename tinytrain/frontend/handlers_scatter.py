# SPDX-License-Identifier: Apache-2.0
"""Handlers of ops that pick or place single elements all over a tensor, at places known when compiling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.handlers_move import axis_of, wrapped
from tinytrain.frontend.layout import Tensor, plain
from tinytrain.frontend.taking import rearranged, settled, stored
from tinytrain.ir.op import Op
from tinytrain.ir.types import Array, Value
from tinytrain.ops.binary import Max, Min
from tinytrain.ops.elementwise import Add, Mul
from tinytrain.ops.shape import Concat
from tinytrain.ops.take import Scatter, Take


@handles("GatherElements")
def gather_elements(call: Call) -> Tensor:
    x = call.tensor()
    return rearranged(call, x, _elements(call, x.shape, call.array(1, "indices")))


@handles("GatherND")
def gather_nd(call: Call) -> Tensor:
    x = call.tensor()
    return rearranged(call, x, _tuples(call, x.shape, call.array(1, "indices"), call.integer("batch_dims")))


def _counted(shape: tuple[int, ...]) -> Array:
    """The elements, numbered."""
    return np.arange(math.prod(shape)).reshape(shape)


def _elements(call: Call, shape: tuple[int, ...], index: Array) -> Array:
    """Which elements GatherElements reads and ScatterElements writes: those at their own place, but for one axis."""
    axis = axis_of(call, 0, len(shape))
    fits = index.ndim == len(shape) and all(n <= size or a == axis for a, (n, size) in enumerate(zip(index.shape, shape, strict=True)))
    if not fits:
        raise call.fail(f"its indices are of shape {index.shape} for data of {shape}, expected as many axes, none longer", "Correct them.")
    own = tuple(slice(n) if a != axis else slice(None) for a, n in enumerate(index.shape))
    return np.asarray(np.take_along_axis(_counted(shape)[own], wrapped(call, index, shape[axis]), axis))


def _tuples(call: Call, shape: tuple[int, ...], index: Array, batch: int = 0) -> Array:
    """Which elements the tuples along the last axis of an index mean; the first `batch` axes are gone through together."""
    count = index.shape[-1]
    if not 1 <= count <= len(shape) - batch or index.shape[:batch] != shape[:batch]:
        raise call.fail(f"its indices are of shape {index.shape} for data of {shape}, {batch} axes of it batch", "Correct the indices.")
    places = tuple(wrapped(call, index[..., i], shape[batch + i]) for i in range(count))
    ahead = np.ix_(*map(np.arange, index.shape[:batch])) if batch else ()
    extra = index.ndim - 1 - batch
    return np.asarray(_counted(shape)[(*(a.reshape(*a.shape, *(1,) * extra) for a in ahead), *places)])


@dataclass(frozen=True)
class Reduction:
    """How elements that are there already and updates become one: of all updates of an element, and then of both."""

    op: Callable[[], Op]
    among: np.ufunc
    neutral: float


REDUCTIONS = {
    "mul": Reduction(Mul, np.multiply, 1.0), "max": Reduction(Max, np.maximum, float(np.finfo(np.float32).min)),
    "min": Reduction(Min, np.minimum, float(np.finfo(np.float32).max)),
}


@handles("ScatterElements")
def scatter_elements(call: Call) -> Tensor:
    return _scattered(call, _elements(call, call.shape, call.array(1, "indices")), 2, call.text("reduction", "none"))


@handles("ScatterND")
def scatter_nd(call: Call) -> Tensor:
    return _scattered(call, _tuples(call, call.shape, call.array(1, "indices")), 2, call.text("reduction", "none"))


@handles("TensorScatter")
def tensor_scatter(call: Call) -> Tensor:
    """Of a cache, the positions from an index on, of each sample its own."""
    shape, axis = call.shape, axis_of(call, -2, len(call.shape))
    size, count = shape[axis], call.operand_shape(1)[axis]
    first = call.array(2, "write_indices").reshape(-1) if call.has(2) else np.zeros(shape[0], np.int64)
    rows = first[:, None] + np.arange(count)
    rows = rows % size if call.text("mode", "linear") == "circular" else wrapped(call, rows, size)
    cache = np.moveaxis(_counted(shape), axis, 1)
    places = np.take_along_axis(cache, rows.reshape(*rows.shape, *(1,) * (len(shape) - 2)), 1)
    return _scattered(call, np.moveaxis(places, 1, axis), 1, "none")


def _scattered(call: Call, places: Array, position: int, reduction: str) -> Tensor:
    """Operand 0 with the updates, operand `position`, at those places of it."""
    size, targets = math.prod(call.shape), places.reshape(-1)
    if call.operand_shape(position) != places.shape:
        raise call.fail(f"its updates are of shape {call.operand_shape(position)}, expected {places.shape}", "Correct the updates.")
    if reduction in REDUCTIONS:
        data, made = _flat(call, 0), REDUCTIONS[reduction]
        least = np.full(size, made.neutral, np.float32)
        made.among.at(least, targets, call.array(position, f"updates, of which it takes the {reduction},").reshape(-1))
        value = call.emit(made.op(), data, call.model.graph.const(f"{call.result}_updates", least))
    elif reduction == "add":
        more = call.emit(Scatter(0, size=size), _flat(call, position), *stored(call, targets[:, None]), part="sums")
        value = call.emit(Add(), more, _flat(call, 0))
    elif reduction == "none":
        index = np.arange(size)
        index[targets] = size + np.arange(len(targets))   # of several for one element the last
        both = call.emit(Concat(0, 2), _flat(call, 0), _flat(call, position), part="both")
        value = call.emit(Take(0), both, *stored(call, index[:, None]))
    else:
        raise call.fail(f"its reduction is {reduction}, expected none, add, {', '.join(REDUCTIONS)}", "Use one of these.")
    return settled(call, value, call.shape, plain(call.shape))


def _flat(call: Call, index: int) -> Value:
    """An operand in ONNX order."""
    size = (math.prod(call.operand_shape(index)),)
    if call.is_const(index):
        return call.const(index, "operand", ir=size, trained=False)
    x = call.tensor(index)
    return call.view(x, plain(x.shape), size)


@handles("MaxUnpool")
def max_unpool(call: Call) -> Tensor:
    """Each element goes to where it was found, in the map that its windows covered."""
    x, kernel = call.tensor(), call.integers("kernel_shape", ())
    rank = len(kernel)
    if call.operand_shape(1) != x.shape:
        raise call.fail(f"its indices are of shape {call.operand_shape(1)}, expected {x.shape}", "Correct the indices.")
    strides, pads = call.integers("strides", (1,) * rank), call.integers("pads", (0,) * (2 * rank))
    covered = tuple((x.shape[a + 2] - 1) * strides[a] + kernel[a] - pads[a] - pads[rank + a] for a in range(rank))
    shape = tuple(int(n) for n in call.array(2, "output_shape").reshape(-1)) if call.has(2) else (*x.shape[:2], *covered)
    if any(have > room for have, room in zip((*x.shape[:2], *covered), shape, strict=True)):
        raise call.fail(f"its output_shape is {shape}, expected room for {(*x.shape[:2], *covered)}", "Correct it.")
    places = wrapped(call, call.array(1, "indices").reshape(-1), math.prod(x.shape[:2]) * math.prod(covered))
    targets = _counted(shape)[tuple(map(slice, (*x.shape[:2], *covered)))].reshape(-1)[places]
    value = call.emit(Scatter(0, size=math.prod(shape)), _flat(call, 0), *stored(call, targets[:, None]))
    return settled(call, value, shape, plain(shape))


@handles("Col2Im")
def col2im(call: Call) -> Tensor:
    """Columns (N, C·block, L) are added up where the blocks of an image overlap."""
    x = call.tensor()
    image, block = ([int(n) for n in call.array(i, what).reshape(-1)] for i, what in ((1, "image_shape"), (2, "block_shape")))
    rank = len(image)
    strides, dilations = call.integers("strides", (1,) * rank), call.integers("dilations", (1,) * rank)
    pads = call.integers("pads", (0,) * (2 * rank))
    if min((*strides, *dilations, *block)) < 1 or len(block) != rank:
        raise call.fail(f"its strides are {strides}, its dilations {dilations} and its block {block}, expected 1 or more", "Correct them.")
    places, outside = np.zeros((1, 1), np.int64), np.zeros((1, 1), bool)
    for a in range(rank):
        blocks = (image[a] + pads[a] + pads[rank + a] - dilations[a] * (block[a] - 1) - 1) // strides[a] + 1
        at = np.arange(block[a])[:, None] * dilations[a] + np.arange(blocks) * strides[a] - pads[a]
        places, outside = (_crossed(combine, old, new) for combine, old, new in (
            (np.add, places * image[a], at), (np.logical_or, outside, (at < 0) | (at >= image[a]))
        ))
    index = np.where(outside, -1, places).reshape(-1, 1)
    channels = x.shape[0] * x.shape[1] // math.prod(block)
    if math.prod(x.shape) != channels * len(index):
        raise call.fail(f"its columns {x.shape} are not those of blocks {block} in an image {image}", "Correct its shapes.")
    value = call.view(x, plain(x.shape), (channels, len(index)))
    made = call.emit(Scatter(1, size=math.prod(image), holes=bool((index < 0).any())), value, *stored(call, index))
    return settled(call, made, call.shape, plain(call.shape))


def _crossed(combine: np.ufunc, a: Array, b: Array) -> Array:
    """(A, B) and (C, D) → (A·C, B·D)."""
    return np.asarray(combine(a[:, None, :, None], b[None, :, None, :])).reshape(a.shape[0] * b.shape[0], a.shape[1] * b.shape[1])
