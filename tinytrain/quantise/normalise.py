# SPDX-License-Identifier: Apache-2.0
"""Makes a prepared model plain for quantisation: each linear layer has weights of its own and a bias, and factors are folded.

MatMul (+ Add)            →  Gemm with a bias, of more than two axes between Reshapes
Gemm with alpha, beta     →  alpha·B, beta·C
BatchNorm on a map        →  depthwise 1×1 convolution: y = s·x + (β − s·μ),  s = γ/√(σ² + ε)
layer without a bias      →  bias 0, so that bias correction has where to go
a weight of two layers    →  one copy for each, as each gets scales of its own
Dropout                   →  nothing
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.frontend.prepare import Prepared
from tinytrain.onnx_graph import OnnxGraph

if TYPE_CHECKING:
    import onnx

QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
LINEAR = ("Conv", "Gemm", "MatMul")


class Editor(OnnxGraph):
    """A graph whose `arrays` come and go; those that are left reach it by `write_back`."""

    def write_back(self) -> None:
        """The arrays that are still read become the initializers."""
        from onnx import numpy_helper

        read = {name for node in self.proto.node for name in node.input} | {o.name for o in self.proto.output}
        del self.proto.initializer[:]
        self.proto.initializer.extend(numpy_helper.from_array(np.asarray(a, order="C"), n) for n, a in self.arrays.items() if n in read)


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    import onnx

    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def refuse_later_outputs(prepared: Prepared) -> None:
    """Raise ModelError where any but the first output of a node is read: only that can be a point."""
    graph = prepared.model.graph
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for node in graph.node:
        if used := next((name for name in node.output[1:] if name and name in read), ""):
            raise ModelError(
                f"{node.name} ({node.op_type}) in {prepared.path}: its output {used} is used; "
                "expected nodes of which the first output alone is.",
                hint="Train the float32 model, or quantise one that does without that output.",
            )


def refuse_quantised(prepared: Prepared) -> None:
    """Raises ModelError for a model that is int8 already."""
    for node in prepared.model.graph.node:
        if node.op_type in QUANTISED or node.op_type.startswith("QLinear"):
            raise ModelError(
                f"{prepared.path} is quantised already ({node.name} is a {node.op_type}); expected a float32 model.",
                hint="Compile it as it is, or quantise the float32 model that it was made from.",
            )


def normalise(model: onnx.ModelProto) -> onnx.ModelProto:
    """A changed copy of the model; nodes keep their names."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    editor = Editor(made.graph)
    _drop_dropout(editor)
    for node in list(editor.proto.node):
        if node.op_type == "MatMul":
            _matmul_to_gemm(editor, node)
        elif node.op_type == "Gemm":
            _fold_factors(editor, node)
        elif node.op_type == "BatchNormalization":
            _norm_to_conv(editor, node)
    _own_weights(editor)
    for node in editor.proto.node:
        _give_bias(editor, node)
    editor.write_back()
    return onnx.shape_inference.infer_shapes(made, check_type=True, strict_mode=True, data_prop=True)


def _drop_dropout(editor: Editor) -> None:
    for node in [n for n in editor.proto.node if n.op_type == "Dropout"]:
        if editor.is_output(node.output[0]):
            continue
        for reader in editor.readers_of(node.output[0]):
            reader.input[:] = [node.input[0] if name == node.output[0] else name for name in reader.input]
        editor.proto.node.remove(node)


def _matmul_to_gemm(editor: Editor, node: onnx.NodeProto) -> None:
    """x (…, K) by a constant (K, N), with the bias that is added to it alone."""
    weight, shape = editor.arrays.get(node.input[1]), editor.shapes.get(node.input[0], ())
    if weight is None or weight.ndim != 2 or len(shape) < 2 or not all(shape):
        return
    node.op_type = "Gemm"
    readers = editor.readers_of(node.output[0])
    if len(readers) == 1 and readers[0].op_type == "Add" and not editor.is_output(node.output[0]):
        add = readers[0]
        bias = next((name for name in add.input if name in editor.arrays), "")
        if bias and editor.arrays[bias].size == weight.shape[1] == editor.arrays[bias].shape[-1]:
            node.input.append(editor.store(f"{bias}_row", editor.arrays[bias].reshape(-1)))
            node.output[0] = add.output[0]
            editor.proto.node.remove(add)
    if len(shape) > 2:
        _as_matrix(editor, node, (math.prod(shape[:-1]), shape[-1]), (*shape[:-1], weight.shape[1]))


