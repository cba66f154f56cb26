# SPDX-License-Identifier: Apache-2.0
"""lowrank: weights stay frozen, each has an adapter of low rank that learns (Hu et al., arXiv 2106.09685).

    y = W·x   →   y = W·x + B·(A·x)         A: rank rows, drawn from N(0, 1/fan-in); B: rank columns, zero at first

W may be int8: it stays in flash as it is, A and B are fp32, and the sum is rounded to int8 as y was, behind whose rounding (and whose ReLU,
which int8 layers contain) it is made. Of a convolution A has its kernel, and B is 1x1. The scheme says which layers have an adapter; one
that would be no smaller than the weight is not made, and that weight stays frozen. The last layer learns as a whole. Adapters are part of
the ONNX model, so that they infer too; a model that has some keeps them.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.errors import SchemeError
from tinytrain.gradient.method import Number
from tinytrain.gradient.methods.backprop import Backprop
from tinytrain.ir.graph import Graph
from tinytrain.onnx_graph import LAYERS, Chain, OnnxGraph
from tinytrain.schemes.scheme import Scheme, Select, layers, resolve

if TYPE_CHECKING:
    import onnx

DOWN, UP = "_down", "_up"                                 # behind the name of a layer: A and B


@dataclass(frozen=True)
class LowRank(Backprop):
    """`layers` are those whose weights the schemes name, in the model as it is."""

    rank: int = 4
    layers: tuple[str, ...] = ()

    key = "lowrank"
    numbers = (Number("a rank"),)
    by_layer = True

    def of_layers(self, names: Collection[str]) -> LowRank:
        return replace(self, layers=tuple(sorted(names)))

    def change_model(self, model: onnx.ModelProto, path: Path) -> bool:
        graph, random = OnnxGraph(model.graph), np.random.default_rng(0)
        weighted = [node for node in model.graph.node if node.op_type in LAYERS and graph.is_stored(node.input[1])]
        chosen = [node for node in weighted[:-1] if node.name in self.layers and node.name + DOWN not in graph.taken]
        added = [self._adapt(graph, node, random) for node in chosen]
        return any(added)

    def _adapt(self, graph: OnnxGraph, node: onnx.NodeProto, random: np.random.Generator) -> bool:
        """An adapter for a layer, its nodes right behind it; False where it would be no smaller than the weight."""
        from onnx import helper

        weight, given = graph.reals(node.input[1]), {a.name: a.i for a in node.attribute}
        first = node.op_type == "Conv" or given.get("transB", 0) == 1        # the axis of what it makes is the first one
        made = weight.shape[0 if first else -1]
        read = weight.size // made
        plain = given.get("group", 1) == 1 and not given.get("transA") and weight.ndim >= 2 and (weight.ndim == 2 or node.op_type == "Conv")
        if not plain or self.rank * (made + read) >= weight.size:
            return False
        down = random.normal(0, 1 / math.sqrt(read), (self.rank, *weight.shape[1:]) if first else (read, self.rank)).astype(np.float32)
        up = np.zeros((made, self.rank, *(1 for _ in weight.shape[2:])) if first else (self.rank, made), np.float32)
        name, end = node.name, _rounded(graph, node)
        kept = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name not in ("alpha", "beta")}
        side = Chain(graph, node.input[0])
        side.then(node.op_type, name + DOWN, graph.store(f"{name}{DOWN}.weight", down), **kept)
        side.then(node.op_type, name + UP, graph.store(f"{name}{UP}.weight", up), **({} if node.op_type == "Conv" else kept))
        output, end.output[0] = end.output[0], graph.unique(f"{end.output[0]}_frozen")
        side.then("Add", f"{name}_adapted", end.output[0])
        if end is not node:
            side.then("QuantizeLinear", f"{name}_q", *end.input[1:]).then("DequantizeLinear", f"{name}_dq", *end.input[1:])
        side.nodes[-1].output[0] = output
        for behind, one in enumerate(side.nodes, list(graph.proto.node).index(end) + 1):
            graph.proto.node.insert(behind, one)
        return True

    def scheme(self, scheme: str | Scheme, graph: Graph) -> Scheme:
        names = {layer.name for layer in layers(graph)}
        adapted = {name for name in names if {name + DOWN, name + UP} <= names}
        own = graph.replace(nodes=tuple(n for n in graph.nodes if n.origin.removesuffix(DOWN).removesuffix(UP) not in adapted - {n.origin}))
        chosen, last = resolve(scheme, own), layers(own)[-1].name
        trained = {name: kinds for name, kinds in chosen.layers.items() if name == last}
        rates = {name: rate for name, rate in chosen.rates.items() if name == last}
        for name, kinds in chosen.layers.items():
            if name in adapted and "weight" in kinds:
                trained |= {name + end: {"weight": Select()} for end in (DOWN, UP)}
                rates |= {name + end: chosen.rates[name] for end in (DOWN, UP) if name in chosen.rates}
        if set(trained) <= {last}:
            message = f"--method lowrank:{self.rank} gives no layer of this scheme an adapter: none would be smaller than its weight."
            raise SchemeError(message, hint="Name more layers (--scheme last:6), or give a lower rank; depthwise layers have none.")
        return Scheme(trained, chosen.preset, rates)


def _rounded(graph: OnnxGraph, node: onnx.NodeProto) -> onnx.NodeProto:
    """The DequantizeLinear that gives back what a layer makes in int8; the layer itself where there is none."""
    found = node
    for op_types in (("QuantizeLinear", "Relu", "Clip"), ("QuantizeLinear", "DequantizeLinear"), ("DequantizeLinear",)):
        if found.op_type != "DequantizeLinear":
            readers = [one for one in graph.proto.node if found.output[0] in one.input]
            if len(readers) != 1 or readers[0].op_type not in op_types:
                return node
            (found,) = readers
    return found if found.op_type == "DequantizeLinear" else node
