# SPDX-License-Identifier: Apache-2.0
"""What onnxruntime makes of a model file, on any CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from frontend_models import Arrays, infer
from onnx import TensorProto, helper, numpy_helper
from oracle_session import session_of

from tinytrain.frontend.onnx_import import Imported, import_model
from tinytrain.frontend.prepare import Prepared, prepare


def truth(path: Path, sample: np.ndarray) -> np.ndarray:
    """The one output for the input x."""
    pytest.importorskip("onnxruntime")
    return np.asarray(session_of(onnx.load(path)).run(None, {"x": sample})[0])


def agrees(path: Path, sample: np.ndarray, want: np.ndarray | None = None, **options: Any) -> tuple[Prepared, Imported]:
    """Import a file; it computes what onnxruntime does."""
    prepared = prepare(path, **options)
    imported = import_model(prepared)
    want = truth(path, sample) if want is None else want
    got = infer(imported, sample)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    return prepared, imported


def save(
    path: Path, nodes: list[onnx.NodeProto], arrays: Arrays, shape: tuple[int | str, ...], *,
    opset: int = 17, ir: int = 8, inputs: Arrays | None = None, made: int = TensorProto.FLOAT,
) -> Path:
    """A file whose input is x and whose output is y, of the type `made`; `inputs` are stored tensors that are inputs too."""
    both = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in (inputs or {}).items()]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape), *both],
        [helper.make_tensor_value_info("y", made, None)], [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )
    domains = {n.domain for n in nodes if n.domain}
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in sorted(domains))])
    model.ir_version = ir
    inferred = onnx.shape_inference.infer_shapes(model)
    model.graph.output[0].CopyFrom(inferred.graph.output[0])
    model.graph.output[0].type.tensor_type.shape.SetInParent()
    onnx.save(model, path)
    return path
