# SPDX-License-Identifier: Apache-2.0
"""What exporters of scikit-learn write beside ONNX's own ops (domain ai.onnx.ml): linear models, scalers and normalisers become ops that
handlers know; of a classifier's outputs the label goes, which names what the device numbers, and probabilities by name become a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tinytrain.ir.types import Array

if TYPE_CHECKING:
    import onnx

DOMAIN = "ai.onnx.ml"
NAMING = ("ArrayFeatureExtractor", "LinearClassifier", "LabelEncoder")
LABELS = (6, 7, 8)                                        # element types of ONNX: int32, int64, string
BEHIND = {"NONE": None, "SOFTMAX": "Softmax", "LOGISTIC": "Sigmoid"}
Rewriting = Callable[["_Node"], "list[onnx.NodeProto] | None"]


class _Node:
    """A node of that domain: its attributes, and what stands in its place."""

    def __init__(self, node: onnx.NodeProto, graph: onnx.GraphProto) -> None:
        from onnx import helper

        self.node, self.graph = node, graph
        self.attributes: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}

    def text(self, name: str, default: str) -> str:
        return str(self.attributes.get(name, default.encode()).decode())

    def stored(self, name: str, array: Array, *shape: int) -> str:
        from onnx import numpy_helper

        called = f"{self.node.name}_{name}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(array, np.float32).reshape(shape), called))
        return called

    def chain(self, output: str, *ops: tuple[Any, ...]) -> list[onnx.NodeProto]:
        """Nodes behind each other of (op, further operands, attributes)."""
        from onnx import helper

        made, at = [], self.node.input[0]
        for number, (op, further, attributes) in enumerate(ops, start=1):
            to = output if number == len(ops) else f"{output}/{op}"
            made.append(helper.make_node(op, [at, *further], [to], f"{self.node.name}/{op}", **attributes))
            at = to
        return made

    def linear(self, rows: int, output: str) -> list[onnx.NodeProto] | None:
        """Of two classes whose rows differ in their signs alone, σ(−z) and σ(z) are the softmax of −z/2 and z/2: a loss knows that."""
        given = [np.array(self.attributes.get(name, ())) for name in ("coefficients", "intercepts")]
        behind = self.text("post_transform", "NONE")
        if not rows or any(array.size % rows for array in given) or behind not in BEHIND:
            return None
        if behind == "LOGISTIC" and rows == 2 and all((a == -b).all() for a, b in (np.split(array, 2) for array in given)):
            behind, given = "SOFTMAX", [array / 2 for array in given]
        operands = [self.stored("coefficients", given[0], rows, -1)]
        operands += [self.stored("intercepts", given[1], rows)] if given[1].size else []
        last = [(BEHIND[behind], (), {"axis": -1} if behind == "SOFTMAX" else {})] if BEHIND[behind] else []
        return self.chain(output, ("Gemm", operands, {"transB": 1}), *last)


def _regressor(n: _Node) -> list[onnx.NodeProto] | None:
    return n.linear(n.attributes.get("targets", 1), n.node.output[0])


def _classifier(n: _Node) -> list[onnx.NodeProto] | None:
    """Its second output; the first one must be nobody's any more, and each class have a row of coefficients."""
    classes = len(n.attributes.get("classlabels_ints") or n.attributes.get("classlabels_strings") or ())
    label_is_read = any(n.node.output[0] in node.input for node in n.graph.node)
    return None if label_is_read or len(n.attributes.get("intercepts", ())) not in (0, classes) else n.linear(classes, n.node.output[1])


def _scaler(n: _Node) -> list[onnx.NodeProto] | None:
    """By literals: what was measured of the data is not learned."""
    from onnx import helper

    names = {name: f"{n.node.name}_{name}" for name in ("offset", "scale")}
    numbers = {name: list(n.attributes.get(name) or [float(name == "scale")]) for name in names}
    literals = [helper.make_node("Constant", [], [called], value_floats=numbers[name]) for name, called in names.items()]
    return [*literals, *n.chain(n.node.output[0], ("Sub", [names["offset"]], {}), ("Mul", [names["scale"]], {}))]


def _normalizer(n: _Node) -> list[onnx.NodeProto] | None:
    """Of what a Softmax has made a row whose sum is 1 nothing changes."""
    maker = next((node for node in n.graph.node if n.node.input[0] in node.output), None)
    norm = n.text("norm", "MAX")
    softmax = maker is not None and any(a.name == "post_transform" and a.s == b"SOFTMAX" for a in maker.attribute)
    if norm == "L1" and (softmax or (maker is not None and maker.op_type == "Softmax")):
        return n.chain(n.node.output[0], ("Identity", (), {}))
    return n.chain(n.node.output[0], ("LpNormalization", (), {"axis": -1, "p": int(norm[1])})) if norm in ("L1", "L2") else None


def _zip_map(n: _Node) -> list[onnx.NodeProto] | None:
    return n.chain(n.node.output[0], ("Identity", (), {}))


REWRITTEN: dict[str, Rewriting] = {
    "LinearRegressor": _regressor, "LinearClassifier": _classifier, "Scaler": _scaler, "Normalizer": _normalizer, "ZipMap": _zip_map,
}


def rewrite_classic(graph: onnx.GraphProto) -> list[str]:
    """In place; and what to say of it. What cannot be rewritten stays, and is refused later."""
    notes = _without_labels(graph)
    for output in graph.output:
        if output.type.WhichOneof("value") == "sequence_type" and _made_by(graph, output.name, "ZipMap"):
            output.type.Clear()
            output.type.tensor_type.elem_type = 1
            notes.append(f"output {output.name} is a row of numbers, in the order of the classes that the file names")
    rewritten = {}
    for node in graph.node:
        rewriting = REWRITTEN.get(node.op_type) if node.domain == DOMAIN else None
        rewritten[node.output[0]] = (rewriting(_Node(node, graph)) if rewriting else None) or [node]
    copies = [type(node).FromString(node.SerializeToString()) for old in graph.node for node in rewritten[old.output[0]]]
    del graph.node[:]
    graph.node.extend(copies)
    return notes


def _made_by(graph: onnx.GraphProto, name: str, op: str) -> bool:
    return any(name in node.output and node.op_type == op for node in graph.node)


def _without_labels(graph: onnx.GraphProto) -> list[str]:
    """A classifier's label goes where its scores are an output too, with the nodes that make it alone."""
    makers = {name: node for node in graph.node for name in node.output if name}

    def names_classes(name: str) -> bool:
        node = makers.get(name)
        return node is not None and ((node.domain == DOMAIN and node.op_type in NAMING) or any(map(names_classes, node.input)))

    labels = [o for o in graph.output if o.type.tensor_type.elem_type in LABELS and names_classes(o.name)]
    if not labels or len(labels) == len(graph.output):
        return []
    for output in labels:
        graph.output.remove(output)
    _drop_unread(graph)
    return [f"output {output.name} is left out: the label is the place of the largest of the other" for output in labels]


def _drop_unread(graph: onnx.GraphProto) -> None:
    wanted, kept = {o.name for o in graph.output}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(type(node).FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(reversed(kept))
