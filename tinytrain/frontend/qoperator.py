# SPDX-License-Identifier: Apache-2.0
"""y_q = QLinearOp(a_q, …)  becomes  y_q = QuantizeLinear(Op(DequantizeLinear(a_q), …)), which is what it is defined as.

On the ONNX model, so that the importer knows one form of quantised models. Names of nodes and of stored integers stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.ir.types import Array

if TYPE_CHECKING:
    import onnx

MICROSOFT = "com.microsoft"
OPSET_OF_SOFTMAX = 13                                     # from here on it is over one axis


@dataclass(frozen=True)
class _Form:
    """How the operands of an op stand: triples (data, scale, zero point), those of the result, and an int32 bias in units of a·b."""

    op: str
    triples: tuple[int, ...]
    result: int
    bias: int | None = None
    domain: str = ""
    drops: tuple[str, ...] = ("channels_last", "opset")   # attributes that the plain op does not have


_FORMS = {
    (form.domain, name): form for name, form in {
        "QLinearConv": _Form("Conv", (0, 3), 6, 8),
        "QLinearMatMul": _Form("MatMul", (0, 3), 6),
        "QGemm": _Form("Gemm", (0, 3), 7, 6, MICROSOFT),
        "QLinearAdd": _Form("Add", (0, 3), 6, None, MICROSOFT),
        "QLinearMul": _Form("Mul", (0, 3), 6, None, MICROSOFT),
        "QLinearSigmoid": _Form("Sigmoid", (0,), 3, None, MICROSOFT),
        "QLinearLeakyRelu": _Form("LeakyRelu", (0,), 3, None, MICROSOFT),
        "QLinearSoftmax": _Form("Softmax", (0,), 3, None, MICROSOFT),
        "QLinearAveragePool": _Form("AveragePool", (0,), 3, None, MICROSOFT),
        "QLinearGlobalAveragePool": _Form("GlobalAveragePool", (0,), 3, None, MICROSOFT),
    }.items()
}


def expand_qoperators(model: onnx.ModelProto, file: str) -> None:
    """Rewrite every quantised operator in place; nodes of the model have names by now. Raises ModelError."""
    expander = _Expander(model.graph, file)
    nodes = [made for node in model.graph.node for made in expander.expanded(node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def store_quantised_weights(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """QuantizeLinear of what the file stores, and Clip of integers, become the integers themselves, in place; what is odd is left to the
    importer. Returns the bounds of those that were clipped: fewer bits than their type has.
    """
    from onnx import numpy_helper

    graph = model.graph
    tensors = {t.name: t for t in graph.initializer}
    bounds: dict[str, tuple[int, int]] = {}

    def store(node: onnx.NodeProto, array: Array) -> None:
        tensors[node.output[0]] = numpy_helper.from_array(array, node.output[0])
        graph.initializer.append(tensors[node.output[0]])
        graph.node.remove(node)

    for node in list(graph.node):
        if node.op_type == "Clip" and all(name in tensors for name in node.input if name):
            x, low, high = (*(numpy_helper.to_array(tensors[name]) if name else None for name in node.input), None, None)[:3]
            if x is not None and x.dtype.kind in "iu":
                limits = np.iinfo(x.dtype)
                ends = int(limits.min if low is None else low.reshape(())), int(limits.max if high is None else high.reshape(()))
                store(node, np.clip(x, *ends))
                bounds[node.output[0]] = ends
            continue
        if node.op_type != "QuantizeLinear" or len(node.input) < 3 or not all(name in tensors for name in node.input):
            continue
        x, scale, zero = (numpy_helper.to_array(tensors[name]) for name in node.input)
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        along = [1] * x.ndim
        if scale.size > 1:
            along[axis] = -1
        if (scale.size > 1 and scale.size != x.shape[axis]) or zero.size != scale.size or not (scale > 0).all():
            continue
        numbers = np.rint(x / scale.reshape(along)) + zero.astype(np.float32).reshape(along)
        limits = np.iinfo(zero.dtype)
        store(node, np.clip(numbers, limits.min, limits.max).astype(zero.dtype))
    return bounds


class _Expander:
    def __init__(self, graph: onnx.GraphProto, file: str) -> None:
        self.graph = graph
        self.file = file
        self.tensors = {t.name: t for t in graph.initializer}
        self.taken = {name for node in graph.node for name in (*node.input, *node.output, node.name)} | set(self.tensors)

    def expanded(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        if node.domain == MICROSOFT and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.domain = ""
            return [node]
        if (node.domain, node.op_type) == (MICROSOFT, "QLinearConcat"):
            return self._concat(node)
        form = _FORMS.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type))
        return [node] if form is None else self._plain(node, form)

    def _plain(self, node: onnx.NodeProto, form: _Form) -> list[onnx.NodeProto]:
        if any(a.name == "channels_last" and a.i for a in node.attribute):
            raise ModelError(
                f"{node.name} ({node.op_type}) in {self.file}: it is channels-last, expected channels on axis 1.",
                hint="Quantise the model without layout optimisations.",
            )
        if any(a.name == "opset" and a.i < OPSET_OF_SOFTMAX for a in node.attribute):
            raise ModelError(
                f"{node.name} ({node.op_type}) in {self.file}: it is a Softmax over all axes from one on, expected one over a single axis.",
                hint=f"Quantise a model of opset {OPSET_OF_SOFTMAX} or newer.",
            )
        made, operands = [], []
        for at in form.triples:
            # what a layer multiplies with has its output channels first; in MatMul and Gemm they may be last
            axis = self._axis(node, form) if at else None
            made.append(self._dequantise(node, node.input[at : at + 3], axis))
            operands.append(made[-1].output[0])
        if form.bias is not None and len(node.input) > form.bias and node.input[form.bias]:
            made.append(self._bias(node, form.bias))
            operands.append(made[-1].output[0])
        return [*made, *self._result(node, form.op, operands, list(node.input)[form.result : form.result + 2], form.drops)]

    def _concat(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        made = [self._dequantise(node, node.input[at : at + 3], None) for at in range(2, len(node.input), 3)]
        return [*made, *self._result(node, "Concat", [d.output[0] for d in made], list(node.input)[:2])]

    @staticmethod
    def _axis(node: onnx.NodeProto, form: _Form) -> int:
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        return 0 if form.op == "Conv" or transposed else -1

    def _dequantise(self, node: onnx.NodeProto, operands: Sequence[str], axis: int | None) -> onnx.NodeProto:
        name = self._unique(f"{operands[0]}_real")
        scale = self.tensors.get(operands[1])
        per_axis = axis is not None and scale is not None and list(scale.dims) not in ([], [1])
        return self._node(node, [o for o in operands if o], name, axis if per_axis else None)

    def _bias(self, node: onnx.NodeProto, at: int) -> onnx.NodeProto:
        """A bias counts multiples of the product of both scales; it is one number per output channel."""
        from onnx import numpy_helper

        scales = []
        for name in (node.input[1], node.input[4]):
            if name not in self.tensors:
                raise ModelError(
                    f"{node.name} ({node.op_type}) in {self.file}: its scale {name} is computed by the model, expected a constant.",
                    hint="Make it an initializer.",
                )
            scales.append(numpy_helper.to_array(self.tensors[name]).reshape(-1))
        product = np.asarray(scales[0] * scales[1], np.float32)
        name = self._unique(f"{node.input[at]}_scale")
        self.graph.initializer.append(numpy_helper.from_array(product if product.size > 1 else product.reshape(()), name))
        output = self._unique(f"{node.input[at]}_real")
        return self._node(node, [node.input[at], name], output, 0 if product.size > 1 else None)

    def _node(self, node: onnx.NodeProto, given: list[str], output: str, axis: int | None) -> onnx.NodeProto:
        from onnx import helper

        made = helper.make_node("DequantizeLinear", given, [output], name=self._unique(f"{node.name}_{output}"))
        if axis is not None:
            made.attribute.append(helper.make_attribute("axis", axis))
        return made

    def _result(
        self, node: onnx.NodeProto, op: str, operands: list[str], quant: list[str], drops: tuple[str, ...] = ()
    ) -> list[onnx.NodeProto]:
        from onnx import helper

        real = self._unique(f"{node.output[0]}_real")
        plain = helper.make_node(op, operands, [real], name=node.name)
        plain.attribute.extend(a for a in node.attribute if a.name not in drops)
        back = helper.make_node("QuantizeLinear", [real, *(q for q in quant if q)], [node.output[0]], name=self._unique(f"{node.name}_q"))
        return [plain, back]

    def _unique(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name
