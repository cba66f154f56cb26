# SPDX-License-Identifier: Apache-2.0
"""How results are compared: the one tolerance table, the first difference between two tensors, and gradients by central differences.

D(h) = (f(x + h) − f(x − h))/2h;  f'(x) = (4·D(h/2) − D(h))/3 + O(h⁴)   (Richardson 1911). In float64 with h = 1e-3 both the
truncation and the rounding error lie near 1e-11, far below the 1e-6 that is asked for. Where D(h) and D(h/2) disagree there is a kink
within the step (a ReLU that turns on, a maximum that moves): the step shrinks until there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from tinytrain.gradient.autodiff import gradients
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph
from tinytrain.ir.loss import Loss
from tinytrain.ir.op import Example, Op, Want
from tinytrain.ir.types import F16, F32, Array, DType, TensorType, Value
from tinytrain.verify.reference import run


@dataclass(frozen=True)
class Tolerance:
    """Equal means |got − want| <= atol + rtol·|want|."""

    rtol: float = 0.0
    atol: float = 0.0


# Integers are exact: they have no entry. Float kernels sum in another order than NumPy, hence the absolute part.
TOLERANCE: dict[DType, Tolerance] = {F32: Tolerance(rtol=1e-5, atol=1e-5), F16: Tolerance(rtol=2e-3, atol=2e-3)}
GRADIENT_RTOL = 1e-6                                      # of the largest entry of a gradient, in float64
STEPS = (1e-3, 1e-4, 1e-5, 1e-6)
AGREEMENT = 3e-7                                          # of D(h) with D(h/2), relative to the largest slope of the tensor
SMALLEST_SCALE = 1e-3                                     # gradients below this are compared absolutely: rounding is all there is


def first_difference(got: Array, want: Array, dtype: DType, scale: float = 1.0) -> str | None:
    """What differs first and how much differs in all; None when the arrays are equal within the tolerance of the type.

    `scale` is the size of what was summed, where that is not near 1: it multiplies the absolute tolerance.
    """
    if got.shape != want.shape:
        return f"shape {got.shape}, expected {want.shape}"
    allowed = TOLERANCE.get(dtype, Tolerance())
    if not dtype.is_float:
        equal = got == want
    else:
        equal = np.isclose(got.astype(np.float64), want.astype(np.float64), allowed.rtol, allowed.atol * scale, equal_nan=True)
    if np.all(equal):
        return None
    wrong = np.argwhere(~np.atleast_1d(equal))
    at = tuple(int(i) for i in wrong[0])
    here, expected = np.atleast_1d(got)[at], np.atleast_1d(want)[at]
    gap = np.abs(np.asarray(got, np.float64) - np.asarray(want, np.float64))
    return f"at {at}: got {here!r}, expected {expected!r}; {len(wrong)} of {want.size} elements differ, by up to {gap.max():.3g}"


def assert_matches(got: Sequence[Array], want: Sequence[Array], dtypes: Sequence[DType], what: str = "", scale: float = 1.0) -> None:
    """All tensors equal: integers exactly, floats by TOLERANCE. Raises AssertionError with the first difference."""
    for number, (a, b, dtype) in enumerate(zip(got, want, dtypes, strict=True)):
        found = first_difference(a, b, dtype, scale)
        assert found is None, f"{what}: output {number} differs {found}"


@dataclass(frozen=True)
class GradientError:
    """Comparison of one gradient tensor: error relative to its largest entry, and how many entries were compared."""

    name: str
    relative: float
    compared: int
    sampled: int


def central_differences(f: Callable[[], float], x: Array, indices: Sequence[int], scale: float = 0.0) -> tuple[Array, Array]:
    """df/dx[i] for flat indices i, and which of them are trustworthy: f has no kink within the smallest step.

    `x` is float64, f reads it. `scale` is how large slopes are at least expected to be.
    """
    flat = x.reshape(-1)
    assert np.shares_memory(flat, x), "x must be contiguous: it is changed in place"
    middle = f()

    def around(i: int, h: float) -> tuple[float, float]:
        """First difference D(h), and the second S(h) = (f(x + h) − 2f(x) + f(x − h))/h."""
        old = flat[i]
        flat[i] = old + h
        up = f()
        flat[i] = old - h
        down = f()
        flat[i] = old
        return (up - down) / (2 * h), ((up - middle) - (middle - down)) / h

    slopes = np.zeros(len(indices))
    smooth = np.zeros(len(indices), bool)
    for h in STEPS:
        open_ = [at for at in range(len(indices)) if not smooth[at]]
        if not open_:
            break
        wide, wide_bend = np.array([around(indices[at], h) for at in open_]).T
        narrow, narrow_bend = np.array([around(indices[at], h / 2) for at in open_]).T
        slopes[open_] = (4 * narrow - wide) / 3
        # For a smooth f, D(h) − D(h/2) is of order h² and S(h) − 2·S(h/2) of order h³. A kink at distance δ·h < h/2 that changes the
        # slope by J gives J·δ/2 and J·(3·δ − 1): never both small.
        allowed = AGREEMENT * max(scale, SMALLEST_SCALE, float(np.abs(narrow).max()))
        smooth[open_] = (np.abs(wide - narrow) <= allowed) & (np.abs(wide_bend - 2 * narrow_bend) <= allowed)
    return slopes, smooth


def _compare(name: str, analytic: Array, f: Callable[[], float], x: Array, samples: int | None, rng: np.random.Generator) -> GradientError:
    count = x.size if samples is None else min(samples, x.size)
    indices = [int(i) for i in rng.choice(x.size, count, replace=False)]
    found = analytic.reshape(-1)[indices]
    largest = float(np.abs(found).max(initial=0.0))
    numeric, smooth = central_differences(f, x, indices, largest)
    scale = max(SMALLEST_SCALE, largest, float(np.abs(numeric).max(initial=0.0)))
    gap = np.abs(found - numeric)[smooth]
    return GradientError(name, float(gap.max(initial=0.0)) / scale, int(smooth.sum()), count)


def random_inputs(example: Example, rng: np.random.Generator) -> list[Array]:
    """Float64 inputs of an example in ±[0.1, 1.1], away from the kink at 0, or as it says; integers within its bounds."""
    arrays: list[Array] = []
    scale, shift = example.reals
    for i, kind in enumerate(example.inputs):
        if kind.dtype.is_float:
            arrays.append(np.array(rng.uniform(0.1, 1.1, kind.shape) * rng.choice([-1.0, 1.0], kind.shape) * scale + shift))
        else:
            arrays.append(np.array(rng.integers(*example.bounds(i), kind.shape), kind.dtype.np))
    return arrays


def _is_real(kind: TensorType) -> bool:
    """Whether the elements are, or stand for, real numbers. Gradients are with respect to the stored ones."""
    return kind.dtype.is_float or kind.quant is not None


def _active(op: Op, xs: Sequence[Value]) -> set[int]:
    """Inputs that have a gradient: no counts, no target of a loss, and of an op with parameters its input and those alone."""
    floats = {i for i, v in enumerate(xs) if _is_real(v.type)}
    if isinstance(op, Loss):
        return floats & {0}
    return floats & {0, *op.parameters} if op.parameters else floats


def check_op(example: Example, seed: int = 0, samples: int | None = 24) -> list[GradientError]:
    """The vjp of an op against central differences of its reference, in float64, for random inputs and cotangents.

    A loss starts the walk: its cotangent is 1.
    """
    rng = np.random.default_rng(seed)
    op = example.op
    g = Builder("check")
    xs = tuple(g.input(f"x{i}", t.shape, t.dtype, t.quant) for i, t in enumerate(example.inputs))
    ys = g.emit_all(op, *xs)
    dys: list[Value | None] = [None] * len(ys)
    if not isinstance(op, Loss):
        dys = [g.input(f"dy{o}", y.shape) if _is_real(y.type) and o not in op.byproducts else None for o, y in enumerate(ys)]
    dxs = op.vjp(g, xs, ys, dys, tuple(Want() if i in _active(op, xs) else None for i in range(len(xs))))
    arrays = [a.astype(np.float64) if _is_real(t) else a for a, t in zip(random_inputs(example, rng), example.inputs, strict=True)]
    cotangents = [rng.normal(size=v.shape) for v in dys if v is not None]
    graph = g.graph([v for v in dxs if v is not None])
    analytic = iter(run(graph, [*arrays, *cotangents], dtype=np.float64).outputs)

    def f() -> float:
        outputs = op.smooth(*arrays)
        if isinstance(op, Loss):
            return float(outputs[0][0])
        floats = [o for o, v in zip(outputs, dys, strict=True) if v is not None]
        # an element that is infinite whatever the inputs are, as padding for a maximum, has no derivative
        return float(sum(np.vdot(c, np.where(np.isinf(o), 0, o)) for c, o in zip(cotangents, floats, strict=True)))

    return [
        _compare(f"input {i}", next(analytic), f, arrays[i], samples, rng)
        for i, dx in enumerate(dxs) if dx is not None
    ]


def model_gradients(
    graph: Graph, loss: Value, wanted: Sequence[Value], inputs: Sequence[Array], state: Mapping[Value, Array] | None = None,
    dtype: DTypeLike = np.float64,
) -> dict[Value, Array]:
    """d loss / d v in `dtype` for stored values of a forward graph that ends in a loss, by autodiff and the reference."""
    g = Builder(graph.name, graph.values(), graph.nodes)
    g.inputs = list(graph.inputs)
    found = gradients(g, graph.nodes, loss, {v: Want() for v in wanted})
    outputs = run(g.graph(list(found.values())), inputs, state, dtype).outputs
    return dict(zip(found, outputs, strict=True))


def check_graph(
    graph: Graph, loss: Value, wanted: Sequence[Value], inputs: Sequence[Array], seed: int = 0, samples: int | None = 6
) -> list[GradientError]:
    """Gradients of a whole model against central differences of its loss, `samples` entries of each tensor."""
    rng = np.random.default_rng(seed)
    state = {v: np.array(v.data, np.float64) for v in wanted}
    analytic = {v: np.zeros(v.shape) for v in wanted} | model_gradients(graph, loss, wanted, inputs, state)
    at = graph.outputs.index(loss)

    def f() -> float:
        return float(run(graph, inputs, state, np.float64).outputs[at].reshape(-1)[0])

    return [_compare(v.name, analytic[v], f, state[v], samples, rng) for v in wanted]
