# SPDX-License-Identifier: Apache-2.0
"""Random chains with QuantizeLinear and DequantizeLinear strewn in: whatever becomes integers or stays real, the result is that of ONNX."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend_models import Arrays, f32, infer, load, model_of, node
from hypothesis import given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from oracle_session import session_of
from test_frontend_random import Chain, chains

pytest.importorskip("onnxruntime")

# a step of 1/255 of a range that differs by rounding grows in sums and products behind it
TOLERANCE = 0.06


def values_of(model: onnx.ModelProto, sample: np.ndarray) -> Arrays:
    """Every tensor that the model computes."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    names = [name for n in wide.graph.node for name in n.output]
    del wide.graph.output[:]
    wide.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return dict(zip(names, ReferenceEvaluator(wide).run(None, {"x": sample}), strict=True)) | {"x": sample}


class Quantiser:
    """Rewrites the nodes of a chain: computed tensors and constants pass through integers where `draw` says so."""

    def __init__(self, draw: st.DrawFn, chain: Chain, sample: np.ndarray) -> None:
        self.draw = draw
        self.arrays = dict(chain.arrays)
        self.nodes: list[onnx.NodeProto] = []
        self.dtype = draw(st.sampled_from([np.int8, np.uint8]))
        self.values = values_of(model_of(chain.nodes, chain.arrays, chain.start), sample)
        self.often = draw(st.sampled_from([0.7, 1.0]))
        self.real = {"x": self.activation("x")}
        for n in chain.nodes:
            inputs = [self.operand(n, i, name) for i, name in enumerate(n.input)]
            made = onnx.NodeProto()
            made.CopyFrom(n)
            made.input[:] = inputs
            self.nodes.append(made)
            self.real[n.output[0]] = self.activation(n.output[0])

    def sometimes(self) -> bool:
        return self.draw(st.floats(0, 1)) <= self.often

    def activation(self, name: str) -> str:
        if not self.sometimes():
            return name
        low, high = min(0.0, float(self.values[name].min())), max(0.0, float(self.values[name].max()))
        info = np.iinfo(self.dtype)
        scale = np.float32(max(high - low, 0.1) / 255)
        zero = int(np.clip(np.rint(info.min - low / scale), info.min, info.max))
        return self.stand_for(name, scale, np.array(zero, self.dtype))

    def stand_for(self, name: str, scale: np.ndarray, zero: np.ndarray, **axis: int) -> str:
        self.arrays |= {f"{name}_s": np.array(scale, np.float32), f"{name}_z": zero}
        self.nodes.append(node("QuantizeLinear", f"{name} {name}_s {name}_z", f"{name}_q", f"{name}_q", **axis))
        self.nodes.append(node("DequantizeLinear", f"{name}_q {name}_s {name}_z", f"{name}_d", f"{name}_d", **axis))
        return f"{name}_d"

    def operand(self, n: onnx.NodeProto, index: int, name: str) -> str:
        if name not in self.arrays:
            return self.real[name]
        array = self.arrays[name]
        if n.op_type not in ("MatMul", "Conv", "Add", "Sub", "Mul") or array.dtype != np.float32 or not self.sometimes():
            return name
        if n.op_type in ("MatMul", "Conv") and self.draw(st.booleans()):
            axis = 0 if n.op_type == "Conv" else 1
            scale = np.maximum(np.abs(array).max(axis=tuple(a for a in range(array.ndim) if a != axis)), 0.01) / 127
            return self.stand_for(name, scale, np.zeros(scale.shape, np.int8), axis=axis)
        scale = max(float(np.abs(array).max()), 0.01) / 127
        return self.stand_for(name, np.array(scale), np.array(0, np.int8))


@given(st.data(), chains())
def test_any_quantised_chain_is_near_onnx(data: st.DataObject, chain: Chain) -> None:
    sample = f32(*chain.start)
    made = Quantiser(data.draw, chain, sample)
    end = made.real[chain.nodes[-1].output[0]]
    for n in made.nodes:
        n.output[:] = ["y" if name == end else name for name in n.output]
    model = model_of(made.nodes, made.arrays, chain.start)
    want = session_of(model).run(None, {"x": sample})[0]
    with tempfile.TemporaryDirectory() as folder:
        _, imported = load(Path(folder), model)
    got = infer(imported, sample)
    assert got.shape == want.shape
    reach = max(float(np.abs(want).max()), 0.1)
    assert float(np.abs(got - want).max()) <= TOLERANCE * reach, f"{imported.float_islands}"
