# SPDX-License-Identifier: Apache-2.0
"""Ops that ONNX defines by others: what they become, under whose name, and masks of −∞."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend_models import check, f32, i64, infer, load, model_of, node
from onnx.reference import ReferenceEvaluator
from oracle_session import session_of

from tinytrain.errors import ModelError
from tinytrain.frontend.functions import inline_functions


def test_a_function_becomes_its_body(tmp_path: Path) -> None:
    model = model_of([node("SwiGLU", "x x", "y", "act")], {}, (1, 2, 5), opset=28)
    _, imported = load(tmp_path, model)
    assert {n.origin.partition("/")[0] for n in imported.graph.nodes} == {"act"}
    assert not imported.params, "what a body computes with is no weight"
    x = f32(1, 2, 5)
    (want,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(infer(imported, x), want, rtol=1e-5, atol=1e-6)


def test_two_of_a_kind_keep_their_names_apart(tmp_path: Path) -> None:
    model = model_of([node("SwiGLU", "x x", "h", "one"), node("SwiGLU", "h h", "y", "two")], {}, (1, 7), opset=28)
    _, imported = load(tmp_path, model)
    origins = [n.origin for n in imported.graph.nodes]
    assert len(set(origins)) == len(origins) > 2 and {origin.partition("/")[0] for origin in origins} == {"one", "two"}


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


def scan(turned: int) -> onnx.ModelProto:
    """s' = s·x_t + y_t, of which each is given out, over the five steps of x (1, 2, 5) and those of a stored y (5, 2)."""
    body = onnx.helper.make_graph(
        [node("Mul", "s xt", "p"), node("Add", "p yt", "next"), node("Mul", "next two", "out")], "body",
        [onnx.helper.make_tensor_value_info(n, 1, (2,)) for n in ("s", "xt", "yt")],
        [onnx.helper.make_tensor_value_info(n, 1, (2,)) for n in ("next", "out")],
        [onnx.numpy_helper.from_array(np.array(2, np.float32), "two")],
    )
    nodes = [
        node("Squeeze", "x first", "m"),
        node("Scan", "s0 m ys", "end outs", "loop", body=body, num_scan_inputs=2, scan_input_axes=[1, 0],
             scan_input_directions=[turned, 0], scan_output_axes=[turned], scan_output_directions=[turned]),
        node("Unsqueeze", "end at", "e"), node("Concat", "outs e", "y", axis=turned),
    ]
    return model_of(nodes, {"first": i64(0), "s0": f32(2), "ys": f32(5, 2), "at": i64(turned)}, (1, 2, 5), opset=18)


@pytest.mark.parametrize("turned", [0, 1])
def test_a_scan_becomes_its_steps(turned: int) -> None:
    model = scan(turned)
    made = inline_functions(model)
    assert made is not None
    assert "Scan" not in {n.op_type for n in made.graph.node}
    assert {n.name.partition("/")[0] for n in made.graph.node if n.name} == {"loop"}
    x = f32(1, 2, 5)
    pytest.importorskip("onnxruntime")                    # onnx's own evaluator knows no axis but the first
    (want,), (got,) = session_of(model).run(None, {"x": x}), ReferenceEvaluator(made).run(None, {"x": x})
    np.testing.assert_allclose(got, want, rtol=1e-6)


def counted_loop(limit: int | None, last: int) -> onnx.ModelProto:
    """h' = tanh(x_t·w + h + Σ b) while a counter of its own stays below `last`, as TensorFlow writes a recurrent layer."""
    kinds = (("i", 7, ()), ("c", 9, ()), ("t", 7, ()), ("h", 1, (1, 2)), ("w", 1, (3, 2)))
    body = onnx.helper.make_graph(
        [
            node("Gather", "m t", "xt"), node("MatMul", "xt w", "p"), node("ReduceSum", "b axis", "bias", keepdims=0),
            node("Add", "p bias", "q"), node("Add", "q h", "s"), node("Tanh", "s", "next"), node("Identity", "next", "out"),
            node("Add", "t one", "t1"), node("Less", "t1 end", "going"),
        ], "body",
        [onnx.helper.make_tensor_value_info(n, kind, shape) for n, kind, shape in kinds],
        [onnx.helper.make_tensor_value_info(n, kind, None) for n, kind in (("going", 9), ("t1", 7), ("next", 1), ("w", 1), ("out", 1))],
        [onnx.numpy_helper.from_array(a, name) for a, name in ((np.array(1), "one"), (np.array(last), "end"), (i64(0), "axis"))],
    )
    nodes = [
        node("Transpose", "x", "m", perm=[1, 0, 2]), helper_loop(["limit" if limit is not None else "", "yes", "zero", "h0", "w0"], body),
        node("Transpose", "hs", "y", perm=[1, 0, 2]),
    ]
    arrays = {"yes": np.array(True), "zero": np.array(0), "h0": f32(1, 2), "w0": f32(3, 2), "b": f32(2, 2)}
    return model_of(nodes, arrays | ({"limit": np.array(limit)} if limit is not None else {}), (1, 5, 3), opset=17)


def helper_loop(inputs: list[str], body: onnx.GraphProto) -> onnx.NodeProto:
    return onnx.helper.make_node("Loop", inputs, ["end_t", "end_h", "end_w", "hs"], "loop", body=body)


@pytest.mark.parametrize(("limit", "last", "steps"), [(5, 9, 5), (None, 4, 4), (9, 3, 3)])
def test_a_counted_loop_becomes_its_steps(limit: int | None, last: int, steps: int, tmp_path: Path) -> None:
    """What it makes of a weight in each step alike is made once: that stays one weight."""
    model = counted_loop(limit, last)
    _, read = load(tmp_path, model)
    x = f32(1, 5, 3)
    pytest.importorskip("onnxruntime")                    # onnx's own evaluator does not stack what steps give out
    (want,) = session_of(model).run(None, {"x": x})
    assert want.shape == (1, steps, 2)
    np.testing.assert_allclose(infer(read, x), want, rtol=1e-5, atol=1e-6)
    assert "w0" in read.params
    assert len({v for n in read.graph.nodes for v in n.inputs if "bias" in v.name}) == 1
