# SPDX-License-Identifier: Apache-2.0
"""No int32 sum can overflow whatever training makes of weights and biases; a layer where one could is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tinytrain.errors import ModelError
from tinytrain.gradient.overflow import check_sums
from tinytrain.gradient.train_step import build_program
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph
from tinytrain.ir.types import S8, S32, Quant, Role, Source, TensorType, Value
from tinytrain.ops.dense import Dense
from tinytrain.ops.elementwise import Add
from tinytrain.ops.quantize import Quantise, dequantised
from tinytrain.ops.sums import INT32_MAX
from tinytrain.schemes.scheme import Scheme, Select


def network(inputs: int, zero_point: int = -128, size: int = 20) -> Graph:
    """One int8 layer of three outputs, whose weights are at most `size` now."""
    g = Builder("wide")
    rng = np.random.default_rng(0)

    def stored(name: str, data: np.ndarray, scale: float) -> Value:
        kind = TensorType(data.shape, S8 if data.dtype == np.int8 else S32, Quant((scale,) * 3, 0, 0))
        return Value(name, kind, Role.CONST, data, Source(name, data.shape, data.shape, tuple(range(data.ndim))))

    x = g.emit(Quantise(2**-7, zero_point), g.input("x", (inputs,)))
    w = stored("w", rng.integers(-size, size + 1, (3, inputs)).astype(np.int8), 2**-7)
    b = stored("b", np.array([-300, 0, 300], np.int32), 2**-14)
    g.origin = "fc"
    y = g.emit(Add(), g.emit(Dense(zero_point=zero_point), x, w), b)
    return g.graph([dequantised(g, y)])


def build(graph: Graph, **kinds: Select) -> None:
    build_program(graph, "ce", Scheme({"fc": kinds}), Optimiser())


REFUSED = {
    # 127 · 255 a weight, and 2^30 of the bias
    "weight and bias": (network(40_000), {"weight": Select(), "bias": Select()}, 40_000 * 127 * 255 + 2**30),
    "weight": (network(70_000), {"weight": Select()}, 70_000 * 127 * 255 + 300),
}
TAKEN = {
    "fewer inputs": (network(33_000), {"weight": Select(), "bias": Select()}),
    "weight alone": (network(40_000), {"weight": Select()}),
    "bias alone": (network(40_000), {"bias": Select()}),
    "zero point in the middle": (network(60_000, 0), {"weight": Select(), "bias": Select()}),
    # a tenth may grow, nine tenths stay as they are
    "part of the weight": (network(70_000), {"weight": Select(0.1)}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    graph, kinds, largest = REFUSED[case]
    check_sums(graph)
    with pytest.raises(ModelError) as refused:
        build(graph, **kinds)
    assert refused.value.sentences == (
        f"fc (dense) in wide: training could take its sums to {largest:,}, more than the {INT32_MAX:,} of int32.",
    )
    assert "scheme" in str(refused.value.hint)


@pytest.mark.parametrize("case", TAKEN)
def test_taken(case: str) -> None:
    graph, kinds = TAKEN[case]
    build(graph, **kinds)


def test_a_bias_that_is_beyond_its_bound_already_counts_as_it_is() -> None:
    """Updates leave it there, see `SgdInt`."""
    graph = network(100)
    (b,) = (v for v in graph.stored(Role.CONST) if v.name == "b")
    check_sums(graph.substitute({b: replace(b, role=Role.PARAM, data=np.array([0, INT32_MAX - 100 * 127 * 255, 0], np.int32))}))
    with pytest.raises(ModelError, match="its sums to"):
        check_sums(graph.substitute({b: replace(b, role=Role.PARAM, data=np.array([0, 0, -INT32_MAX], np.int32))}))
