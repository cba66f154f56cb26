# SPDX-License-Identifier: Apache-2.0
"""The inputs and outputs of a model: which there are, and how a sample of each is laid out on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tinytrain.errors import ModelError
from tinytrain.frontend.layout import Dims, channels_last, plain
from tinytrain.frontend.quantised import INTEGER_TYPES
from tinytrain.ir.pack import record_type
from tinytrain.ir.types import F32, S32, Array, DType, TensorType, Value

if TYPE_CHECKING:
    import onnx

# the first of these on the way from the input says whether a sample is a feature map
SPATIAL = {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization"}
REARRANGING = {
    "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "MatMul", "Gemm", "ReduceMean", "Softmax", "LogSoftmax", "GRU", "LSTM",
    "RNN",
}
FLOAT, INT32, INT64 = 1, 6, 7                             # element types of ONNX
TAKEN: dict[int, DType] = {FLOAT: F32, INT32: S32, INT64: S32, **dict.fromkeys(INTEGER_TYPES, F32)}   # what a DequantizeLinear reads is F32


@dataclass(frozen=True)
class Port:
    """An input or output: its ONNX name and shape (batch included), the order of its axes but the batch, its type on the device.

    `sample_ir = sample_onnx.transpose(perm)`, both without the batch axis.
    """

    name: str
    onnx_shape: Dims
    perm: Dims
    type: TensorType


def ends(graph: onnx.GraphProto, arrays: Mapping[str, Array], file: str) -> tuple[list[onnx.ValueInfoProto], list[str]]:
    """Inputs and names of the outputs. Raises ModelError where there are none, or where they are of a kind that is not taken."""
    inputs, outputs = [i for i in graph.input if i.name not in arrays], [o.name for o in graph.output]
    for kind, found in (("input", len(inputs)), ("output", len(outputs))):
        if not found:
            raise ModelError(f"{file} has no {kind}; expected one at least.", hint=f"Export the part of the model with an {kind}.")
    for value in inputs:
        if value.type.tensor_type.elem_type not in TAKEN:
            called = _called(value.type.tensor_type.elem_type)
            raise ModelError(
                f"{file}: input {value.name} holds {called}; expected float32, int32, int64, or int8 or uint8 for a DequantizeLinear.",
                hint="Use the float32 version of the model.",
            )
    return inputs, outputs


def _called(kind: int) -> str:
    import onnx

    return str(onnx.TensorProto.DataType.Name(kind)).lower()


def input_order(graph: onnx.GraphProto, name: str, shape: Dims) -> Dims:
    """Channels last for a feature map, else as in ONNX."""
    return channels_last(shape) if len(shape) in (3, 4) and _feeds_spatial(graph, name) else plain(shape)


def _feeds_spatial(graph: onnx.GraphProto, name: str) -> bool:
    """Whether the first op that minds the layout, on the way from the input, wants a feature map."""
    reached = {name}
    for node in graph.node:
        if reached & set(node.input):
            if node.op_type in SPATIAL:
                return True
            if node.op_type in REARRANGING:
                return False
            reached.update(node.output)
    return False


def sample_perm(shape: Dims, order: Dims) -> Dims:
    """The order of the axes without the batch, which a Squeeze, or a Reshape to more rows, may have taken away."""
    if shape and shape[0] == 1:
        return tuple(a - 1 for a in order if a != 0)
    return order


def described(values: Sequence[Value], ports: Sequence[Port]) -> dict[str, Any]:
    """What the manifest says of what is given or got: the device's shape, and how the ONNX tensor (batch of 1, if any) is transposed to it;
    of several, that of their record, and of each of its `parts`. `values` are they, or the one that holds all.
    """
    if len(ports) == 1:
        return _layout(values[0].type, ports[0].onnx_shape, ports[0].perm)
    whole = TensorType((sum(port.type.numel for port in ports),), record_type([port.type.dtype for port in ports]))
    parts = [{"name": port.name, **_layout(port.type, port.onnx_shape, port.perm)} for port in ports]
    return {**_layout(whole, (1, *whole.shape), (0,)), "parts": parts}


def _layout(kind: TensorType, onnx_shape: Dims, perm: Dims) -> dict[str, Any]:
    # a single number that is nothing but a batch has no axis
    shape, quant = list(kind.shape) if perm else [], asdict(kind.quant) if kind.quant else None
    return {"shape": shape, "onnx_shape": list(onnx_shape), "perm": list(perm), "dtype": kind.dtype.tag, "quant": quant}


def described_target(value: Value, names: Sequence[str]) -> dict[str, Any]:
    """Type of a target; where the model has several outputs, those of the parts too, by the names of the outputs that they are for."""
    kinds = [kind for _, kind in value.parts] or [value.type]
    parts = [{"name": name, "shape": list(kind.shape), "dtype": kind.dtype.tag} for name, kind in zip(names, kinds, strict=bool(names))]
    return {"shape": list(value.shape), "dtype": value.type.dtype.tag, **({"parts": parts} if parts else {})}
