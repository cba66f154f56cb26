# SPDX-License-Identifier: Apache-2.0
"""Updates of integer weights: they add up, drag nothing to zero, saturate, repeat bit for bit, and follow plain SGD of the reals."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest

from tinytrain.ir.types import S8, S32, Array, Quant, TensorType
from tinytrain.ops.optimiser_int import Rounding, SgdInt


class Weights:
    """Integer weights under SgdInt, step after step."""

    def __init__(self, w: Array, rounding: Rounding, **attributes: Any) -> None:
        self.op = SgdInt(rounding, w.dtype.itemsize * 8, 11, **attributes)
        self.state = {"w": w, "r": np.zeros(w.shape, np.int8), "counter": np.zeros(1, np.int32)}
        self.state |= {name: np.zeros(w.shape, np.float32) for name in ("v", "m")}

    def step(self, g: Array, lr: float = 1.0, factor: float = 1.0) -> Array:
        given = self.state | {"g": g.astype(np.float32), "lr": np.array([lr], np.float32), "factor": np.array([factor], np.float32)}
        made = dict(zip(self.op.results, self.op.reference(*(given[name] for name in self.op.args)), strict=True))
        self.state |= {name.removesuffix("_new"): array for name, array in made.items()}
        self.state["counter"] = self.state["counter"] + np.int32(1)
        return self.state["w"]


@pytest.mark.parametrize("rounding", get_args(Rounding))
def test_updates_of_half_a_unit_do_not_drag_weights_to_zero(rounding: Rounding) -> None:
    """50 zero-mean updates of half an LSB leave mean |w| within 1 %; a cast to int8 loses half a unit in each."""
    rng = np.random.default_rng(5)
    weights = Weights(rng.integers(-127, 128, 20000).astype(np.int8), rounding)
    before = np.abs(weights.state["w"].astype(np.int32)).mean()
    for _ in range(50):
        weights.step(rng.choice([-0.5, 0.5], 20000))
    ratio = np.abs(weights.state["w"].astype(np.int32)).mean() / before
    if rounding == "truncate":
        assert ratio < 0.7
    else:
        assert abs(ratio - 1) < 0.01


@pytest.mark.parametrize(("rounding", "moves"), [("stochastic", 10.0), ("residual", 10.0), ("nearest", 0.0)])
def test_small_updates_add_up(rounding: Rounding, moves: float) -> None:
    """1000 steps of a hundredth: ten units, but for rounding to nearest, which loses each of them."""
    weights = Weights(np.zeros(4000, np.int8), rounding)
    for _ in range(1000):
        w = weights.step(np.full(4000, -0.01))
    exact = w + weights.state["r"] / 256
    assert abs(exact.mean() - moves) < 0.15


@pytest.mark.parametrize("rounding", get_args(Rounding))
@pytest.mark.parametrize(("dtype", "bound"), [(np.int8, 127), (np.int32, 2**30)])
def test_updates_saturate_and_never_wrap(rounding: Rounding, dtype: Any, bound: int) -> None:
    for start in (-bound, -1, 0, bound):
        for g in (1.0, 100.0, 1e6, 1e12, 3e38, math.inf):
            weights = Weights(np.full(3, start, dtype), rounding)
            for _ in range(3):
                w = weights.step(np.array([g, -g, math.nan]))
            most = 3 * g + 3 + (bound * 2.0**-22 if rounding == "truncate" else 0)   # it computes in fp32
            assert start - most <= int(w[0]) <= start <= int(w[1]) <= start + most
            assert np.abs(w.astype(np.int64)).max() <= bound
            assert w[2] == start, "no number is no step"
            if g >= 1e12 and not (rounding == "residual" and bound > 127):       # there no step is larger than 2^23
                assert w[:2].tolist() == [-bound, bound]


def test_residual_keeps_what_the_weight_cannot() -> None:
    """w + r/256 follows the real weight to within the last of the further bits, in each of many steps."""
    rng = np.random.default_rng(8)
    weights = Weights(np.zeros(500, np.int8), "residual")
    real = np.zeros(500)
    for _ in range(20):
        g = rng.integers(-300, 300, 500) / 256
        real -= g
        w = weights.step(g)
        assert np.array_equal(w + weights.state["r"] / 256, real)


def test_an_update_repeats_with_its_seed_and_counter() -> None:
    g = np.random.default_rng(0).normal(size=200)
    a, b = Weights(np.zeros(200, np.int8), "stochastic"), Weights(np.zeros(200, np.int8), "stochastic")
    first = a.step(g)
    assert np.array_equal(first, b.step(g))
    assert not np.array_equal(a.step(g) - first, first), "the next step has other random numbers"


def test_scaling_is_gradient_descent_of_the_real_weights() -> None:
    """With f = 1/s² a step moves s·w as far as plain SGD moves the real weight."""
    scale, lr = 0.02, 0.01
    gradient = np.array([-3.0, 0.5, 40.0])                # with respect to real weights
    weights = Weights(np.array([10, -20, 30], np.int8), "residual", momentum=0.9)
    real = np.array([10.0, -20.0, 30.0]) * scale
    velocity = np.zeros(3)
    for _ in range(5):
        w = weights.step(gradient * scale, lr, scale**-2)
        velocity = 0.9 * velocity + gradient
        real -= lr * velocity
    assert np.allclose(np.clip(real / scale, -127, 127), w + weights.state["r"] / 256, atol=5 / 256)


def test_weights_that_sgd_int_cannot_move_are_refused() -> None:
    g, one = TensorType((3,)), TensorType((1,))
    for op, w, why in (
        (SgdInt("nearest"), TensorType((3,), S32), "8 bits"),
        (SgdInt("nearest"), TensorType((3,), S8, Quant((1.0,), 3)), "zero point 0"),
        (SgdInt("nearest", 16), TensorType((3,), S8), "expected one of"),
        (SgdInt("upward"), TensorType((3,), S8), "upward rounding"),     # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match=why):
            op.infer(g, w, one, one)
