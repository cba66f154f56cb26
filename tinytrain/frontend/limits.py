# SPDX-License-Identifier: Apache-2.0
"""What a model may hold: element types, sizes and finite numbers; checked before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.onnx_graph import FOUR_BITS
from tinytrain.reading import first_line

if TYPE_CHECKING:
    import onnx

# sizes in the generated C are int32_t
MAX_BYTES = 2**31 - 1


def tensors(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Every tensor in the file with a name for messages: initializers and attributes, inside subgraphs and functions too."""

    def of_graph(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
        for tensor in graph.initializer:
            yield tensor.name, tensor
        for sparse in graph.sparse_initializer:
            yield sparse.values.name, sparse.values
        yield from of_nodes(graph.node)

    def of_nodes(nodes: object) -> Iterator[tuple[str, onnx.TensorProto]]:
        for node in nodes:  # type: ignore[attr-defined]
            for attribute in node.attribute:
                name = f"{node.name or node.op_type}.{attribute.name}"
                if attribute.HasField("t"):
                    yield name, attribute.t
                for tensor in attribute.tensors:
                    yield name, tensor
                for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                    yield from of_graph(graph)

    yield from of_graph(model.graph)
    for function in model.functions:
        yield from of_nodes(function.node)


def check_sizes(model: onnx.ModelProto, path: Path) -> None:
    """Stored tensors and inputs, as the file declares them."""
    for name, tensor in tensors(model):
        _check_size(path, name, tuple(tensor.dims))
    for value in model.graph.input:
        # negative is how some exporters write an open axis
        _check_size(path, value.name, tuple(d.dim_value for d in value.type.tensor_type.shape.dim if d.dim_value > 0))


def check_value_sizes(model: onnx.ModelProto, path: Path) -> None:
    """All other tensors, whose shapes were inferred."""
    for value in (*model.graph.value_info, *model.graph.output):
        _check_size(path, value.name, tuple(d.dim_value for d in value.type.tensor_type.shape.dim if d.HasField("dim_value")))


def _check_size(path: Path, name: str, dims: tuple[int, ...]) -> None:
    if any(d < 0 for d in dims) or math.prod(dims) * 4 > MAX_BYTES:
        raise ModelError(
            f"{path}: tensor {name} of shape ({','.join(map(str, dims))}) would have {math.prod(dims):,} elements; "
            f"at most {MAX_BYTES // 4:,} are supported.",
            hint="The file may be corrupt; no microcontroller holds such a tensor.",
        )


def wrong_types(model: onnx.ModelProto, path: Path) -> tuple[ModelError, ...]:
    """float32 for what is computed; integers and bools for shapes, labels and quantised tensors: what is wrong with the first that is of
    another type, but for what a Cast makes, which its handler minds; four bits may be stored only. The others mostly follow from it.
    """
    import onnx

    kinds = onnx.TensorProto
    allowed = {kinds.FLOAT, kinds.INT64, kinds.INT32, kinds.INT8, kinds.UINT8, kinds.BOOL}
    found = [(t.name, t.data_type) for t in model.graph.initializer if t.data_type not in FOUR_BITS]
    found += [(v.name, v.type.tensor_type.elem_type) for v in (*model.graph.input, *model.graph.output, *model.graph.value_info)]
    made = {name for node in model.graph.node if node.op_type in ("Cast", "CastLike") for name in node.output}
    for name, kind in found:
        if kind not in allowed and kind != kinds.UNDEFINED and name not in made:
            label = kinds.DataType.Name(kind).lower() if kind in kinds.DataType.values() else str(kind)
            label = {"double": "float64"}.get(label, label)
            return (_wrong_type(path, name, label),)
    return ()


def _wrong_type(path: Path, name: str, label: str) -> ModelError:
    expected, hint = "float32", "Export the part of the model that computes in float32."
    if label.startswith("float8") or label in ("int16", "uint16", "int4", "uint4", "int2", "uint2"):
        expected = "int8 or uint8 where a model is quantised"
        hint = "Quantise to 8 bits; `tinytrain quantize` does that with the float32 model."
    elif "float" in label:
        hint = "Export the model in float32 (model.float() in PyTorch)."
    return ModelError(f"{path}: tensor {name} is of type {label}; expected {expected}.", hint=hint)


def check_finite(model: onnx.ModelProto, path: Path, *, settled: bool) -> None:
    """Data for each element; no NaN anywhere; infinity only as a scalar, where it says that there is no bound.

    Until constants are folded (`settled`), literals may be anything, as much of them goes, and −∞ may be a mask.
    """
    import onnx
    from onnx import numpy_helper

    stored = {tensor.name for tensor in model.graph.initializer}
    for name, tensor in tensors(model):
        try:
            array = numpy_helper.to_array(tensor)
        except Exception as error:                        # the library and NumPy below it say it in several ways
            message = f"{path}: tensor {name} of shape ({','.join(map(str, tensor.dims))}) is damaged: {first_line(error)}."
            raise ModelError(message, hint="Export or download the model again.") from None
        if tensor.data_type != onnx.TensorProto.FLOAT or not (settled or name in stored):
            continue
        bad = np.isnan(array) if array.ndim == 0 else ~np.isfinite(array)
        if not settled:
            bad &= ~np.isneginf(array)
        if bad.any():
            where = ",".join(str(int(i)) for i in np.argwhere(bad)[0])
            raise ModelError(
                f"{path}: initializer {name} holds {int(bad.sum()):,} of {array.size:,} values that are NaN or infinite, "
                f"the first at [{where}]; expected finite weights.",
                hint="The pretraining diverged or the file is damaged: use another checkpoint.",
            )
