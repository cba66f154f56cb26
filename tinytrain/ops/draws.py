# SPDX-License-Identifier: Apache-2.0
"""Random words of rules that draw: element i of n has the word f(seed, t·n + i) in step t, which an operand s32[1] counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinytrain.ir.types import Array, TensorType
from tinytrain.ir.words import Words
from tinytrain.random import random_u32


def drawn(seed: int, step: Array, shape: tuple[int, ...]) -> NDArray[np.uint32]:
    """One word for each element of that shape."""
    size = int(np.prod(shape))
    at = (int(step[0]) * size + np.arange(size, dtype=np.int64)) & 0xFFFFFFFF
    return random_u32(seed, at).reshape(shape)


def word_text(w: Words, seed: int, step: str, i: str, whole: TensorType) -> tuple[str, str]:
    """The same in C, as `Elementwise.derived` gives it: that of flat index `i`; `step` points to the operand."""
    return "uint32_t", w.random(seed & 0xFFFFFFFF, f"(uint32_t){step}[0] * UINT32_C({whole.numel}) + (uint32_t)({i})")
