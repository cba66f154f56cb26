# SPDX-License-Identifier: Apache-2.0
"""Small ONNX models for tests of the front end, and the check that an import computes what ONNX does."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from oracle_session import session_of

from tinytrain.frontend.onnx_import import Imported, import_model
from tinytrain.frontend.prepare import Prepared, prepare
from tinytrain.ir.types import Value
from tinytrain.verify.reference import run

RNG = np.random.default_rng(11)
Arrays = dict[str, np.ndarray]


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def scalar(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def node(op: str, inputs: str = "x", output: str = "y", name: str = "", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), output.split(), name=name, **attributes)


def model_of(nodes: list[onnx.NodeProto], arrays: Arrays, shape: tuple[int, ...], opset: int = 15) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)], [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )
    graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    domains = [helper.make_opsetid("", opset)] + [helper.make_opsetid(n.domain, 1) for n in nodes if n.domain]
    model = helper.make_model(graph, opset_imports=domains, ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    model.graph.output[0].type.tensor_type.shape.SetInParent()
    return model


def load(folder: Path, model: onnx.ModelProto, **options: Any) -> tuple[Prepared, Imported]:
    onnx.save(model, folder / "m.onnx")
    prepared = prepare(folder / "m.onnx", **options)
    return prepared, import_model(prepared)


def infer(imported: Imported, sample: np.ndarray, state: dict[Value, np.ndarray] | None = None) -> np.ndarray:
    """ONNX input with its batch -> ONNX output with its batch."""
    shape = imported.output.onnx_shape
    (output,) = run(imported.graph, [sample[0].transpose(imported.input.perm).copy()], state).outputs
    bare = shape[1:] if shape and shape[0] == 1 and len(shape) > 1 else shape
    moved = output.reshape([bare[a] for a in imported.output.perm])
    return moved.transpose(np.argsort(imported.output.perm)).reshape(shape)


def oracles(model: onnx.ModelProto, sample: np.ndarray) -> list[np.ndarray]:
    found = [ReferenceEvaluator(model).run(None, {model.graph.input[0].name: sample})[0]]
    if importlib.util.find_spec("onnxruntime") is None:
        return found
    return [*found, session_of(model).run(None, {model.graph.input[0].name: sample})[0]]


def check(folder: Path, nodes: list[onnx.NodeProto], arrays: Arrays, shape: tuple[int, ...], opset: int = 15, **options: Any) -> Imported:
    model = model_of(nodes, arrays, shape, opset)
    _, imported = load(folder, model, **options)
    sample = f32(*shape)
    got = infer(imported, sample)
    for want in oracles(model, sample):
        assert imported.output.onnx_shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    return imported


def op_names(imported: Imported) -> list[str]:
    return [n.op.name for n in imported.graph.nodes]


def norm_arrays(channels: int) -> Arrays:
    """Operands g, b, m, v of a BatchNormalization."""
    return {"g": f32(channels), "b": f32(channels), "m": f32(channels), "v": np.abs(f32(channels)) + 0.3}
