# SPDX-License-Identifier: Apache-2.0
"""int8 layers: which types go together, the scales of accumulators, and the bound that makes overflow impossible."""

from __future__ import annotations

import numpy as np
import pytest

from tinytrain.ir.types import S32, Quant, TensorType
from tinytrain.ops.conv import Conv2d
from tinytrain.ops.dense import Dense, DenseGradW
from tinytrain.ops.sums import INT32_MAX, int8, max_accumulator
from tinytrain.ops.windowed import Pad


def test_accumulators_have_a_scale_per_channel() -> None:
    x, w = int8((5, 5, 2), 3), int8((4, 3, 3, 2), axis=0)
    (y,) = Conv2d(zero_point=3).infer(x, w)
    assert x.quant and w.quant
    assert y == TensorType((3, 3, 4), S32, Quant(tuple(x.quant.scale[0] * s for s in w.quant.scale), 0, 2))
    (same,) = Dense(zero_point=3).infer(int8((7,), 3), int8((4, 7)))
    assert same.quant == Quant((2.0**-12,) * 4, 0, 0)


@pytest.mark.parametrize(
    ("op", "types", "words"),
    [
        (Dense(), (int8((7,), 3), int8((4, 7))), "the op subtracts 0, the zero point of x is 3"),
        (Dense(zero_point=3), (TensorType((7,)), TensorType((4, 7))), "the op subtracts 3, the zero point of x is 0"),
        (DenseGradW(), (TensorType((4,)), int8((7,), -1)), "the op subtracts 0, the zero point of x is -1"),
        (Dense(), (TensorType((7,)), int8((4, 7))), "quantise x, or dequantise w"),
        (Dense(), (int8((7,)), TensorType((4, 7))), "S8 times F32"),
        (Dense(), (int8((7,)), int8((4, 7), 1)), "w zero point 1"),
        (Dense(), (int8((7,)), int8((4, 7), axis=1)), "w has 7 scales: expected one per output channel, of which there are 4"),
    ],
)
def test_types_that_do_not_fit(op: Dense | DenseGradW, types: tuple[TensorType, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        op.infer(*types)


@pytest.mark.parametrize("zero_point", [-128, 5, 127])
def test_bound_of_accumulators_is_reached(zero_point: int) -> None:
    """The x that takes each weight's sign as far as int8 goes reaches the bound in one of the two directions."""
    rng = np.random.default_rng(1)
    w = rng.integers(-128, 128, (3, 2, 2, 4)).astype(np.int8)
    bound = max_accumulator(w, zero_point, 0)
    reached = 0
    for channel in w:
        for sign in (1, -1):
            x = np.where(sign * channel > 0, 127, -128).astype(np.int8)
            sums = Conv2d(pad=Pad(), zero_point=zero_point).reference(x, w)[0]
            reached = max(reached, int(np.abs(sums).max()))
    assert 0.4 * bound < reached <= bound
    assert max_accumulator(w, zero_point, 0, np.array([7, 7, 7], np.int32)) == bound + 7


def test_sums_that_overflow_are_never_made_silently() -> None:
    x, w = np.full(70000, 127, np.int8), np.full((1, 70000), 127, np.int8)
    assert max_accumulator(w, -128, 0) > INT32_MAX
    with pytest.raises(AssertionError, match="overflows"):
        Dense(zero_point=-128).reference(x, w)
    assert Dense().reference(x, w)[0].dtype == S32.np
