# SPDX-License-Identifier: Apache-2.0
"""lowrank: weights stay frozen, each has an adapter of low rank that learns (Hu et al., arXiv 2106.09685).

    y = W·x   →   y = W·x + B·(A·x)         A: rank rows, drawn from N(0, 1/fan-in); B: rank columns, zero at first

W may be int8: it stays in flash as it is, A and B are fp32, and the sum is rounded to int8 as y was, behind whose rounding (and whose ReLU,
which int8 layers contain) it is made. Of a convolution A has its kernel, and B is 1x1. The scheme says which layers have an adapter; one
that would be no smaller than the weight is not made, and that weight stays frozen. The last layer learns as a whole. Adapters are part of
the ONNX model, so that they infer too; a model that has some keeps them. Ranks are alike, or given by layer; `auto` stands for those that
samples choose under a budget (`search/ranks.py`), before the model is changed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.errors import SchemeError
from tinytrain.gradient.method import Method, Number
from tinytrain.gradient.methods.backprop import Backprop
from tinytrain.ir.graph import Graph
from tinytrain.ir.types import Array
from tinytrain.onnx_graph import LAYERS, Chain, OnnxGraph
from tinytrain.reading import plain
from tinytrain.schemes.scheme import Scheme, Select, layers, resolve

if TYPE_CHECKING:
    import onnx

DOWN, UP = "_down", "_up"                                 # behind the name of a layer: A and B
_RANK = r"[1-9][0-9]{0,3}"
_OF_LAYER = rf"(.+?)=({_RANK})(?:,|$)"


@dataclass(frozen=True)
class LowRank(Backprop):
    """`layers` are those whose weights the schemes name, in the model as it is. With `ranks` the layers there have adapters alone; 0 is a
    rank that is still to be chosen."""

    rank: int = 4
    ranks: tuple[tuple[str, int], ...] = ()
    layers: tuple[str, ...] = ()

    key = "lowrank"
    numbers = (Number("auto, LAYER=RANK,..., or a rank"),)
    by_layer = True

    @classmethod
    def of(cls, argument: str) -> Method:
        ranks = tuple((name, int(rank)) for name, rank in re.findall(_OF_LAYER, argument))
        if re.fullmatch(f"(?:{_OF_LAYER})+", argument) and not argument.endswith(",") and len(dict(ranks)) == len(ranks):
            return cls(ranks=ranks)
        return cls(0) if argument == "auto" else super().of(argument)

    @property
    def text(self) -> str:
        """As the command line has it."""
        ranks = ",".join(f"{name}={rank}" for name, rank in self.ranks)
        return f"{self.key}:{ranks or self.rank or 'auto'}"

    @property
    def is_auto(self) -> bool:
        return not (self.rank or self.ranks)

    def of_layers(self, names: Collection[str]) -> LowRank:
        return replace(self, layers=tuple(sorted(names)))

    def change_model(self, model: onnx.ModelProto, path: Path) -> bool:
        if self.is_auto:
            message = f"--method {self.text} chooses ranks by samples under a budget; here are none."
            raise SchemeError(message, hint="Compile with it, --data and --budget; that says what can be given in its place.")
        graph, random = OnnxGraph(model.graph), np.random.default_rng(0)
        found = {one.node.name: one for one in _adaptable(graph)}
        for name, rank in self.ranks:
            self._check(name, rank, graph, found.get(name))
        given = dict(self.ranks)
        chosen = {name: given.get(name, 0 if given else self.rank) for name in self.layers}
        added = {name: one for name, one in found.items() if 0 < chosen.get(name, 0) <= one.most}
        for name, one in added.items():
            _adapt(graph, one, chosen[name], random)
        return bool(added)

    def _check(self, name: str, rank: int, graph: OnnxGraph, found: Adaptable | None) -> None:
        """Raise SchemeError where a layer that is given a rank has and gets no adapter."""
        if name not in self.layers:
            why = "whose weight the scheme does not name" if name in graph.taken else "which the model does not have"
        elif found is None and name + DOWN not in graph.taken:
            why = "which has no adapter: it is the last, or depthwise, or small"
        elif found is not None and rank > found.most:
            why = f"whose adapter would be no smaller than its weight above {found.most}"
        else:
            return
        message = f"--method {self.key} gives rank {rank} to layer {plain(name)!r}, {why}."
        raise SchemeError(message, hint="Correct it, or --scheme.")

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
            message = f"--method {self.text} gives no layer of this scheme an adapter: none would be smaller than its weight."
            raise SchemeError(message, hint="Name more layers (--scheme last:6), or give a lower rank; depthwise layers have none.")
        return Scheme(trained, chosen.preset, rates)


@dataclass(frozen=True, eq=False)
class Adaptable:
    """A layer that can have an adapter: of `made` outputs, each from `read` inputs. Of a rank above `most` it would be no smaller than the
    weight, of which the first axis counts outputs, or else the last one does."""

    node: onnx.NodeProto
    weight: Array
    first: bool

    @property
    def made(self) -> int:
        return int(self.weight.shape[0 if self.first else -1])

    @property
    def read(self) -> int:
        return self.weight.size // self.made

    @property
    def most(self) -> int:
        return (self.weight.size - 1) // (self.made + self.read)


def adaptable(model: onnx.ModelProto) -> list[Adaptable]:
    """Layers of a prepared model that can have an adapter, and have none, in order."""
    return _adaptable(OnnxGraph(model.graph))


def _adaptable(graph: OnnxGraph) -> list[Adaptable]:
    weighted = [node for node in graph.proto.node if node.op_type in LAYERS and graph.is_stored(node.input[1])]
    found = []
    for node in weighted[:-1]:
        given, weight = {a.name: a.i for a in node.attribute}, graph.reals(node.input[1])
        matrix = weight.ndim == 2 or (weight.ndim > 2 and node.op_type == "Conv")
        simple = matrix and given.get("group", 1) == 1 and not given.get("transA")
        one = Adaptable(node, weight, node.op_type == "Conv" or given.get("transB", 0) == 1)
        if simple and one.most > 0 and node.name + DOWN not in graph.taken:
            found.append(one)
    return found


def _adapt(graph: OnnxGraph, layer: Adaptable, rank: int, random: np.random.Generator) -> None:
    """Give a layer an adapter, whose nodes stand right behind it."""
    from onnx import helper

    node, first, shape = layer.node, layer.first, layer.weight.shape
    down = random.normal(0, 1 / math.sqrt(layer.read), (rank, *shape[1:]) if first else (layer.read, rank)).astype(np.float32)
    up = np.zeros((layer.made, rank, *(1 for _ in shape[2:])) if first else (rank, layer.made), np.float32)
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


def _rounded(graph: OnnxGraph, node: onnx.NodeProto) -> onnx.NodeProto:
    """The DequantizeLinear that gives back what a layer makes in int8; the layer itself where there is none."""
    found = node
    for op_types in (("QuantizeLinear", "Relu", "Clip"), ("QuantizeLinear", "DequantizeLinear"), ("DequantizeLinear",)):
        if found.op_type != "DequantizeLinear":
            readers = graph.readers_of(found.output[0])
            if len(readers) != 1 or readers[0].op_type not in op_types:
                return node
            (found,) = readers
    return found if found.op_type == "DequantizeLinear" else node
