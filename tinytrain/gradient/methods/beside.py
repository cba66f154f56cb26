# SPDX-License-Identifier: Apache-2.0
"""What methods have in common that put a small network beside a frozen one: it reads maps of that and adds to its scores.

Maps are pooled to GRID rows and columns while they are still int8, if they are. What is put there is part of the ONNX model, so that it
infers too; a model that has it already keeps it, where it is the one that is asked for. The model's own last layer learns with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.errors import ModelError, SchemeError
from tinytrain.gradient.method import Method
from tinytrain.ir.graph import Graph
from tinytrain.onnx_graph import LAYERS, SCORES, Chain, OnnxGraph
from tinytrain.reading import plain
from tinytrain.schemes.scheme import Scheme, Select, layers

if TYPE_CHECKING:
    import onnx

GRID = 4                                                  # rows and columns of what is read of a map, at most
POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
MOVING = ("Transpose", "Reshape", "Gather")
FEW = 2                                                   # a map of that many times a later one's channels is an expanded one


class Beside(Method):
    """Base of these methods: `key` and `_` begin the names of all nodes that are added."""

    @property
    def prefix(self) -> str:
        return f"{self.key}_"

    def network(self, graph: onnx.GraphProto, path: Path) -> Side:
        raise NotImplementedError(self.key)

    def change_model(self, model: onnx.ModelProto, path: Path) -> bool:
        found = [node for node in model.graph.node if node.name.startswith(self.prefix)]
        side = self.network(model.graph, path)
        if not found:
            side.add()
        elif added := next((node for node in found if (node.name, node.op_type) == (side.end, "Add")), None):
            side.check(added)
        else:
            message = f"--method {self.key} does not fit {path}: it has a node {plain(found[0].name)!r} of its own; expected no name that "
            raise ModelError(f"{message}begins with {self.prefix}, as what the method adds.", hint="Rename it, or leave out --method.")
        return not found

    def scheme(self, scheme: str | Scheme, graph: Graph) -> Scheme:
        if scheme != "full":
            message = f"--method {self.key} trains what it puts beside the model, and the last layer of the model."
            raise SchemeError(message, hint="Leave out --scheme.")
        side = [layer for layer in layers(graph) if layer.name.startswith(self.prefix)]
        own = [layer for layer in layers(graph) if layer not in side]
        return Scheme({layer.name: {kind: Select() for kind in layer.parameters} for layer in (*own[-1:], *side)}, self.key)


class Side(OnnxGraph):
    """A model to which `emit` adds such a network."""

    def __init__(self, graph: onnx.GraphProto, path: Path, method: Beside) -> None:
        super().__init__(graph)
        self.path = path
        self.key = method.key
        self.prefix = method.prefix
        self.end = f"{self.prefix}added"                  # the node that adds what it says to the scores

    def emit(self, rungs: Sequence[str], count: int) -> Chain:
        """The nodes that make `count` scores of these maps, or rows, which have as many axes; the last of them gives the scores."""
        raise NotImplementedError(self.key)

    def add(self) -> None:
        """Raises ModelError where nothing can be put beside the model."""
        if len(self.proto.output) > 1:
            raise self._refuse(f"it has {len(self.proto.output)} outputs", "one output")
        scores = self._scores()
        if max(self.shapes[scores], default=1) != (count := math.prod(self.shapes[scores])):
            raise self._refuse(f"{scores} has the shape {self.shapes[scores]}", "one row of scores")
        rungs = self.rungs(scores)
        if not rungs:
            raise self._refuse("no map or row of features lies on all paths through it", "convolutions or dense layers one behind another")
        self._add(scores, self.emit(rungs, count))

    def check(self, added: onnx.NodeProto) -> None:
        """Raises ModelError where what is there already, and ends in that node, is not what the numbers of the method ask for."""

    def grid(self, rungs: Sequence[str]) -> tuple[int, ...]:
        """Rows and columns that all these maps can be pooled to."""
        return tuple(min(GRID, *sizes) for sizes in zip(*(self.shapes[rung][2:] for rung in rungs), strict=True))

    def pool(self, side: Chain, rung: str, grid: tuple[int, ...], name: str) -> None:
        """Let the chain go on from the means of a map, int8 where that is."""
        shape, maker, side.end = self.shapes[rung], self.makers[rung], rung
        strides = [size // cells for size, cells in zip(shape[2:], grid, strict=True)]
        kernel = [size - step * (cells - 1) for size, step, cells in zip(shape[2:], strides, grid, strict=True)]
        if max(kernel, default=1) > 1:
            side.then("AveragePool", f"{name}_pool", kernel_shape=kernel, strides=strides)
            if maker.op_type == "DequantizeLinear":       # what pools int8 is int8
                side.then("QuantizeLinear", f"{name}_q", *maker.input[1:]).then("DequantizeLinear", f"{name}_dq", *maker.input[1:])

    def _scores(self) -> str:
        """What the last softmax or sigmoid reads, or the output; what is rounded behind one is not rounded any more."""
        name: str = self.proto.output[0].name
        rounded: list[onnx.NodeProto] = []
        last = self.makers.get(name)
        while last is not None and last.op_type == ("QuantizeLinear" if rounded else "DequantizeLinear"):
            rounded.append(last)
            last = self.makers.get(last.input[0])
        if last is None or last.op_type not in SCORES:
            return name
        for node in rounded:
            self.proto.node.remove(node)
        last.output[0] = name
        below: str = last.input[0]
        return below

    def rungs(self, scores: str) -> list[str]:
        """Maps that all paths go through, each the last one before the next layer; where there are none, rows of features likewise. All
        have as many axes.

        Expanded ones are left out: those with a multiple of the channels of a later one.
        """
        known = self._channels_first()
        passed = [(layer, name) for layer, name in self._passed(scores) if name in known and name != scores]
        maps = {layer: name for layer, name in passed if math.prod(self.shapes[name][2:]) > 1}
        names = list((maps or {layer: name for layer, name in passed if len(self.shapes[name]) == 2}).values())
        channels = [self.shapes[name][1] for name in names]
        narrow = [n for i, n in enumerate(names) if not any(FEW * later <= channels[i] for later in channels[i:])]
        return [name for name in narrow if len(self.shapes[name]) == len(self.shapes[narrow[-1]])]

    def _passed(self, scores: str) -> Iterator[tuple[int, str]]:
        """What is computed and all paths to the scores go through, in order: (how many layers stand before it, its name)."""
        needed, nodes = {scores}, []
        for node in reversed(self.proto.node):
            if needed.intersection(node.output):
                needed.update(node.input)
                nodes.append(node)
        left = {name: sum(name in node.input for node in nodes) for name in needed}
        alive, layers_before = {value.name for value in self.proto.input}, 0
        for node in reversed(nodes):
            if not alive.intersection(node.input):
                continue                                  # of what is stored alone
            for name in alive.intersection(node.input):
                left[name] -= 1
            layers_before += node.op_type in LAYERS
            alive = {name for name in (*alive, *node.output) if left.get(name)}
            if len(alive) == 1:
                yield layers_before, *alive

    def _channels_first(self) -> set[str]:
        """Values of which axis 1 is known to count channels."""
        found: set[str] = set()
        for node in self.proto.node:
            shape = self.shapes.get(node.output[0], ())
            same = [name for name in node.input if self.shapes.get(name) == shape and not self.is_stored(name)]
            moved = node.op_type in MOVING
            dense = node.op_type in ("Gemm", "MatMul") and len(shape) == 2
            if node.op_type in ("Conv", "BatchNormalization", *POOLS) or dense or (same and not moved and found.issuperset(same)):
                found.add(node.output[0])
        return found

    def _add(self, scores: str, side: Chain) -> None:
        """scores → scores + what the side network ends in, and its nodes behind all that they read."""
        from onnx import helper

        if len(self.shapes[scores]) != 2:
            side.then("Reshape", f"{self.prefix}reshape", self.store(f"{self.prefix}shape", np.array(self.shapes[scores], np.int64)))
        maker, plain = self.makers[scores], self.unique(f"{scores}_frozen")
        maker.output[list(maker.output).index(scores)] = plain
        added = helper.make_node("Add", [plain, side.end], [scores], name=self.unique(self.end))
        at = list(self.proto.node).index(maker) + 1
        behind = list(self.proto.node)[at:]
        del self.proto.node[at:]
        self.proto.node.extend([*side.nodes, added, *behind])

    def _refuse(self, found: str, fits: str) -> ModelError:
        return ModelError(
            f"--method {self.key} does not fit {self.path}: {found}; expected {fits}.",
            hint="Train its last layers in its place: leave out --method, and give --scheme last:2.",
        )
