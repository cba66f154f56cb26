# SPDX-License-Identifier: Apache-2.0
"""Growers (`onnx_net.py`) of ops that move, take, place or repeat elements."""

from __future__ import annotations

import math

import numpy as np
from onnx_net import INT, Net, Unfit, grows


@grows("Transpose")
def transpose(net: Net, op: str) -> None:
    x = net.read(1, 2, 3, 4, 5)
    net.add(op, x, perm=net.one(None, net.draw_perm(len(net.shape(x)))))


@grows("Reshape")
def reshape(net: Net, op: str) -> None:
    """With a 0 for an axis that stays, and a -1 for one that is left to be worked out."""
    x = net.read()
    shape = net.shape(x)
    new = list(net.other_shape(shape, net.int(0, 5)))
    if not new and math.prod(shape) != 1:
        raise Unfit
    zero = net.one(None, 0)
    for i, size in enumerate(new):
        if i < len(shape) and shape[i] == size and net.yes():
            new[i] = 0
    if new and net.yes():
        new[net.int(0, len(new) - 1)] = -1
    net.add(op, x, net.stored(new), allowzero=zero if 0 in new else net.one(None, 0, 1))


@grows("Flatten")
def flatten(net: Net, op: str) -> None:
    x = net.read()
    rank = len(net.shape(x))
    net.add(op, x, axis=net.one(None, net.int(-rank, rank)) if rank else net.one(None, 0))


@grows("Squeeze")
def squeeze(net: Net, op: str) -> None:
    x = net.read()
    ones = [a for a, n in enumerate(net.shape(x)) if n == 1]
    axes = [a - net.one(0, len(net.shape(x))) for a in ones if net.yes()]
    net.add(op, x, *([net.stored(axes)] if axes else []))     # of an empty list of axes onnxruntime and ONNX think differently


@grows("Unsqueeze")
def unsqueeze(net: Net, op: str) -> None:
    x = net.read(0, 1, 2, 3, 4)
    count = net.int(1, 2)
    net.add(op, x, net.stored(net.axes(len(net.shape(x)) + count, count)[:count]))


@grows("Concat")
def concat(net: Net, op: str) -> None:
    x = net.read(1, 2, 3, 4, 5)
    shape = net.shape(x)
    axis = net.axis(len(shape))
    parts = [x]
    for _ in range(net.int(0, 2)):
        fits = [name for name in reversed(net.values) if net.array(name).dtype == np.float32 and len(net.shape(name)) == len(shape)
                and all(m == n or a == axis % len(shape) for a, (m, n) in enumerate(zip(net.shape(name), shape, strict=True)))]
        stored = net.stored(net.numbers(*(net.int(1, 3) if a == axis % len(shape) else n for a, n in enumerate(shape))))
        parts.insert(net.int(0, len(parts)), net.one(*fits, stored))
    net.add(op, *parts, axis=axis)


@grows("Split")
def split(net: Net, op: str) -> None:
    x = net.read(1, 2, 3, 4, 5)
    axis = net.axis(len(net.shape(x)))
    size = net.shape(x)[axis]
    parts = net.int(1, min(size, 3))
    if net.takes(op, "num_outputs") and net.yes():
        net.add(op, x, outputs=parts, axis=axis, num_outputs=parts)
        return
    if size % parts == 0 and not net.takes(op, "num_outputs") and net.yes():
        net.add(op, x, outputs=parts, axis=axis)
        return
    ends = [0, *sorted(net.int(1, size) for _ in range(parts - 1)), size]
    net.add(op, x, net.stored(np.diff(ends)), outputs=parts, axis=axis)


@grows("Slice")
def slice_(net: Net, op: str) -> None:
    x = net.read(1, 2, 3, 4, 5)
    shape = net.shape(x)
    axes = net.axes(len(shape), 1)
    if not axes:
        raise Unfit
    starts, ends, steps = [], [], []
    for a in axes:
        step = net.one(1, 2, -1, -2)
        starts.append(net.int(-shape[a], shape[a] - 1) if net.yes() else 0 if step > 0 else shape[a])
        ends.append(net.one(2**31 - 1, shape[a], -1) if step > 0 else net.one(-(2**31), -shape[a] - 1, 0))
        steps.append(step)
    given = [np.array(values, net.one(np.int64, np.int64, np.int32)) for values in (starts, ends, axes, steps)]
    given = [array.astype(given[0].dtype) for array in given]
    count = 3 if all(s == 1 for s in steps) and net.yes() else 4
    net.add(op, x, *(net.stored(array) for array in given[:count]))


