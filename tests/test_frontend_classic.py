# SPDX-License-Identifier: Apache-2.0
"""Classifiers, regressors and scalers as exporters of scikit-learn write them: made by hand, so that nothing of it must be installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from ctypes_model import Library, assert_learns_as_reference
from onnx import TensorProto, helper, numpy_helper

from tinytrain.compiler import Compiled, Options, compile_model
from tinytrain.errors import ModelError

ML, FEATURES = "ai.onnx.ml", 4
RNG = np.random.default_rng(3)


def ml(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, op.lower(), domain=ML, **attributes)


def compiled(
    folder: Path, nodes: list[onnx.NodeProto], outputs: Sequence[onnx.ValueInfoProto], loss: str = "ce", **arrays: Any
) -> Compiled:
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", FEATURES])], outputs,
        [numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "m.onnx")
    return compile_model(folder / "m.onnx", Options(loss=loss, exact_seconds=0.0))


def floats(name: str, size: int | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size])


def label(name: str, kind: int = TensorProto.INT64) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["N"])


def by_name(name: str) -> onnx.ValueInfoProto:
    kind = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    return helper.make_value_info(name, helper.make_sequence_type_proto(kind))


def softmax(z: np.ndarray) -> np.ndarray:
    return np.exp(z) / np.exp(z).sum()


@pytest.mark.parametrize("zipped", [False, True])
def test_perceptron_gives_probabilities(zipped: bool, tmp_path: Path) -> None:
    """MLPClassifier behind a StandardScaler, with its label, and with probabilities by name."""
    w, b = RNG.normal(size=(FEATURES, 3)).astype(np.float32), RNG.normal(size=(1, 3)).astype(np.float32)
    offset, scale = [1.0, 2.0, 3.0, 4.0], [0.5, 1.0, 2.0, 4.0]
    nodes = [
        ml("Scaler", ["X"], ["s"], offset=offset, scale=scale), helper.make_node("Cast", ["s"], ["c"], to=1),
        helper.make_node("MatMul", ["c", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["a"]),
        helper.make_node("Softmax", ["a"], ["p"], axis=1), helper.make_node("ArgMax", ["p"], ["i"], axis=1),
        ml("ArrayFeatureExtractor", ["classes", "i"], ["n"]), helper.make_node("Reshape", ["n", "flat"], ["r"]),
        helper.make_node("Cast", ["r"], ["label"], to=7),
        ml("ZipMap", ["p"], ["q"], classlabels_int64s=[7, 8, 9]) if zipped else helper.make_node("Identity", ["p"], ["q"]),
    ]
    outputs = [label("label"), by_name("q") if zipped else floats("q", 3)]
    made = compiled(tmp_path, nodes, outputs, w=w, b=b, classes=np.array([7, 8, 9], np.int32), flat=np.array([-1]))
    assert set(made.imported.params) == {"w", "b"} and all(one.decided for one in made.frozen)
    assert made.imported.notes[0] == "output label is left out: the label is the place of the largest of the other"
    assert made.imported.notes[1:] == (("output q is a row of numbers, in the order of the classes that the file names",) if zipped else ())
    library, x = Library(made, tmp_path), RNG.normal(size=FEATURES).astype(np.float32)
    np.testing.assert_allclose(library.instance().infer(x), softmax(((x - offset) * scale) @ w + b[0]), rtol=1e-5)
    assert_learns_as_reference(library)


@pytest.mark.parametrize(("rows", "behind"), [(3, "SOFTMAX"), (2, "LOGISTIC"), (3, "LOGISTIC"), (3, "NONE")])
def test_linear_classifier(rows: int, behind: str, tmp_path: Path) -> None:
    """LogisticRegression: of two classes the rows differ in their signs, and what a softmax has made needs no norm."""
    w, b = RNG.normal(size=(rows, FEATURES)).astype(np.float32), RNG.normal(size=rows).astype(np.float32)
    if rows == 2:
        w, b = np.stack([-w[1], w[1]]), np.stack([-b[1], b[1]])
    attributes = {"coefficients": w.reshape(-1), "intercepts": b, "classlabels_strings": [f"kind {i}" for i in range(rows)]}
    nodes = [ml("LinearClassifier", ["X"], ["label", "s"], **attributes, post_transform=behind, multi_class=1)]
    normed = behind != "NONE" and rows > 2
    nodes.append(ml("Normalizer", ["s"], ["p"], norm="L1") if normed else helper.make_node("Identity", ["s"], ["p"]))
    made = compiled(tmp_path, nodes, [label("label", TensorProto.STRING), floats("p", rows)])
    assert len(made.imported.params) == 2
    if behind == "SOFTMAX" or rows == 2:
        assert [n.op.name for n in made.program.entries["infer"].nodes][-1] == "softmax"
    library, x = Library(made, tmp_path), RNG.normal(size=FEATURES).astype(np.float32)
    z = w @ x + b
    sigmoid = 1 / (1 + np.exp(-z))
    want = {"SOFTMAX": softmax(z), "LOGISTIC": sigmoid / sigmoid.sum(), "NONE": z}[behind]
    np.testing.assert_allclose(library.instance().infer(x), want, rtol=1e-4)
    assert_learns_as_reference(library)


def test_linear_regressor(tmp_path: Path) -> None:
    w, b = RNG.normal(size=(2, FEATURES)).astype(np.float32), RNG.normal(size=2).astype(np.float32)
    nodes = [ml("LinearRegressor", ["X"], ["y"], coefficients=w.reshape(-1), intercepts=b, targets=2)]
    library, x = Library(compiled(tmp_path, nodes, [floats("y", 2)], "mse"), tmp_path), RNG.normal(size=FEATURES).astype(np.float32)
    np.testing.assert_allclose(library.instance().infer(x), w @ x + b, rtol=1e-5)
    assert_learns_as_reference(library)


def test_what_stays_is_refused_by_name(tmp_path: Path) -> None:
    nodes = [ml("Binarizer", ["X"], ["b"], threshold=0.5), helper.make_node("Gemm", ["b", "w"], ["y"])]
    with pytest.raises(ModelError, match=r"binarizer \(ai.onnx.ml.Binarizer\)"):
        compiled(tmp_path, nodes, [floats("y", 2)], w=np.ones((FEATURES, 2), np.float32))
    only = [ml("LinearClassifier", ["X"], ["label", "s"], coefficients=[1.0] * 8, intercepts=[0.0, 1.0], classlabels_ints=[0, 1])]
    with pytest.raises(ModelError):
        compiled(tmp_path, only, [label("label")])
