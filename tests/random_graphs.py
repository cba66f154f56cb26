# SPDX-License-Identifier: Apache-2.0
"""Random forward graphs built op by op, with what exporters rarely write: values read twice, sums with themselves, views of views."""

from __future__ import annotations

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph
from tinytrain.ir.types import Array, Source, Value
from tinytrain.ops import shape
from tinytrain.ops.activation import Clip, LeakyRelu, Relu, Sigmoid, Tanh
from tinytrain.ops.conv import Conv2d
from tinytrain.ops.dense import Dense
from tinytrain.ops.depthwise import DepthwiseConv2d
from tinytrain.ops.elementwise import Add, Mul, Sub
from tinytrain.ops.pool import AveragePool, MaxPool
from tinytrain.ops.softmax import LogSoftmax, Softmax
from tinytrain.ops.windowed import Pad

CLASSES = 3


def random_graph(seed: int, length: int = 8) -> Graph:
    """A graph of maps (H, W, C) that ends in CLASSES numbers; equal seeds give equal graphs."""
    rng = np.random.default_rng(seed)
    g = Builder(f"random{seed}")
    size = [int(n) for n in rng.integers(1, 6, 2)] if rng.random() < 0.8 else [int(rng.integers(2, 9)), 1]
    maps = [g.input("x", (*size, int(rng.integers(1, 5))))]
    weights: dict[tuple[int, ...], Value] = {}
    for number in range(length):
        g.origin = f"n{number}"
        x = maps[-1] if rng.random() < 0.7 else maps[rng.integers(len(maps))]
        maps.append(_grown(g, rng, x, maps, weights))
    x = maps[-1]
    g.origin = "head"
    if rng.random() < 0.3:
        x = g.emit(shape.Transpose((2, 0, 1)), x)
    x = g.emit(shape.Reshape((x.type.numel,)), x)
    logits = g.emit(Dense(), x, _weight(g, rng, (CLASSES, x.type.numel)))
    logits = g.emit(Add(), logits, _weight(g, rng, (CLASSES,)))
    g.origin = "last"
    last = [None, None, Softmax(), LogSoftmax(), Sigmoid(), Relu()][rng.integers(6)]
    return g.graph([g.emit(last, logits) if last else logits])


def _weight(g: Builder, rng: np.random.Generator, size: tuple[int, ...]) -> Value:
    data = (rng.standard_normal(size) / max(1.0, np.sqrt(np.prod(size[1:])))).astype(np.float32)
    name = f"w{len(g.nodes)}_{len(size)}"
    return g.const(name, data, source=Source(name, size, size, tuple(range(len(size)))))


def _grown(g: Builder, rng: np.random.Generator, x: Value, maps: list[Value], weights: dict[tuple[int, ...], Value]) -> Value:
    """One more map, made from x and perhaps another one."""
    h, w, c = x.shape
    alike = [v for v in maps if v.shape == x.shape]
    other = alike[rng.integers(len(alike))]
    kind = int(rng.integers(12)) if x.type.numel < 300 else 0
    if kind in (0, 1):
        activations = (Relu(), Relu(), LeakyRelu(0.1), Clip(-0.5, 0.8), Sigmoid(), Tanh())
        return g.emit(activations[rng.integers(len(activations))], x)
    if kind == 2:
        return g.emit((Add(), Sub(), Mul())[rng.integers(3)], x, other)
    if kind == 3:
        return g.emit((Add(), Mul())[rng.integers(2)], x, _weight(g, rng, (c,)))
    if kind == 4 and c < 6:
        return g.emit(shape.Concat(2, 2), x, other)
    if kind == 5:
        pads = tuple(int(n) for n in rng.integers(0, 2, 4))
        return g.emit(shape.Pad((*pads[:2], 0), (*pads[2:], 0), float(rng.choice([0.0, 0.0, 0.5]))), x)
    if kind == 6 and min(h, w) > 1:
        pool = MaxPool((2, 2), (1, 1)) if rng.random() < 0.5 else AveragePool((2, 2), (1, 1))
        return g.emit_all(pool, x)[0]
    if kind == 7:
        flat = g.emit(shape.Reshape((x.type.numel,)), x)
        return g.emit(shape.Reshape((w, h, c)), g.emit(Relu(), flat) if rng.random() < 0.7 else flat)
    if kind == 8:
        return g.emit(shape.Transpose((1, 0, 2)), x)
    if kind == 9:
        made = g.emit(DepthwiseConv2d((1, 1), Pad(1, 1, 1, 1)), x, _weight(g, rng, (3, 3, c)))
        return g.emit(Add(), made, _weight(g, rng, (c,)))
    key = (2, 3, 3, c)                                    # often the same weights again
    weight = weights.setdefault(key, _weight(g, rng, key)) if rng.random() < 0.5 else _weight(g, rng, key)
    made = g.emit(Conv2d((1, 1), Pad(1, 1, 1, 1)), x, weight)
    return g.emit(Add(), made, _weight(g, rng, (2,))) if rng.random() < 0.7 else made


def sample(graph: Graph, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(graph.inputs[0].shape).astype(np.float32)
