# SPDX-License-Identifier: Apache-2.0
"""Gradients of every op and of whole models against central differences in float64."""

from __future__ import annotations

import numpy as np
import pytest

from tinytrain.gradient.objective import losses
from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Example, Fusable, registry
from tinytrain.ir.types import Role
from tinytrain.ops.activation import Relu, Tanh
from tinytrain.ops.dense import Dense
from tinytrain.ops.elementwise import Add, Mul
from tinytrain.ops.pieces import ReadsPieces
from tinytrain.ops.steps import Steps
from tinytrain.verify.checks import GRADIENT_RTOL, check_graph, check_op


def differentiable() -> list[object]:
    """Every example of every op with a gradient; an op with an epilogue, or over integers that stand for no reals, is made later."""
    return [
        pytest.param(example, id=f"{name}/{number}")
        for name, op in registry().items()
        for number, example in enumerate(op.examples)
        if example.op.differentiable and not (isinstance(example.op, Fusable) and example.op.then)
        and not (isinstance(example.op, ReadsPieces) and example.op.pieces)
        and any(kind.dtype.is_float or kind.quant for kind in example.inputs) and not isinstance(example.op, Steps)
    ]


@pytest.mark.parametrize("example", differentiable())
def test_gradient_of_op(example: Example) -> None:
    for seed in range(2):
        errors = check_op(example, seed)
        assert errors, f"{example.op.name} is differentiable but gives no gradient"
        for error in errors:
            assert error.relative <= GRADIENT_RTOL, f"{example}: {error}"
            assert 2 * error.compared >= error.sampled, f"{example}: too many kinks for a check: {error}"


@pytest.mark.long
@pytest.mark.parametrize("example", differentiable())
def test_gradient_of_op_everywhere(example: Example) -> None:
    for seed in range(8):
        for error in check_op(example, seed, samples=None):
            assert error.relative <= GRADIENT_RTOL, f"{example}: {error}"


@pytest.mark.parametrize("key", sorted(losses()))
def test_gradient_of_model(key: str) -> None:
    """Two layers, a weight that is read twice and a value with three readers: sums over readers are part of the gradient."""
    rng = np.random.default_rng(3)
    g = Builder("model")
    x = g.input("x", (6,))
    w1, b1, w2 = (g.const(n, rng.normal(size=s).astype(np.float32), Role.PARAM) for n, s in (("w1", (6, 6)), ("b1", (6,)), ("w2", (4, 6))))
    h = g.emit(Relu(), g.emit(Add(), g.emit(Dense(), x, w1), b1))
    h = g.emit(Add(), h, g.emit(Tanh(), g.emit(Dense(), h, w1)))
    h = g.emit(Mul(), h, h)
    logits = g.emit(Dense(), h, w2)
    loss_op = losses()[key]()
    kind = loss_op.target_type(logits.type)
    target = g.input("target", kind.shape, kind.dtype)
    loss = loss_op.emit(g, logits, target)
    t = rng.uniform(size=kind.shape) if kind.dtype.is_float else np.full(kind.shape, 2)
    errors = check_graph(g.graph([loss]), loss, [w1, b1, w2], [rng.normal(size=6), t], samples=None)
    assert [e.name for e in errors] == ["w1", "b1", "w2"]
    for error in errors:
        assert error.relative <= GRADIENT_RTOL and 2 * error.compared >= error.sampled, error