def _as_matrix(editor: Editor, node: onnx.NodeProto, matrix: tuple[int, ...], result: tuple[int, ...]) -> None:
    """Reshape operand 0 of a node to a matrix, and what it makes of that to `result`."""
    from onnx import helper

    at = list(editor.proto.node).index(node)
    x, y = node.input[0], node.output[0]
    node.input[0], node.output[0] = (editor.unique(f"{name}_matrix") for name in (x, y))
    for place, shape, ends in ((at, matrix, (x, node.input[0])), (at + 2, result, (node.output[0], y))):
        sizes = editor.store(f"{ends[1]}_shape", np.array(shape, np.int64))
        reshape = helper.make_node("Reshape", [ends[0], sizes], [ends[1]], name=editor.unique(f"{ends[1]}_reshape"))
        editor.proto.node.insert(place, reshape)


def _fold_factors(editor: Editor, node: onnx.NodeProto) -> None:
    """alpha·A·B + beta·C with stored B and C."""
    given = attributes(node)
    alpha, beta = float(given.get("alpha", 1.0)), float(given.get("beta", 1.0))  # type: ignore[arg-type]
    names = list(node.input[1:])
    if not all(name in editor.arrays for name in names if name):
        return
    for index, factor in ((1, alpha), (2, beta)):
        if factor != 1 and len(node.input) > index and node.input[index]:
            array = editor.arrays[node.input[index]] * np.float32(factor)
            node.input[index] = editor.store(f"{node.input[index]}_scaled", array)
    for attribute in [a for a in node.attribute if a.name in ("alpha", "beta")]:
        node.attribute.remove(attribute)


def _norm_to_conv(editor: Editor, node: onnx.NodeProto) -> None:
    from onnx import helper

    rank = len(editor.shapes.get(node.input[0], ()))
    given = attributes(node)
    if rank not in (3, 4) or given.get("training_mode") or not all(name in editor.arrays for name in node.input[1:]):
        return
    gamma, beta, mean, var = (editor.arrays[name].astype(np.float64) for name in node.input[1:])
    var = var + float(given.get("epsilon", 1e-5))  # type: ignore[arg-type]
    if not (var > 0).all():
        return
    scale = gamma / np.sqrt(var)
    weight = editor.store(f"{node.name}_scale", scale.astype(np.float32).reshape(-1, *(1,) * (rank - 1)))
    bias = editor.store(f"{node.name}_offset", (beta - scale * mean).astype(np.float32))
    name, x, y = node.name, node.input[0], node.output[0]
    node.CopyFrom(helper.make_node("Conv", [x, weight, bias], [y], name=name, group=len(scale), kernel_shape=[1] * (rank - 2)))


def _own_weights(editor: Editor) -> None:
    seen: set[str] = set()
    for node in editor.proto.node:
        if node.op_type not in LINEAR:
            continue
        for index, name in enumerate(node.input):
            if name not in editor.arrays:
                continue
            if name in seen:
                node.input[index] = editor.store(f"{name}_of_{node.name}", editor.arrays[name].copy())
            seen.add(name)


def _give_bias(editor: Editor, node: onnx.NodeProto) -> None:
    """One value for each output channel of a Conv or Gemm whose weight is stored."""
    if node.op_type not in ("Conv", "Gemm") or node.input[1] not in editor.arrays:
        return
    weight = editor.arrays[node.input[1]]
    channels = weight.shape[0 if node.op_type == "Conv" or attributes(node).get("transB") else 1]
    name = node.input[2] if len(node.input) > 2 else ""
    if name and (name not in editor.arrays or editor.arrays[name].size not in (1, channels)):
        return
    if not name:
        del node.input[2:]
        node.input.append(editor.store(f"{node.name}_bias", np.zeros(channels, np.float32)))
    elif editor.arrays[name].shape != (channels,):
        bias = np.broadcast_to(editor.arrays[name].reshape(-1), (channels,))
        node.input[2] = editor.store(f"{name}_row", bias)
