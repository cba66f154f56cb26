# SPDX-License-Identifier: Apache-2.0
"""Small valid ONNX models of every form, and seeded damage to them: to the bytes of the file, or to single fields of the protobuf."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from frontend_models import model_of, node
from google.protobuf.message import Message
from onnx import helper, numpy_helper
from onnx_models import ModelMaker
from quant_models import Qdq

INTEGERS = (0, 1, -1, 2, 3, 5, 7, 8, 16, 100, 1000, 2**16, 2**31 - 1, 2**31, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63))
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-40, 1e-20, 1e20, 3e38, -3e38, float("inf"), -float("inf"), float("nan"))
OPS = (
    "Conv", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "Softmax", "MaxPool",
    "AveragePool", "GlobalAveragePool", "ReduceMean", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Pad",
    "Identity", "Dropout", "QuantizeLinear", "DequantizeLinear", "QLinearConv", "BatchNormalization", "Cast", "If", "Loop", "NoSuchOp", "",
)
NAMES = ("", "x", "y", "a" * 5000, "bell\x07 and \x1b[31mred", "two\nlines", 'a"; /* ', "*/ }", "%s{0}", "名前", "../../etc", "\x00")
ATTRIBUTES: dict[str, tuple[Any, ...]] = {
    "axis": (0, 1, 2, -1, -3, 9), "alpha": FLOATS, "beta": FLOATS, "epsilon": FLOATS, "ceil_mode": (0, 1, 2),
    "auto_pad": ("SAME_UPPER", "SAME_LOWER", "VALID", "?"), "group": (0, 1, 2, 4, -1), "dilations": ([2, 2], [1], [0, 0], [1, 3]),
    "pads": ([1, 0, 0, 2], [1], [-1, 0, 0, 0]), "training_mode": (0, 1), "mode": ("reflect", "edge"), "allowzero": (0, 1),
    "strides": ([2, 1], [0, 0], [3], [100, 100]), "kernel_shape": ([2, 2], [1, 1], [0, 0], [9, 9], [3]), "keepdims": (0, 1, 2),
    "transA": (0, 1), "transB": (0, 1), "count_include_pad": (0, 1), "perm": ([0, 1], [1, 0], [0, 3, 2, 1], [0, 0]),
    "noop_with_empty_axes": (0, 1), "block_size": (2,), "axes": ([0], [-1], [1, 2], [9]),
}
INSERTED: tuple[tuple[str, tuple[str, ...], dict[str, Any]], ...] = (
    *((op, (), {}) for op in ("Relu", "Softmax", "Transpose", "Squeeze", "Dropout", "Shape", "GlobalMaxPool", "HardSwish", "HardSigmoid")),
    *((op, (), {}) for op in ("LogSoftmax", "GlobalAveragePool", "Identity", "Flatten")),
    *((op, ("?",), {}) for op in ("Add", "Mul", "Sub", "MatMul", "Reshape", "Unsqueeze")),
    *((op, ("?", "?"), {}) for op in ("Gemm", "Pad", "QuantizeLinear", "DequantizeLinear")),
    ("Softmax", (), {"axis": 0}), ("Flatten", (), {"axis": 0}), ("Flatten", (), {"axis": 2}), ("Concat", ("?",), {"axis": 0}),
    ("Concat", ("?",), {"axis": 1}), ("Clip", ("?", ""), {}), ("Clip", ("", "?"), {}), ("ReduceMean", (), {"keepdims": 0}),
    ("LeakyRelu", (), {"alpha": 0.5}), ("Cast", (), {"to": 7}), ("BatchNormalization", ("?", "?", "?", "?"), {}),
    ("MaxPool", (), {"kernel_shape": [2, 2]}), ("AveragePool", (), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
)
OPSET = 21                                                # of quantised models: the evaluator of onnx knows none before
LABELS = {"op_type": OPS, "domain": ("", "ai.onnx", "com.microsoft", "kept", "no.such")}


def _float_cnn() -> onnx.ModelProto:
    net = ModelMaker(1, 2, 8, 8)
    net.conv(4, 2, pads=[1, 1, 1, 1])
    net.batch_norm(4)
    kept = net.node("Relu")
    net.node("Conv", net.weight(4, 1, 3, 3), net.weight(4), group=4, pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    net.node("Clip", net.stored(np.float32(0)), net.stored(np.float32(6)))
    net.node("Add", kept)
    net.node("Pad", net.stored(np.array([0, 0, 1, 0, 0, 0, 0, 1])), net.stored(np.float32(-1)))
    net.node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    net.node("AveragePool", kernel_shape=[2, 2])
    net.node("Reshape", net.stored(np.array([1, -1])))
    net.dense(5, 36)
    net.node("Softmax", axis=1)
    return net.model()


def _float_dense() -> onnx.ModelProto:
    net = ModelMaker(1, 3, 4)
    net.node("Transpose", perm=[0, 2, 1])
    net.node("MatMul", net.weight(3, 6))
    net.node("Add", net.weight(6))
    left = net.node("LeakyRelu", alpha=0.1)
    net.node("Mul", net.weight(4, 1))
    net.node("Concat", left, axis=2)
    net.node("Dropout", net.stored(np.float32(0.25)))
    net.node("ReduceMean", axes=[1], keepdims=1)
    net.node("Squeeze", net.stored(np.array([1])))
    net.node("Sub", net.stored(np.float32(0.5)))
    net.node("Sigmoid")
    net.node("Gemm", net.weight(12, 3), net.weight(3), alpha=0.5, beta=2.0)
    net.node("Tanh")
    return net.model()


def _qdq() -> onnx.ModelProto:
    net = Qdq()
    x, w = net.quantised("x"), net.weight("w", 4, 2, 3, 3)
    c = net.add("Relu", net.add("Conv", f"{x} {w} {net.bias('b', 'x', 'w', 4)}", "c", pads=[1, 1, 1, 1]), "r")
    p = net.quantised(net.add("MaxPool", net.quantised(c), "p", kernel_shape=[2, 2], strides=[2, 2]))
    s = net.quantised(net.add("Add", f"{p} {p}", "s"))
    g = net.quantised(net.add("GlobalAveragePool", s, "g"))
    f, v = net.add("Flatten", g, "f"), net.weight("v", 5, 4)
    net.quantised(net.add("Gemm", f"{f} {v}", "z", transB=1), name="y")
    return net.model((1, 2, 6, 6), OPSET)


def _qoperator() -> onnx.ModelProto:
    rng = np.random.default_rng(3)
    arrays = {name: np.array(scale, np.float32) for name, scale in (("xs", 0.02), ("ws", 0.01), ("cs", 0.03), ("ms", 0.002), ("os", 0.05))}
    arrays |= {name: np.array(zero, np.uint8) for name, zero in (("xz", 120), ("cz", 3), ("oz", 130))}
    arrays |= {"wz": np.array(0, np.int8), "mz": np.array(0, np.int8), "shape": np.array([1, 48])}
    arrays |= {"w": rng.integers(-127, 128, (3, 2, 3, 3)).astype(np.int8), "m": rng.integers(-127, 128, (48, 4)).astype(np.int8)}
    arrays["b"] = rng.integers(-500, 500, 3).astype(np.int32)
    nodes = [
        node("QuantizeLinear", "x xs xz", "xq"), node("QLinearConv", "xq xs xz w ws wz cs cz b", "cq"), node("Reshape", "cq shape", "fq"),
        node("QLinearMatMul", "fq cs cz m ms mz os oz", "oq"), node("DequantizeLinear", "oq os oz", "y"),
    ]
    return model_of(nodes, arrays, (1, 2, 6, 6), OPSET)


MODELS = {"cnn": _float_cnn(), "dense": _float_dense(), "qdq": _qdq(), "qoperator": _qoperator()}


def damaged(name: str, seed: int) -> bytes:
    """The content of a file that was a valid model: with damaged bytes, or with one to three changes of fields or of meaning."""
    rng = random.Random(f"{name} {seed}")
    if rng.random() < 0.15:
        return _bytes(MODELS[name].SerializeToString(), rng)
    model = onnx.ModelProto()
    model.CopyFrom(MODELS[name])
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice((_change, _twist, _twist))(model, rng)
    return model.SerializeToString()


def _bytes(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    kind = rng.choice(("flip", "flip", "flips", "delete", "truncate", "repeat", "replace"))
    at = rng.randrange(len(data))
    if kind in ("flip", "flips"):
        for _ in range(1 if kind == "flip" else 20):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "delete":
        del data[at : at + rng.choice((1, 2, 8, 100))]
    elif kind == "truncate":
        del data[at:]
    elif kind == "repeat":
        data[at:at] = data[at : at + rng.choice((1, 4, 50))]
    else:
        data[at : at + 4] = rng.randbytes(4)
    return bytes(data)


def _twist(model: onnx.ModelProto, rng: random.Random) -> None:
    """A change that onnx.checker may well accept: another tensor, attribute, op, operand or shape."""
    graph = model.graph
    rng.choice((_other_tensor, _other_attribute, _other_node, _other_node, _other_ends))(graph, rng)


def _other_tensor(graph: onnx.GraphProto, rng: random.Random) -> None:
    """Other numbers, another shape, or both."""
    if not graph.initializer:
        return
    tensor = rng.choice(graph.initializer)
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError):                       # an earlier change has damaged it
        return
    kind = rng.choice(("shape", "shape", "numbers", "one", "type", "lengthen"))
    if kind == "shape":
        n = array.size
        array = array.reshape(rng.choice((array.shape[::-1], (n,), (1, *array.shape), (*array.shape, 1), (1, n), (n, 1))))
    elif kind == "one":
        array = array.reshape(-1)[:1].reshape(rng.choice(((), (1,), (1, 1))))
    elif kind == "type":
        array = array.astype(rng.choice((np.float32, np.int64, np.int32, np.int8, np.uint8, np.float64, np.float16, np.bool_)))
    elif kind == "lengthen":
        array = np.concatenate([array.reshape(-1), array.reshape(-1)])[: array.size + rng.choice((-1, 1))]
    elif array.dtype.kind == "f":
        array = array.copy()
        array.reshape(-1)[rng.randrange(max(array.size, 1)) :][:1] = rng.choice(FLOATS)
    else:
        array = (array.astype(np.int64) + rng.choice((-2, -1, 1, 2, 127))).clip(-128, 255).astype(array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))


def _other_attribute(graph: onnx.GraphProto, rng: random.Random) -> None:
    """Added, or with another value of its kind."""
    if not graph.node:
        return
    chosen = rng.choice(graph.node)
    if not chosen.attribute or rng.random() < 0.4:
        known = onnx.defs.get_schema(chosen.op_type).attributes if onnx.defs.has(chosen.op_type) else {}
        name = rng.choice([a for a in ATTRIBUTES if a in known] or list(ATTRIBUTES))
        kept = [a for a in chosen.attribute if a.name != name]
        del chosen.attribute[:]
        chosen.attribute.extend([*kept, helper.make_attribute(name, rng.choice(ATTRIBUTES[name]))])
        return
    attribute = rng.choice(chosen.attribute)
    if attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice((0, 1, 2, 3, 4, 5, -1, 7, 100, 2**31))
    elif attribute.type == onnx.AttributeProto.FLOAT:
        attribute.f = rng.choice(FLOATS)
    else:
        attribute.i = rng.choice((0, 1, 2, 3, -1, -2, 4, 100))


def _other_node(graph: onnx.GraphProto, rng: random.Random) -> None:
    """Another op, another operand, one more node, or one less."""
    if not graph.node:
        return
    at = rng.randrange(len(graph.node))
    chosen = graph.node[at]
    before = [name for n in graph.node[:at] for name in n.output] + [v.name for v in graph.input] + [t.name for t in graph.initializer]
    kind = rng.choice(("op", "operand", "operand", "more", "more", "less"))
    if kind == "op":
        chosen.op_type = rng.choice(OPS)
    elif kind == "operand" and chosen.input:
        chosen.input[rng.randrange(len(chosen.input))] = rng.choice(before)
    elif kind == "less" and chosen.input and chosen.output:
        for n in graph.node:
            n.input[:] = [chosen.input[0] if name == chosen.output[0] else name for name in n.input]
        if chosen.output[0] not in {o.name for o in graph.output}:
            del graph.node[at]
    elif chosen.input:
        op, more, attributes = rng.choice(INSERTED)
        extra = [rng.choice(before) if name == "?" else name for name in more]
        graph.node.insert(at, helper.make_node(op, [chosen.input[0], *extra], [f"made_{len(graph.node)}"], **attributes))
        graph.node[at + 1].input[0] = graph.node[at].output[0]


def _other_ends(graph: onnx.GraphProto, rng: random.Random) -> None:
    """Another shape of the input, or another output."""
    if rng.random() < 0.5 and graph.input:
        dims = graph.input[0].type.tensor_type.shape.dim
        if dims:
            rng.choice(dims).dim_value = rng.choice((0, 1, 2, 3, 4, 7, 100, -1, 2**31, 2**40))
    elif graph.node and graph.output and rng.choice(graph.node).output:
        made = rng.choice(graph.node).output
        graph.output[0].CopyFrom(onnx.ValueInfoProto(name=made[0] if made else "y"))
        graph.output[0].type.tensor_type.elem_type = 1
        graph.output[0].type.tensor_type.shape.SetInParent()


def _messages(message: Message) -> Iterator[Message]:
    """A message and all that it holds."""
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in value if hasattr(value, "extend") else [value]:
                yield from _messages(part)


def _change(model: onnx.ModelProto, rng: random.Random) -> None:
    """Change one field anywhere: another value, one more, one less, or none."""
    places = [(message, field) for message in _messages(model) for field, _ in message.ListFields()]
    message, field = rng.choice(places)
    if rng.random() < 0.1:                                # a field that nobody set
        field = rng.choice(message.DESCRIPTOR.fields)
    repeated, composed = hasattr(getattr(message, field.name), "extend"), field.type == field.TYPE_MESSAGE
    try:
        if rng.random() < 0.1:
            message.ClearField(field.name)
        elif repeated:
            _change_list(getattr(message, field.name), field, composed, model, rng)
        elif composed:
            getattr(message, field.name).SetInParent()
        else:
            setattr(message, field.name, _other(getattr(message, field.name), field, model, rng))
    except (ValueError, TypeError):                       # the library refuses an enumerator that does not exist
        message.ClearField(field.name)


def _change_list(held: Any, field: Any, composed: bool, model: onnx.ModelProto, rng: random.Random) -> None:
    kind, at = rng.choice(("value", "less", "more", "swap")), rng.randrange(len(held)) if len(held) else 0
    if not len(held):
        held.add() if composed else held.append(_other(field.default_value or _zero(field), field, model, rng))
    elif kind == "less":
        del held[at]
    elif kind == "more":
        held.add().CopyFrom(held[at]) if composed else held.append(_other(held[at], field, model, rng))
    elif kind == "swap" or composed:
        other = rng.randrange(len(held))
        values = list(held)
        values[at], values[other] = values[other], values[at]
        values = [type(v).FromString(v.SerializeToString()) for v in values] if composed else values
        del held[:]
        held.extend(values)
    else:
        held[at] = _other(held[at], field, model, rng)


def _zero(field: Any) -> Any:
    return {field.TYPE_STRING: "", field.TYPE_BYTES: b"", field.TYPE_FLOAT: 0.0, field.TYPE_DOUBLE: 0.0}.get(field.type, 0)


def _other(value: Any, field: Any, model: onnx.ModelProto, rng: random.Random) -> Any:
    if isinstance(value, str):
        names = [part for n in model.graph.node for part in (*n.input, *n.output)] + [t.name for t in model.graph.initializer]
        return rng.choice(LABELS.get(field.name, (*NAMES, *names, *names, *names)))
    if isinstance(value, bytes):
        other = _bytes(value, rng) if value else b"SAME_UPPER"
        return rng.choice((b"", value[:-1], value + b"\x00", value * 2, other, b"VALID", b"\xff\xfe"))
    if isinstance(value, float):
        return rng.choice((*FLOATS, -value, value * 2))
    near = (value + 1, value - 1, value * 2, -value)
    return rng.choice((*INTEGERS, *near, *near)) if field.type == field.TYPE_INT64 else rng.choice((*range(25), *near, -1, 1000, 2**31 - 1))
