# SPDX-License-Identifier: Apache-2.0
"""A bias near the end of int32, as channels of tiny scale have it: an update moves it by its step, and not to the bound of others."""

from __future__ import annotations

import numpy as np
import pytest

from tinytrain.ir.types import S32
from tinytrain.ops.integer_gradient import SgdInteger
from tinytrain.ops.optimiser_int import SgdInt

OLD = np.array([-(2**31) + 500_000, 2**31 - 5, 2**30, 5], np.int32)


@pytest.mark.parametrize(("g", "moved"), [(1, [0, -3, -3, -3]), (-1, [3, 0, 0, 3]), (0, [0, 0, 0, 0])], ids=["up", "down", "none"])
def test_a_bias_beyond_the_bound_is_not_pulled_back(g: int, moved: list[int]) -> None:
    (new,) = SgdInt("nearest", 32).reference(np.full(4, g, np.float32), OLD, np.ones(1, np.float32), np.array([3.0], np.float32))
    np.testing.assert_array_equal(new.astype(np.int64) - OLD, moved)


@pytest.mark.parametrize(("g", "moved"), [(1, [0, -3, -3, -3]), (-1, [3, 0, 0, 3])], ids=["up", "down"])
def test_the_same_without_floats(g: int, moved: list[int]) -> None:
    m, s = np.array([3 << 20], np.int32), np.array([20], np.int32)
    (new,) = SgdInteger(S32, stochastic=False).reference(np.full(4, g, np.int8), OLD, m, s)
    np.testing.assert_array_equal(new.astype(np.int64) - OLD, moved)
