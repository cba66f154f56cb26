# SPDX-License-Identifier: Apache-2.0
"""Random chains of ops that move, reduce, spread and mix axes: whatever layout they end in, the numbers are those of ONNX."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import onnx
from frontend_models import Arrays, f32, i64, infer, load, model_of, node
from hypothesis import given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

Shape = tuple[int, ...]


class Chain:
    """An ONNX model that grows by one node at a time from the tensor made last."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: Arrays = {}
        self.start: Shape = (1, *draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
        self.made: list[tuple[str, Shape]] = [("x", self.start)]

    def __repr__(self) -> str:
        steps = [f"{n.op_type}({', '.join(n.input)}) -> {s}" for n, (_, s) in zip(self.nodes, self.made[1:], strict=True)]
        return f"x {self.start}; " + "; ".join(steps)

    def add(self, op: str, shape: Shape, *more: str, **attributes: object) -> None:
        name = f"t{len(self.nodes)}"
        self.nodes.append(node(op, " ".join((self.made[-1][0], *more)), name, f"n{len(self.nodes)}", **attributes))
        self.made.append((name, shape))

    def const(self, array: np.ndarray) -> str:
        name = f"k{len(self.arrays)}"
        self.arrays[name] = array
        return name

    def grow(self) -> None:
        shape = self.made[-1][1]
        rank = len(shape)
        choices = [self.relu, self.transpose, self.reshape, self.constant, self.mean, self.softmax, self.earlier, self.unsqueeze, self.pad]
        if rank > 1:
            choices.append(self.matmul)
        if rank in (3, 4) and shape[0] == 1:
            choices += [self.conv, self.pool, self.norm]
        self.draw(st.sampled_from(choices))(shape)

    def relu(self, shape: Shape) -> None:
        self.add("Relu", shape)

    def transpose(self, shape: Shape) -> None:
        perm = self.draw(st.permutations(range(len(shape))))
        self.add("Transpose", tuple(shape[a] for a in perm), perm=list(perm))

    def reshape(self, shape: Shape) -> None:
        factors = [f for d in shape for f in _prime_factors(d)]
        new: list[int] = [1]
        for factor in factors:
            if self.draw(st.booleans()):
                new.append(factor)
            else:
                new[-1] *= factor
        new[4:] = [math.prod(new[4:])] if len(new) > 4 else []
        self.add("Reshape", tuple(new), self.const(i64(*new)))

    def constant(self, shape: Shape) -> None:
        drop = self.draw(st.integers(0, len(shape)))
        other = tuple(d if self.draw(st.booleans()) else 1 for d in shape[drop:])
        self.add(self.draw(st.sampled_from(["Add", "Sub", "Mul"])), shape, self.const(f32(*other)))

    def earlier(self, shape: Shape) -> None:
        """Combine with any tensor that broadcasts, in either order; or concatenate."""
        name, other = self.draw(st.sampled_from(self.made))
        try:
            both = np.broadcast_shapes(shape, other)
        except ValueError:
            return self.relu(shape)
        if shape == other and self.draw(st.booleans()):
            axis = self.draw(st.integers(0, len(shape) - 1))
            return self.add("Concat", (*shape[:axis], 2 * shape[axis], *shape[axis + 1:]), name, axis=axis)
        return self.add(self.draw(st.sampled_from(["Add", "Sub", "Mul"])), both, name) if math.prod(both) <= 512 else self.relu(shape)

    def mean(self, shape: Shape) -> None:
        axes = self.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=2, unique=True))
        keep = len(axes) == len(shape) or self.draw(st.booleans())
        left = tuple(1 if a in axes else d for a, d in enumerate(shape) if keep or a not in axes)
        self.add("ReduceMean", left, axes=axes, keepdims=int(keep))

    def softmax(self, shape: Shape) -> None:
        self.add("Softmax", shape, axis=self.draw(st.integers(0, len(shape) - 1)))

    def unsqueeze(self, shape: Shape) -> None:
        if len(shape) > 4:
            return self.relu(shape)
        axis = self.draw(st.integers(0, len(shape)))
        return self.add("Unsqueeze", (*shape[:axis], 1, *shape[axis:]), self.const(i64(axis)))

    def pad(self, shape: Shape) -> None:
        before, after = ([0, *(self.draw(st.integers(0, 1)) for _ in shape[1:])] for _ in range(2))
        self.add("Pad", tuple(b + d + a for b, d, a in zip(before, shape, after, strict=True)), self.const(i64(*before, *after)))

    def matmul(self, shape: Shape) -> None:
        self.add("MatMul", (*shape[:-1], 3), self.const(f32(shape[-1], 3)))

    def conv(self, shape: Shape) -> None:
        space = len(shape) - 2
        self.add("Conv", (1, 2, *shape[2:]), self.const(f32(2, shape[1], *(3,) * space)), pads=[1] * 2 * space)

    def pool(self, shape: Shape) -> None:
        space = len(shape) - 2
        new = tuple((d + 1 - 2) // 2 + 1 for d in shape[2:])
        self.add("MaxPool", (*shape[:2], *new), kernel_shape=[2] * space, strides=[2] * space, pads=[0] * space + [1] * space)

    def norm(self, shape: Shape) -> None:
        c = shape[1]
        self.add("BatchNormalization", shape, *(self.const(a) for a in (f32(c), f32(c), f32(c), np.abs(f32(c)) + 0.5)))


def _prime_factors(n: int) -> list[int]:
    found = []
    for p in (2, 3, 5, 7):
        while n % p == 0:
            found.append(p)
            n //= p
    return found if n == 1 else [*found, n]


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    chain = Chain(draw)
    for _ in range(draw(st.integers(1, 8))):
        chain.grow()
    return chain


@given(chains())
def test_any_chain_equals_onnx(chain: Chain) -> None:
    chain.nodes[-1].output[0] = "y"
    model = model_of(chain.nodes, chain.arrays, chain.start)
    sample = f32(*chain.start)
    want = ReferenceEvaluator(model).run(None, {"x": sample})[0]
    with tempfile.TemporaryDirectory() as folder:
        _, imported = load(Path(folder), model)
    assert imported.output.onnx_shape == want.shape
    np.testing.assert_allclose(infer(imported, sample), want, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(want).max())))
