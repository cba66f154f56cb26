# SPDX-License-Identifier: Apache-2.0
"""Writes the quantised model as ONNX in QDQ form.

point t:   … → t → QuantizeLinear(t_s, t_z) → t_q → DequantizeLinear → t_dq → readers
layer:     w_q (int8 or int4) and b_q (int32, scale s_x·s_w[k], zero point 0) → DequantizeLinear(axis) → w, b → Conv, Gemm or MatMul
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

from tinytrain.ir.types import Array
from tinytrain.onnx_graph import stored_tensor
from tinytrain.quantise.lockstep import Int8Layer
from tinytrain.quantise.normalise import Editor
from tinytrain.quantise.plan import Layer, Plan
from tinytrain.quantise.ranges import Scale

if TYPE_CHECKING:
    import onnx

INT4 = 22                                                 # of TensorProto.DataType


def write_qdq(
    model: onnx.ModelProto, plan: Plan, scales: dict[str, Scale], layers: dict[str, Int8Layer], *, per_tensor: bool
) -> onnx.ModelProto:
    """A new model; nodes that are not folded keep their names, inputs and outputs of the model too. Four bits take opset 21."""
    import onnx
    from onnx import version_converter

    made = onnx.ModelProto()
    made.CopyFrom(model)
    few = any(layer.bits < 8 for layer in layers.values())
    if few and made.opset_import[0].version < FOUR_BITS_OPSET:
        made = version_converter.convert_version(made, FOUR_BITS_OPSET)
    made.ir_version = max(made.ir_version, FOUR_BITS_IR if few else 0)
    writer = _Writer(made.graph, plan, scales, per_tensor)
    writer.write(layers)
    made.producer_name = "tinytrain"
    made = onnx.shape_inference.infer_shapes(made, check_type=True, strict_mode=True, data_prop=True)
    onnx.checker.check_model(made)
    return made


FOUR_BITS_OPSET, FOUR_BITS_IR = 21, 10                    # from which on ONNX has INT4


class _Writer:
    def __init__(self, graph: onnx.GraphProto, plan: Plan, scales: dict[str, Scale], per_tensor: bool) -> None:
        self.editor = Editor(graph)
        self.graph = graph
        self.plan = plan
        self.scales = scales
        self.per_tensor = per_tensor
        self.nodes: list[onnx.NodeProto] = []
        self.names = {node.name for node in graph.node}
        self.dequantised: dict[str, str] = {}
        self.operands: dict[str, tuple[str, str]] = {}
        self.few: list[str] = []                          # what is stored in four bits

    def write(self, layers: dict[str, Int8Layer]) -> None:
        dropped = set(self.plan.folded.values())
        for name in self.plan.constants:
            self._constant(name)
        for value in self.graph.input:
            self._point(value.name, value.name)
        for node in list(self.graph.node):
            if node.output[0] in dropped:
                continue
            if node.name in self.plan.layers:
                self._layer(self.plan.layers[node.name], layers[node.name])
            self._compute(node)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        del self.graph.value_info[:]
        self.editor.write_back()
        for tensor in self.graph.initializer:
            if tensor.name in self.few:
                tensor.CopyFrom(stored_tensor(tensor.name, self.editor.arrays[tensor.name], INT4))

    def _compute(self, node: onnx.NodeProto) -> None:
        """The node itself, between the points that it reads and the one that it makes."""
        node.input[:] = [self.dequantised.get(name, name) for name in node.input]
        tensor = node.output[0] = self.plan.folded.get(node.output[0], node.output[0])
        self.nodes.append(node)
        if tensor in self.plan.points and self.editor.is_output(tensor):
            # the output of the model keeps its name, behind the DequantizeLinear
            node.output[0] = self.editor.unique(f"{tensor}_f")
        self._point(tensor, node.output[0])

    def _point(self, tensor: str, made: str) -> None:
        from onnx import helper

        if tensor not in self.plan.points:
            return
        scale, zero = self._operands(self.plan.points[tensor].root)
        stored = self.editor.unique(f"{tensor}_q")
        back = tensor if made != tensor else self.editor.unique(f"{tensor}_dq")
        self._append(helper.make_node("QuantizeLinear", [made, scale, zero], [stored], name=f"{tensor}_quantise"))
        self._append(helper.make_node("DequantizeLinear", [stored, scale, zero], [back], name=f"{tensor}_dequantise"))
        self.dequantised[tensor] = back

    def _operands(self, root: str) -> tuple[str, str]:
        """Names of scale and zero point; points that share a scale share these."""
        if root not in self.operands:
            scale = self.scales[root]
            self.operands[root] = (
                self._store(f"{root}_s", np.float32(scale.scale)), self._store(f"{root}_z", np.int8(scale.zero_point))
            )
        return self.operands[root]

    def _constant(self, name: str) -> None:
        scale, zero = self._operands(name)
        self._dequantise(name, self.scales[name].quantise(self.editor.arrays.pop(name)), [scale, zero], None)

    def _layer(self, layer: Layer, made: Int8Layer) -> None:
        """Weight and bias become the results of DequantizeLinear, under the names of what they were."""
        del self.editor.arrays[layer.weight]
        axis = None if self.per_tensor else layer.axis
        scales = made.scales[0] if self.per_tensor else made.scales
        zeros = self._scales(layer.weight, scales, np.int8)
        stored = self._dequantise(layer.weight, made.weight, zeros, axis)
        self.few += [stored, zeros[1]] if made.bits < 8 else []
        if made.bias is not None:
            del self.editor.arrays[layer.bias]
            bias_scales = np.asarray(scales * made.input_scale, np.float32)
            self._dequantise(layer.bias, made.bias, self._scales(layer.bias, bias_scales, np.int32), None if axis is None else 0)

    def _scales(self, name: str, scales: Array, kind: DTypeLike) -> list[str]:
        return [self._store(f"{name}_s", scales), self._store(f"{name}_z", np.zeros(scales.shape, kind))]

    def _dequantise(self, name: str, stored: Array, operands: list[str], axis: int | None) -> str:
        """Emits it; the name of what is stored."""
        from onnx import helper

        inputs = [self._store(f"{name}_q", stored), *operands]
        node = helper.make_node("DequantizeLinear", inputs, [name], name=f"{name}_dequantise")
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self._append(node)
        return inputs[0]

    def _append(self, node: onnx.NodeProto) -> None:
        """A new node, under a name that no other one has."""
        while node.name in self.names:
            node.name += "_"
        self.names.add(node.name)
        self.nodes.append(node)

    def _store(self, name: str, array: Array | np.generic) -> str:
        return self.editor.store(name, np.asarray(array))
