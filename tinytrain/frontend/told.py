# SPDX-License-Identifier: Apache-2.0
"""Shapes that follow from constants, but that ONNX's own inference leaves open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tinytrain.frontend.layout import Dims
from tinytrain.frontend.shapes import known_shapes
from tinytrain.ir.types import Array

if TYPE_CHECKING:
    import onnx


def _compress(node: onnx.NodeProto, x: Dims, further: Sequence[Array]) -> Dims:
    axis, count = next((a.i for a in node.attribute if a.name == "axis"), None), int(further[0].astype(bool).sum())
    if axis is None:
        return (count,)
    return tuple(count if a == axis % len(x) else size for a, size in enumerate(x))


def _max_unpool(node: onnx.NodeProto, x: Dims, further: Sequence[Array]) -> Dims:
    return tuple(int(n) for n in further[1].reshape(-1))


RULES: dict[str, Callable[[onnx.NodeProto, Dims, Sequence[Array]], Dims]] = {"Compress": _compress, "MaxUnpool": _max_unpool}


def tell_shapes(model: onnx.ModelProto) -> bool:
    """Write the shapes of such results into the model, in place; whether there were any. Inference then goes on from them."""
    from onnx import helper, numpy_helper

    known, stored = known_shapes(model.graph), {t.name: t for t in model.graph.initializer}
    told = False
    for node in model.graph.node:
        if node.op_type not in RULES or node.output[0] in known:
            continue
        x, *further = node.input
        if x in known and all(name in stored for name in further):
            shape = RULES[node.op_type](node, known[x], [numpy_helper.to_array(stored[name]) for name in further])
            value = next((o for o in model.graph.output if o.name == node.output[0]), None)
            model.graph.value_info.extend([helper.make_tensor_value_info(node.output[0], 1, shape)] if value is None else [])
            if value is not None:
                value.type.CopyFrom(helper.make_tensor_value_info(value.name, 1, shape).type)
            told = True
    return told
