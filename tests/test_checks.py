# SPDX-License-Identifier: Apache-2.0
"""The measuring instruments themselves: the interpreter, the comparison of tensors, and that a wrong gradient is found."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from tinytrain.errors import ToolError
from tinytrain.gradient.train_step import build_program
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Example, Wanted, f32
from tinytrain.ir.types import F32, S8, Role, Source, Value
from tinytrain.ops.activation import Relu, Tanh
from tinytrain.ops.dense import Dense
from tinytrain.ops.elementwise import Add
from tinytrain.schemes.scheme import resolve
from tinytrain.verify.checks import GRADIENT_RTOL, assert_matches, central_differences, check_op, first_difference
from tinytrain.verify.reference import ReferenceModel, run


def test_first_difference_says_where_and_how_much() -> None:
    want = np.arange(6, dtype=np.float32).reshape(2, 3)
    got = want.copy()
    assert first_difference(got, want, F32) is None
    got[1, 0] += 0.5
    got[1, 2] -= 0.25
    text = first_difference(got, want, F32)
    assert text is not None and text.startswith("at (1, 0): got ") and text.endswith("2 of 6 elements differ, by up to 0.5")
    assert first_difference(got[0], want, F32) == "shape (3,), expected (2, 3)"


def test_integers_are_exact_and_floats_are_not() -> None:
    small = np.array([100], np.int8)
    assert first_difference(small + np.int8(1), small, S8) is not None
    assert first_difference(np.array([1 + 1e-6], np.float32), np.array([1], np.float32), F32) is None
    assert first_difference(np.array([np.nan], np.float32), np.array([1], np.float32), F32) is not None
    with pytest.raises(AssertionError, match=r"case 7: output 1 differs at \(0,\)"):
        assert_matches([small, small + np.int8(1)], [small, small], [S8, S8], "case 7")


def test_central_differences_step_around_kinks() -> None:
    x = np.array([0.3, 0.0, 2e-4, -5.0])
    slopes, smooth = central_differences(lambda: float(np.maximum(x, 0).sum() + np.sin(x).sum()), x, range(4))
    assert list(smooth) == [True, False, True, True]      # at exactly 0 there is no derivative, at 2e-4 a smaller step does
    exact = (x > 0) + np.cos(x)
    assert np.abs(slopes - exact)[smooth].max() < 1e-9


@dataclass(frozen=True)
class _WrongTanh(Tanh):
    """A gradient that is off by one part in ten thousand."""

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        from tinytrain.ops.elementwise import Scale

        (dx,) = Tanh().vjp(g, inputs, outputs, grads, wanted)
        assert dx is not None
        return (g.emit(Scale(1.0001), dx),)


def test_wrong_gradient_is_found() -> None:
    (right,) = check_op(Example(Tanh(), f32((5,))))
    (wrong,) = check_op(Example(_WrongTanh(), f32((5,))))
    assert right.relative < GRADIENT_RTOL / 100 and right.compared == 5
    assert wrong.relative > 10 * GRADIENT_RTOL


def test_missing_oracle_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    from tinytrain.verify.oracle import tvm_gradients

    monkeypatch.setitem(sys.modules, "tvm", None)
    with pytest.raises(ToolError) as caught:
        tvm_gradients(onnx.ModelProto(), "mse", np.zeros(1), np.zeros(1), {})
    assert str(caught.value).startswith("The oracle needs TVM, which cannot be imported: ")
    assert caught.value.hint == "Install tinytrain[tvm]."


def small_graph() -> tuple[Builder, Value, Value]:
    g = Builder("small")
    x = g.input("x", (3,))
    w = g.const("w", np.array([[1, 2, 3], [4, 5, 6]], np.float32), source=Source("w", (2, 3), (2, 3), (0, 1)))
    b = g.const("b", np.array([1, -1], np.float32), source=Source("b", (2,), (2,), (0,)))
    g.origin = "fc"
    return g, x, g.emit(Relu(), g.emit(Add(), g.emit(Dense(), x, w), b))


def test_run_keeps_only_what_is_asked_for() -> None:
    g, _, y = small_graph()
    graph = g.graph([y])
    hidden = graph.nodes[0].outputs[0]
    x = np.array([1, 0, -1], np.float32)
    result = run(graph, [x], keep=[hidden])
    assert list(result.values) == [hidden]
    assert np.array_equal(result.values[hidden], [-2, -2]) and np.array_equal(result.outputs[0], [0, 0])
    assert result.outputs[0].dtype == np.float32
    assert run(graph, [x], dtype=np.float64).outputs[0].dtype == np.float64
    with pytest.raises(AssertionError, match="shape"):
        run(graph, [np.zeros(4, np.float32)])


def test_updates_read_the_old_value() -> None:
    g = Builder("swap")
    a, b = (g.const(n, np.array([v], np.float32), Role.STATE) for n, v in (("a", 1), ("b", 2)))
    graph = g.graph([], {a: g.emit(Add(), a, b), b: g.emit(Add(), b, a)})
    result = run(graph, [])
    assert [float(v[0]) for v in result.updates.values()] == [3, 3]
    assert a.data is not None and a.data[0] == 1


def test_reference_model_learns_and_accumulates() -> None:
    """Four samples accumulated, then one update by their mean: as one step by the mean of the four gradients."""
    g, _, y = small_graph()
    forward = g.graph([y])
    rng = np.random.default_rng(0)
    xs, ts = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(4, 2)).astype(np.float32)

    def program(count: int) -> ReferenceModel:
        return ReferenceModel(build_program(forward, "mse", resolve("full", forward), Optimiser(0.1, accumulate=count)), np.float64)

    four = program(4)
    before = four.parameters()
    for n, (x, t) in enumerate(zip(xs, ts, strict=True)):
        four.train_step(x, t)
        changed = any((four.parameters()[key] != before[key]).any() for key in before)
        assert changed == (n == 3)
    steps = []
    for x, t in zip(xs, ts, strict=True):
        single = program(1)
        single.train_step(x, t)
        steps.append({key: single.parameters()[key] - before[key] for key in before})
    for key in before:
        assert np.allclose(four.parameters()[key] - before[key], np.mean([s[key] for s in steps], axis=0), atol=1e-12)

    model = program(1)
    losses = [model.train_step(xs[0], ts[0]) for _ in range(30)]
    loss, output = model.evaluate(xs[0], ts[0])
    assert losses[-1] < losses[0] and loss <= losses[-1] and np.array_equal(output, model.infer(xs[0]))
    model.set_lr(0.0)
    assert model.train_step(xs[0], ts[0]) == model.train_step(xs[0], ts[0])
    model.reset()
    assert model.train_step(xs[0], ts[0]) == losses[0]
