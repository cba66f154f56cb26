# SPDX-License-Identifier: Apache-2.0
"""Bias correction: rounding weights and inputs shifts the mean of each output channel; the bias takes that shift back.

b'[k] = b[k] + mean over samples and positions of (float32 sum − int8 sum)[k]        (Nagel et al., arXiv 1906.04721)

The int8 sum is made from the int8 outputs of the layers before, so that layers are corrected one after the other.
"""

from __future__ import annotations

import numpy as np

from tinytrain.ir.types import Array


def shift(exact: Array, rounded: Array) -> Array:
    """(C,): what has to be added to the bias, for the sums of all samples (n, …, C)."""
    axes = tuple(range(exact.ndim - 1))
    moved: Array = exact.mean(axis=axes, dtype=np.float64) - rounded.mean(axis=axes, dtype=np.float64)
    return moved.astype(np.float32)


def to_int32(bias: Array, scales: Array) -> Array:
    """Stored biases, for scales s_x·s_w[k]."""
    return np.clip(np.rint(bias.astype(np.float64) / scales.astype(np.float64)), -(2**31), 2**31 - 1).astype(np.int32)