@grows("Gather")
def gather(net: Net, op: str) -> None:
    x = net.read(1, 2, 3, 4)
    axis = net.axis(len(net.shape(x)))
    size = net.shape(x)[axis]
    if net.yes():
        index = net.one(net.int(-size, size - 1), [net.int(-size, size - 1) for _ in range(net.int(1, 4))], [[0, size - 1], [-1, 0]])
        net.add(op, x, net.stored(np.array(index, net.one(np.int64, np.int32))), axis=axis)
        return
    index = net.read(kind=INT)
    if len(net.shape(index)) > 2 or net.array(index).max() >= size or net.array(index).min() < -size:
        index = net.add("ArgMin", x, axis=axis, keepdims=0)
    data = net.one(x, net.stored(net.numbers(*net.shape(x))))
    net.add(op, data, index, axis=axis)


@grows("GatherElements")
def gather_elements(net: Net, op: str) -> None:
    x = net.read(1, 2, 3, 4)
    shape = net.shape(x)
    axis = net.axis(len(shape))
    net.add(op, x, net.stored(element_index(net, shape, axis)), axis=axis)


def element_index(net: Net, shape: tuple[int, ...], axis: int) -> np.ndarray:
    at = axis % len(shape)
    wanted = [net.int(1, 4) if a == at else net.int(1, n) for a, n in enumerate(shape)]
    return net.rng.integers(-shape[at], shape[at], wanted)


@grows("GatherND")
def gather_nd(net: Net, op: str) -> None:
    x = net.read(1, 2, 3, 4)
    shape = net.shape(x)
    batch = net.int(0, len(shape) - 1)
    depth = net.int(1, len(shape) - batch)
    index = tuples(net, shape[batch : batch + depth], (*shape[:batch], *(net.int(1, 3) for _ in range(net.int(0, 2)))))
    net.add(op, x, net.stored(index), batch_dims=batch or None)


