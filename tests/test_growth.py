# SPDX-License-Identifier: Apache-2.0
"""What ops say of how large their outputs can be holds, whatever they are given."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinytrain.ir.growth import growth_of
from tinytrain.ir.op import Example, registry
from tinytrain.ir.types import F32, Array

CASES = {
    f"{name}-{i}": example for name, op in registry().items() for i, example in enumerate(op.examples)
    if all(kind.dtype is F32 for kind in example.inputs) and growth_of(example.op, example.inputs)
}


def squares(a: Array) -> float:
    return float((a.astype(np.float64) ** 2).sum())


def worst(example: Example, rng: np.random.Generator) -> list[list[Array]]:
    """Operands of one sign that add up, of few elements, of many sizes, and as they come."""
    shapes = [kind.shape for kind in example.inputs]
    spread = [np.ldexp(rng.normal(size=s), rng.integers(-20, 20, s)) for s in shapes]
    few = [rng.normal(size=s) * (rng.random(s) < 0.2) for s in shapes]
    return [
        [np.asarray(a, np.float32).reshape(s) for a, s in zip(arrays, shapes, strict=True)]
        for arrays in (
            [np.full(s, 3.0) for s in shapes], [np.full(s, -2.0) for s in shapes], [np.full(s, 1e-3) for s in shapes], spread, few,
            [rng.normal(size=s) * 10 for s in shapes],
        )
    ]


@pytest.mark.parametrize("case", CASES)
def test_no_output_is_larger_than_its_op_says(case: str) -> None:
    example = CASES[case]
    growth = growth_of(example.op, example.inputs)
    assert growth is not None
    for arrays in worst(example, np.random.default_rng(len(case))):
        most = max(math.prod(max(1.0, squares(arrays[i])) for i in term) for term in growth.terms)
        assert squares(example.op.reference(*arrays)[0]) <= most * 2.0**growth.log2 * (1 + 1e-5)
