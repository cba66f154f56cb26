# SPDX-License-Identifier: Apache-2.0
"""Ops that ONNX defines by others: what they become, under whose name, and masks of −∞."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend_models import check, f32, i64, infer, load, model_of, node, op_names
from onnx.reference import ReferenceEvaluator

from tinytrain.errors import ModelError
from tinytrain.frontend.functions import inline_functions


def test_a_function_becomes_its_body(tmp_path: Path) -> None:
    model = model_of([node("Swish", "x", "y", "act", alpha=1.5)], {}, (1, 2, 5), opset=24)
    _, imported = load(tmp_path, model)
    assert op_names(imported) == ["mul", "sigmoid", "mul"]
    assert {n.origin.partition("/")[0] for n in imported.graph.nodes} == {"act"}
    assert not imported.params, "what a body computes with is no weight"
    x = f32(1, 2, 5)
    (want,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(infer(imported, x), want, rtol=1e-5, atol=1e-6)


def test_two_of_a_kind_keep_their_names_apart(tmp_path: Path) -> None:
    model = model_of([node("Swish", "x", "h", "one"), node("Swish", "h", "y", "two")], {}, (1, 7), opset=24)
    _, imported = load(tmp_path, model)
    assert [n.origin for n in imported.graph.nodes] == [f"{name}/{op}" for name in ("one", "two") for op in ("Mul", "Sigmoid", "Mul_2")]


def test_what_a_body_cannot_do_without_is_refused_by_the_name_of_the_node(tmp_path: Path) -> None:
    nodes = [node("SequenceMap", "x", "y", "each", body=onnx.helper.make_graph([], "b", [], []))]
    with pytest.raises(ModelError):
        load(tmp_path, model_of(nodes, {}, (1, 4), opset=20))
    assert inline_functions(model_of([node("Relu")], {}, (1, 4))) is None


MASK = np.triu(np.full((4, 4), -np.inf, np.float32), 1)


def test_a_mask_of_minus_infinity(tmp_path: Path) -> None:
    check(tmp_path, [node("Add", "x m", "s"), node("Softmax", "s")], {"m": MASK}, (1, 3, 4, 4))


@pytest.mark.parametrize("case", ["read elsewhere", "a whole row"])
def test_masks_that_stay_infinite_are_refused(case: str, tmp_path: Path) -> None:
    mask = MASK if case == "read elsewhere" else np.where(np.arange(4)[:, None] == 2, -np.inf, MASK).astype(np.float32)
    behind = node("Reshape", "s k") if case == "read elsewhere" else node("Softmax", "s")
    with pytest.raises(ModelError, match=r"initializer m holds .* NaN or infinite"):
        load(tmp_path, model_of([node("Add", "x m", "s"), behind], {"m": mask, "k": i64(1, -1)}, (1, 3, 4, 4)))
