# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of post-training quantisation by itself: ranges, scales, learned rounding."""

from __future__ import annotations

import numpy as np
import pytest

from tinytrain.quantise.adaround import Moments, learn
from tinytrain.quantise.ranges import Observed, Scale, activation_scale, raised_for_bias, weight_scales


def test_learned_rounding_is_near_the_best() -> None:
    """Twelve weights a row can be rounded in 4,096 ways: all are tried. Inputs are correlated, as those of real layers are."""
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(0, 1, (1, 500, 3)) @ rng.normal(0, 1, (1, 3, 12)) + rng.normal(0, 0.2, (1, 500, 12)), 0)
    rows, scales = rng.normal(0, 1, (1, 6, 12)), np.full((1, 6), 0.05, np.float32)
    moments = Moments.empty(1, 12, 6)
    moments.add(x, x @ rows.transpose(0, 2, 1))

    def errors(stored: np.ndarray) -> np.ndarray:
        return np.var(x[0] @ (stored * 0.05 - rows[0]).T, axis=0)

    ways = (np.arange(4096)[:, None] >> np.arange(12)) & 1
    best = np.min([errors(np.floor(rows[0] / 0.05) + way) for way in ways], axis=0)
    nearest, learned = errors(np.rint(rows[0] / 0.05)), errors(learn(rows, scales, moments)[0])
    assert (learned <= nearest + 1e-9).all()
    assert learned.sum() < 0.5 * nearest.sum()
    assert learned.sum() < 2 * best.sum()


def test_outliers_are_cut_off() -> None:
    """One element of a million is 50 times as large as the rest: percentile and MSE do not spend the range on it."""
    x = np.append(np.random.default_rng(0).normal(0, 1, 200_000), 250.0).astype(np.float32)
    seen = Observed()
    seen.see_ends(x)
    seen.see_counts(x)
    errors = {m: float(np.mean((activation_scale(seen, m, 99.99).rounded(x) - x)[:-1] ** 2)) for m in ("minmax", "percentile", "mse")}  # type: ignore[arg-type]
    assert errors["percentile"] < errors["minmax"] / 50
    total = {m: float(np.mean((activation_scale(seen, m, 99.99).rounded(x) - x) ** 2)) for m in ("minmax", "mse")}  # type: ignore[arg-type]
    assert total["mse"] <= total["minmax"]


def test_mse_is_near_the_best_range() -> None:
    """Compared with trying every range on the numbers themselves."""
    x = np.random.default_rng(1).laplace(0, 1, 100_000).astype(np.float32)
    seen = Observed()
    seen.see_ends(x)
    seen.see_counts(x)

    def error(scale: Scale) -> float:
        return float(np.square(scale.rounded(x) - x).sum())

    best = min(
        error(Scale(np.float32((h - low) / 255), round(-128 - low / ((h - low) / 255))))
        for h in np.linspace(0.3, 1, 30) * seen.high for low in np.linspace(0.3, 1, 30) * seen.low
    )
    assert error(activation_scale(seen, "mse", 100)) < 1.03 * best


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.0, 6.0), (2.0, 5.0), (-7.0, -3.0), (-1e-3, 1e3)])
def test_zero_is_exact(low: float, high: float) -> None:
    scale = activation_scale(Observed(low, high), "minmax", 100)
    assert scale.rounded(np.zeros(1, np.float32)) == 0
    ends = np.array([low, high], np.float32)
    assert np.abs(scale.rounded(ends) - ends).max() <= scale.scale * 1.001


def test_weight_scales() -> None:
    rows = np.array([[1.0, -2.54], [0, 0], [0.127, 0]], np.float32)
    np.testing.assert_allclose(weight_scales(rows, "minmax", False), [0.02, (0.02 + 0.001) / 2, 0.001], rtol=1e-5)
    np.testing.assert_allclose(weight_scales(rows, "minmax", True), [0.02] * 3, rtol=1e-5)
    np.testing.assert_array_equal(weight_scales(np.zeros((2, 3), np.float32), "minmax", False), [1, 1])
    scales, raised = raised_for_bias(np.full(2, 1e-12, np.float32), np.array([0.0, 100.0]), 0.1)
    assert raised.tolist() == [False, True]
    assert 100 / (0.1 * float(scales[1])) <= 2**30
