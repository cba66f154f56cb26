# SPDX-License-Identifier: Apache-2.0
"""Numbers of fully integer training beside the reals that they stand for: rounding, exponents, rates, logarithms."""

from __future__ import annotations

import numpy as np
import pytest

from tinytrain.ops.fixed import float_bits, log2_q20, mantissas, multipliers, round7
from tinytrain.ops.integer_gradient import LIMITS, Rate, Renormalise, ScaledAdd


def test_rounding_to_seven_bits_is_nearly_unbiased() -> None:
    """Over all numbers of 20 bits the mean error is 1/64 of the last place at most (six bits are the dice), none reaches one."""
    v = np.arange(2**19, 2**20, dtype=np.int64)
    rounded = round7(v, 13).astype(np.int64)
    errors = rounded - v / 2**13
    inside = rounded < 127
    assert np.abs(errors[inside]).max() < 1 and abs(errors[inside].mean()) < 1 / 64
    np.testing.assert_array_equal(round7(-v, 13), -rounded)
    np.testing.assert_array_equal(round7(np.array([0, 1, -127]), 0), [0, 1, -127])


def test_renormalised_gradients_keep_their_value() -> None:
    rng = np.random.default_rng(2)
    for scale in (1, 300, 2**24):
        g = (rng.normal(size=(40, 6)) * scale).astype(np.int32)
        factors = rng.uniform(1e-6, 1e-3, 6)
        m, offset = mantissas(factors)
        y, e = Renormalise(True, offset).reference(g, np.array([-9], np.int32), m)
        real, kept = g * factors * 2.0**-9, y * 2.0 ** float(e[0])
        assert np.abs(y.astype(int)).max() >= 63 and np.abs(kept - real).max() <= 2.0 ** float(e[0]) * 1.01
    y, e = Renormalise().reference(np.zeros(3, np.int32), np.array([4], np.int32))
    assert not y.any() and e == 4


@pytest.mark.parametrize("exponents", [(0, 0), (3, -2), (-20, 5), (-90, 60)])
def test_sums_of_gradients_with_other_exponents(exponents: tuple[int, int]) -> None:
    a, b = np.array([127, -127, 3, 0], np.int8), np.array([-5, 100, 7, 127], np.int8)
    y, e = ScaledAdd().reference(a, np.array([exponents[0]], np.int32), b, np.array([exponents[1]], np.int32))
    real = a * 2.0 ** exponents[0] + b * 2.0 ** exponents[1]
    np.testing.assert_allclose(y * 2.0 ** float(e[0]), real, atol=2.0 ** (max(exponents) - 15))


@pytest.mark.parametrize("rate", [0.0, 1e-30, 1e-5, 0.01, 0.5, 3.0])
def test_rate_is_the_product(rate: float) -> None:
    factors = np.array([0.0, 1e-4, 0.7, 1.0, 123456.0])
    m, s = multipliers(factors)
    made, shift = Rate().reference(np.array([rate], np.float32), np.array([-11], np.int32), m, s)
    expected = np.float32(rate) * factors * 2.0**-11
    found = made * 2.0 ** -shift.astype(np.float64)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=2.0**-32)
    assert ((shift >= 1) & (shift <= 62)).all()


def test_logarithm_and_float_bits() -> None:
    for v in (1, 2, 3, 1000, 2**24 + 1, 2**32 - 1):
        assert abs(log2_q20(v) / 2**20 - np.log2(v)) < 2e-6
    for v, exponent in ((1, 0), (3, -7), (2**24 - 1, 5), (2**40, -60)):
        assert np.array([float_bits(v, exponent)], np.uint32).view(np.float32)[0] == v * 2.0**exponent
    assert float_bits(0, 5) == 0


def test_biases_leave_room_for_their_sum() -> None:
    assert max(abs(bound) for low_high in LIMITS.values() for bound in low_high) == 2**30
