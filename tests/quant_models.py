# SPDX-License-Identifier: Apache-2.0
"""Small quantised ONNX models for tests, and the comparison of an import with onnxruntime, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from frontend_models import RNG, Arrays, load, model_of, node
from oracle_session import session_of

from tinytrain.frontend.onnx_import import Imported
from tinytrain.frontend.prepare import Prepared
from tinytrain.ir.builder import identifier
from tinytrain.ir.types import Array, Role, Value

SHARE = 0.999                                             # of the elements of a layer that lie within one step of those of onnxruntime


class Qdq:
    """Builds a model of float ops between QuantizeLinear and DequantizeLinear; `uint8` is the type of its activations."""

    def __init__(self, uint8: bool = False) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: Arrays = {}
        self.dtype = np.uint8 if uint8 else np.int8
        self.middle = 128 if uint8 else 0

    def quantised(self, x: str, low: float = -2.0, high: float = 2.0, name: str = "") -> str:
        """x, quantised to [low, high] and back; returns the name of the reals."""
        scale = (high - low) / 255
        zero = round(-low / scale) + (self.middle - 128)
        name = name or f"{x}_d"
        self.arrays |= {f"{x}_s": np.array(scale, np.float32), f"{x}_z": np.array(zero, self.dtype)}
        self.nodes += [node("QuantizeLinear", f"{x} {x}_s {x}_z", f"{x}_q"), node("DequantizeLinear", f"{x}_q {x}_s {x}_z", name)]
        return name

    def weight(self, name: str, *shape: int, axis: int | None = 0, uint8: bool = False) -> str:
        """A stored weight of integers, per channel or, with axis None, per tensor."""
        count = 1 if axis is None else shape[axis]
        scale = (RNG.uniform(0.5, 1.5, count) / 127 / np.sqrt(np.prod(shape) / shape[0])).astype(np.float32)
        dtype, middle = (np.uint8, 128) if uint8 else (np.int8, 0)
        self.arrays |= {
            f"{name}_q": (RNG.integers(-127, 128, shape) + middle).astype(dtype),
            f"{name}_s": scale if axis is not None else scale.reshape(()),
            f"{name}_z": np.full(scale.shape if axis is not None else (), middle, dtype),
        }
        self.nodes.append(node("DequantizeLinear", f"{name}_q {name}_s {name}_z", name, **({} if axis is None else {"axis": axis})))
        return name

    def bias(self, name: str, x: str, w: str, count: int) -> str:
        scale = (self.arrays[f"{x}_s"] * self.arrays[f"{w}_s"]).astype(np.float32)
        self.arrays |= {f"{name}_q": RNG.integers(-3000, 3000, count).astype(np.int32), f"{name}_s": scale}
        self.nodes.append(node("DequantizeLinear", f"{name}_q {name}_s", name, **({"axis": 0} if scale.ndim else {})))
        return name

    def add(self, op: str, inputs: str, output: str, **attributes: Any) -> str:
        self.nodes.append(node(op, inputs, output, name=f"{op}_{output}", **attributes))
        return output

    def model(self, shape: tuple[int, ...], opset: int = 15) -> onnx.ModelProto:
        return model_of(self.nodes, self.arrays, shape, opset)

    def load(self, folder: Path, shape: tuple[int, ...], opset: int = 15) -> tuple[Prepared, Imported]:
        return load(folder, self.model(shape, opset))


def one_conv(uint8: bool = False, **changes: np.ndarray) -> Qdq:
    """One convolution with its bias; `changes` are stored arrays that differ."""
    net = Qdq(uint8)
    x, w = net.quantised("x"), net.weight("w", 4, 3, 3, 3)
    net.quantised(net.add("Conv", f"{x} {w} {net.bias('b', 'x', 'w', 4)}", "c"), name="y")
    net.arrays |= changes
    return net


def true_layers(model: onnx.ModelProto, sample: Array) -> dict[str, Array]:
    """What onnxruntime makes of each integer tensor of a QDQ model, and of its output, by name."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    names = [n.output[0] for n in wide.graph.node if n.op_type == "QuantizeLinear"]
    end = wide.graph.output[0].name
    wide.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name != end)
    session = session_of(wide)
    outputs = [o.name for o in session.get_outputs()]
    return dict(zip(outputs, session.run(outputs, {wide.graph.input[0].name: sample}), strict=True))


def assert_layers_agree(prepared: Prepared, imported: Imported, sample: Array, reals: Array | None = None) -> int:
    """Each layer, given what onnxruntime gives it, is within one step on SHARE of its elements. Returns how many layers there are.

    `reals` is the sample where the model itself takes integers.
    """
    truth = true_layers(prepared.model, sample)
    places = {identifier(name): array for name, array in truth.items()}
    live: dict[Value, Array] = {v: v.data for v in imported.graph.stored(Role.CONST) if v.data is not None}
    live[imported.graph.inputs[0]] = (sample if reals is None else reals)[0].transpose(imported.input.perm).astype(np.float32)
    layers = 0
    for n in imported.graph.nodes:
        for v, array in zip(n.outputs, n.op.reference(*(live[v] for v in n.inputs)), strict=True):
            live[v] = array
            if v.name in places and array.dtype == np.int8:
                want = as_int8(places[v.name], array.shape)
                gap = np.abs(array.astype(np.int32) - want)
                assert (gap <= 1).mean() >= SHARE, f"{v!r}: {(gap > 1).mean():.2%} of the elements differ by up to {gap.max()}"
                live[v] = want.astype(np.int8)
                layers += 1
    end = prepared.model.graph.output[0].name
    got, want = live[imported.graph.outputs[0]], truth[end]
    if want.dtype == np.float32:
        bare = want.shape[1:] if want.shape[0] == 1 and want.ndim > 1 else want.shape
        np.testing.assert_allclose(got.reshape([bare[a] for a in imported.output.perm]).transpose(np.argsort(imported.output.perm)),
                                   want.reshape(bare), rtol=1e-4, atol=1e-5)
    return layers


def as_int8(array: Array, shape: tuple[int, ...]) -> Array:
    """An ONNX tensor of integers as we hold it: channels last, uint8 less 128."""
    numbers = array.astype(np.int32) - (128 if array.dtype == np.uint8 else 0)
    bare = numbers[0] if numbers.ndim > 1 and numbers.shape[0] == 1 else numbers
    moved = np.moveaxis(bare, 0, -1)
    same = [d for d in shape if d != 1] == [d for d in moved.shape if d != 1]
    return (moved if same else bare).reshape(shape)




def int8_dense(folder: Path) -> Path:
    """One dense layer from 5 to 3, in a file."""
    net = Qdq()
    net.quantised(net.add("Gemm", f"{net.quantised('x')} {net.weight('w', 3, 5)} {net.bias('b', 'x', 'w', 3)}", "z", transB=1), name="y")
    path = folder / "dense.onnx"
    path.write_bytes(net.model((1, 5)).SerializeToString())
    return path
