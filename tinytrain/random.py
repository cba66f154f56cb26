# SPDX-License-Identifier: Apache-2.0
"""Counter-based random numbers: value = f(seed, counter), the same bits as `runtime_c/tt_random.h`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def _mix(h: NDArray[np.uint32]) -> NDArray[np.uint32]:
    h = h ^ (h >> np.uint32(16))
    h = h * np.uint32(0x85EBCA6B)
    h = h ^ (h >> np.uint32(13))
    h = h * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))


def random_u32(seed: int, counter: ArrayLike) -> NDArray[np.uint32]:
    """Uniform 32-bit values, one for each counter (any shape; counted modulo 2^32)."""
    counters = np.atleast_1d(np.asarray(counter)).astype(np.uint32)
    start = np.uint32(seed & 0xFFFFFFFF)
    second = np.uint32(((seed & 0xFFFFFFFF) * 0x85EBCA77 + 0x165667B1) & 0xFFFFFFFF)
    return _mix(_mix(counters * np.uint32(0x9E3779B1) + start) ^ second).reshape(np.shape(counter))


def random_unit(seed: int, counter: ArrayLike) -> NDArray[np.float32]:
    """Uniform over [0, 1) in steps of 2^-24."""
    values = random_u32(seed, counter) >> np.uint32(8)
    return np.asarray(values, np.float32) * np.float32(2.0**-24)
