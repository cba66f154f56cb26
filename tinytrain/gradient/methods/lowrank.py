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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.errors import ModelError, SchemeError
from tinytrain.gradient.method import Method, Number
from tinytrain.gradient.methods.backprop import Backprop
from tinytrain.ir.graph import Graph
from tinytrain.ir.types import Array
from tinytrain.onnx_graph import LAYERS, Chain, OnnxGraph
from tinytrain.reading import plain
from tinytrain.schemes.scheme import Scheme, Select, layers, resolve, weights_of

if TYPE_CHECKING:
    import onnx

DOWN, UP, END = "_down", "_up", "_adapted"                # behind the name of a layer: A, B, and the sum
RANK = 4                                                  # where none is given
_RANK = r"[1-9][0-9]{0,3}"
_OF_LAYER = rf"(.+?)=({_RANK})(?:,|$)"


@dataclass(frozen=True)
class LowRank(Backprop):
    """`layers` are those whose weights the schemes name. With `ranks` the layers there have adapters alone; rank 0 is
    still to be chosen, None is RANK, or what adapters have that are there."""

    rank: int | None = None
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
        argument = ranks or ("auto" if self.is_auto else self.rank)
        return f"{self.key}:{argument}" if argument else self.key

    @property
    def is_auto(self) -> bool:
        return self.rank == 0 and not self.ranks

    def of_schemes(self, schemes: Sequence[str | Scheme], graph: Graph) -> LowRank:
        return replace(self, layers=tuple(sorted(weights_of(schemes, _own(graph)[0]))))

    def change_model(self, model: onnx.ModelProto, path: Path) -> bool:
        if self.is_auto:
            message = f"--method {self.text} chooses ranks by samples under a budget; here are none."
            raise SchemeError(message, hint="Compile with it, --data and --budget; that says what can be given in its place.")
        graph, random = OnnxGraph(model.graph), np.random.default_rng(0)
        found, there = {one.node.name: one for one in _adaptable(graph)}, _adapters(graph)
        for name, rank in self.ranks:
            self._check(name, rank, graph, found.get(name))
        given = dict(self.ranks)
        asked = {name: given.get(name) if given else self.rank for name in self.layers}
        if other := next((name for name in there if asked.get(name) not in (None, there[name])), None):
            message = f"--method {self.text} asks for rank {asked[other]} in {plain(other)!r}: it has an adapter of rank {there[other]}."
            raise SchemeError(message, hint="Leave the rank out to keep it, or give the model without adapters.")
        chosen = {name: (0 if given else RANK) if rank is None else rank for name, rank in asked.items()}
        added = {name: one for name, one in found.items() if 0 < chosen.get(name, 0) <= one.most}
        if other := next((name + end for name in added for end in (DOWN, UP, END) if name + end in graph.taken), None):
            message = f"--method {self.text} does not fit {path}: {plain(other)!r} is called as what the method adds."
            raise ModelError(message, hint="Rename it, or leave its layer out of the scheme.")
        for name, one in added.items():
            _adapt(graph, one, chosen[name], random)
        return bool(added)

    def _check(self, name: str, rank: int, graph: OnnxGraph, found: Adaptable | None) -> None:
        """Raise SchemeError where a layer that is given a rank has and gets no adapter."""
        if name not in self.layers:
            why = "whose weight the scheme does not name" if name in graph.taken else "which the model does not have"
        elif found is None and name not in _adapters(graph):
            why = "which has no adapter: it is the last, or depthwise, or small"
        elif found is not None and rank > found.most:
            why = f"whose adapter would be no smaller than its weight above {found.most}"
        else:
            return
        message = f"--method {self.key} gives rank {rank} to layer {plain(name)!r}, {why}."
        raise SchemeError(message, hint="Correct it, or --scheme.")

    def scheme(self, scheme: str | Scheme, graph: Graph) -> Scheme:
        own, adapted = _own(graph)
        chosen, last = resolve(scheme, own), layers(own)[-1].name
        trained = {name: kinds for name, kinds in chosen.layers.items() if name == last}
        rates = {name: rate for name, rate in chosen.rates.items() if name == last}
        others = {name: kinds for name, kinds in chosen.layers.items() if name != last}
        parts = (f"{kind} of {name}" for name, kinds in others.items() for kind, select in kinds.items() if not select.whole)
        if part := next(parts, None):
            message = f"--method {self.text} puts an adapter beside whole weights; this scheme takes a part of the {plain(part)}."
            raise SchemeError(message, hint="Name it whole in the scheme, or leave out --method.")
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


def _own(graph: Graph) -> tuple[Graph, set[str]]:
    """The graph without adapters, as schemes see it, and the names of the layers that have one."""
    origins = {node.origin for node in graph.nodes}
    adapted = _with_adapters(origins)
    added = {name + end for name in adapted for end in (DOWN, UP)}
    return graph.replace(nodes=tuple(node for node in graph.nodes if node.origin not in added)), adapted


def _with_adapters(names: set[str]) -> set[str]:
    """Of names of nodes, those of layers that have an adapter."""
    return {name for name in names if {name + DOWN, name + UP, name + END} <= names}


def _adapters(graph: OnnxGraph) -> dict[str, int]:
    """Layers that have an adapter, and its rank."""
    nodes = {node.name: node for node in graph.proto.node}
    ups = {name: nodes[name + UP] for name in _with_adapters(set(nodes))}
    return {name: _layer(graph, up).read for name, up in sorted(ups.items())}


def adaptable(model: onnx.ModelProto) -> list[Adaptable]:
    """Layers of a prepared model that can have an adapter, and have none, in order."""
    return _adaptable(OnnxGraph(model.graph))


def _adaptable(graph: OnnxGraph) -> list[Adaptable]:
    weighted = [node for node in graph.proto.node if node.op_type in LAYERS and graph.is_stored(node.input[1])]
    known = {name + end for name in _adapters(graph) for end in ("", DOWN, UP)}
    found = []
    for node in weighted[:-1]:
        given, one = {a.name: a.i for a in node.attribute}, _layer(graph, node)
        matrix = one.weight.ndim == 2 or (one.weight.ndim > 2 and node.op_type == "Conv")
        simple = matrix and given.get("group", 1) == 1 and not given.get("transA")
        if simple and one.most > 0 and node.name not in known:
            found.append(one)
    return found


def _layer(graph: OnnxGraph, node: onnx.NodeProto) -> Adaptable:
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return Adaptable(node, graph.reals(node.input[1]), node.op_type == "Conv" or transposed)


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