def tuples(net: Net, sizes: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    return np.stack([np.asarray(net.rng.integers(-n, n, shape)) for n in sizes], -1)


@grows("ScatterElements")
def scatter_elements(net: Net, op: str) -> None:
    x = net.read(1, 2, 3, 4)
    shape = net.shape(x)
    axis = net.axis(len(shape))
    index = element_index(net, shape, axis)
    how = _reduction(net, op)
    if how == "none":                                     # of several for one element any may stay
        index = np.sort(np.argsort(net.rng.random(index.shape), axis) % shape[axis], axis)
        index = np.take(index, np.arange(min(index.shape[axis], shape[axis])), axis)
    net.add(op, x, net.stored(index), _updates(net, tuple(index.shape)), axis=axis, reduction=None if how == "none" else how)


def _reduction(net: Net, op: str) -> str:
    if not net.takes(op, "reduction"):
        return "none"
    return net.one("none", "add", "mul", *(("max", "min") if net.opset >= 18 else ()))


def _updates(net: Net, shape: tuple[int, ...]) -> str:
    same = [name for name in reversed(net.values) if net.array(name).dtype == np.float32 and net.array(name).size == math.prod(shape)]
    if same and net.yes():
        return net.add("Reshape", same[0], net.stored(list(shape)))
    return net.stored(net.numbers(*shape))


@grows("ScatterND")
def scatter_nd(net: Net, op: str) -> None:
    x = net.read(1, 2, 3, 4)
    shape = net.shape(x)
    depth = net.int(1, len(shape))
    how = _reduction(net, op)
    count = net.int(1, 3)
    flat = net.rng.permutation(math.prod(shape[:depth]))[:count]
    index = np.stack(np.unravel_index(flat, shape[:depth]), -1).astype(np.int64)
    net.add(op, x, net.stored(index), _updates(net, (len(flat), *shape[depth:])), reduction=None if how == "none" else how)


@grows("TensorScatter")
def tensor_scatter(net: Net, op: str) -> None:
    x = net.read(3, 4)
    shape = net.shape(x)
    axis = net.one(None, *range(1, len(shape)), *range(1 - len(shape), 0))
    at = (len(shape) - 2 if axis is None else axis) % len(shape)
    count = net.int(1, shape[at])
    mode = net.one(None, "linear", "circular")
    first = [net.int(0, shape[at] - 1 if mode == "circular" else shape[at] - count) for _ in range(shape[0])]
    update = _updates(net, tuple(count if a == at else n for a, n in enumerate(shape)))
    net.add(op, x, update, net.stored(first), axis=axis, mode=mode)


@grows("Tile")
def tile(net: Net, op: str) -> None:
    x = net.read(1, 2, 3, 4)
    net.add(op, x, net.stored([net.one(1, 1, 2, 3) for _ in net.shape(x)]))


@grows("Expand")
def expand(net: Net, op: str) -> None:
    x = net.read(0, 1, 2, 3, 4)
    shape = [net.one(1, 2, 3) if n == 1 else net.one(n, 1) for n in net.shape(x)]
    net.add(op, x, net.stored([*[net.int(1, 3) for _ in range(net.int(0, 1))], *shape[net.int(0, len(shape)) :]]))


@grows("Pad")
def pad(net: Net, op: str) -> None:
    x = net.read(1, 2, 3, 4, 5)
    shape, mode = net.shape(x), net.one(None, "constant", "reflect", "edge", *(["wrap"] if net.opset >= 19 else []))
    axes = net.axes(len(shape), 1) if net.opset >= 18 and net.yes() else list(range(len(shape)))
    most = [shape[a] - 1 if mode == "reflect" else 2 for a in axes]
    least = -1 if mode in (None, "constant") and net.one(False, False, True) else 0
    pads = [max(net.int(least, min(n, 2)), 1 - shape[a]) for _ in range(2) for a, n in zip(axes, most, strict=True)]
    value = [net.stored(np.float32(net.one(0.0, 0.5, -3.0)))] if mode in (None, "constant") and net.yes() else []
    named = axes != list(range(len(shape)))
    net.add(op, x, net.stored(pads), *(value or ([""] if named else [])), *([net.stored(axes)] if named else []), mode=mode)


@grows("DepthToSpace", "SpaceToDepth")
def blocks(net: Net, op: str) -> None:
    b = net.int(1, 2)
    c, h, w = net.int(1, 2), net.int(1, 3), net.int(1, 2)
    shape = (1, c * b * b, h, w) if op == "DepthToSpace" else (1, c, h * b, w * b)
    net.add(op, made_to(net, shape), blocksize=b, mode=net.one(None, "DCR", "CRD"))


def made_to(net: Net, shape: tuple[int, ...]) -> str:
    """Something that is read, repeated and cut to a shape."""
    x = net.read()
    size, want = net.array(x).size, math.prod(shape)
    flat = net.add("Reshape", x, net.stored([-1], folded=False))
    index = net.stored(np.resize(net.rng.permutation(size), want), folded=False)
    return net.add("Reshape", net.add("Gather", flat, index), net.stored(list(shape)))


@grows("CenterCropPad")
def center_crop_pad(net: Net, op: str) -> None:
    x = net.read(1, 2, 3, 4)
    axes = net.one(None, net.axes(len(net.shape(x)), 1))
    count = len(net.shape(x)) if axes is None else len(axes)
    net.add(op, x, net.stored([net.int(1, 5) for _ in range(count)]), axes=axes)


@grows("Compress")
def compress(net: Net, op: str) -> None:
    x = net.read(1, 2, 3, 4)
    axis = net.one(None, net.axis(len(net.shape(x))))
    size = net.array(x).size if axis is None else net.shape(x)[axis]
    net.add(op, x, net.stored(net.rng.random(net.int(1, size)) > 0.4, folded=False), axis=axis)


@grows("ReverseSequence")
def reverse_sequence(net: Net, op: str) -> None:
    x = net.read(2, 3, 4)
    time, batch = net.one((0, 1), (1, 0))
    lengths = [net.int(1, net.shape(x)[time]) for _ in range(net.shape(x)[batch])]
    net.add(op, x, net.stored(lengths), time_axis=time, batch_axis=batch)


@grows("Trilu")
def trilu(net: Net, op: str) -> None:
    k = [net.stored(np.array(net.int(-3, 3)))] if net.yes() else []
    net.add(op, net.read(2, 3, 4), *k, upper=net.one(None, 0, 1))
