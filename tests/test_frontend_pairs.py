# SPDX-License-Identifier: Apache-2.0
"""Ops of any number of operands, and pools over three axes of several maps, against onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from frontend_models import f32, i64, load, model_of
from frontend_models import node as n
from frontend_oracle import agrees, save


@pytest.mark.parametrize("op", ["Sum", "Mean", "Max", "Min"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_operands(op: str, count: int, tmp_path: Path) -> None:
    operands = ["x", "a", "x", "b"][:count]
    path = save(tmp_path / "m.onnx", [n("Relu", "x", "r"), n(op, " ".join(operands), "s", "many"), n("Add", "s r")],
                {"a": f32(4), "b": f32(3, 1)}, (1, 3, 4))
    agrees(path, f32(1, 3, 4))


def test_names_are_those_of_the_node(tmp_path: Path) -> None:
    model = model_of([n("Mean", "x a x", "y", "mean")], {"a": f32(4)}, (1, 4))
    _, imported = load(tmp_path, model)
    assert [node.origin for node in imported.graph.nodes] == ["mean/1", "mean/2", "mean"]
    assert set(imported.params) == {"a"}, "a third is no weight"


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pools_over_three_axes_of_two_maps(op: str, tmp_path: Path) -> None:
    nodes = [n("Reshape", "x s", "r"), n(op, "r", "p", kernel_shape=[2, 3, 2], strides=[2, 1, 2]), n("Reshape", "p t")]
    path = save(tmp_path / "m.onnx", nodes, {"s": i64(2, 3, 4, 5, 3), "t": i64(1, -1)}, (1, 360))
    agrees(path, np.random.default_rng(0).standard_normal((1, 360)).astype(np.float32))
