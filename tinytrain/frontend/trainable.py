# SPDX-License-Identifier: Apache-2.0
"""What of a model can be trained and why the rest cannot: noted while handlers read what the file stores, settled when all have.

A stored tensor is trained where every reader takes it for something that was learned. What is a number of the architecture for one reader
(the variance of a batch norm, a part of a Concat), or two values of the graph, would be one thing on the device and another in the
exported model: it stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tinytrain.frontend.stored import StoredIntegers
from tinytrain.ir.graph import Graph
from tinytrain.ir.types import Array, Role, Value
from tinytrain.schemes.scheme import layers

if TYPE_CHECKING:
    import onnx

Place = tuple[str, int]                                   # output 0 of an ONNX node, and one of its operands
QUANTISING = {"QuantizeLinear", "DequantizeLinear"}


@dataclass(frozen=True)
class Frozen:
    """A stored tensor that no scheme trains. `decided`: by its place in the model, as `why` says; else nobody has thought of it."""

    name: str
    why: str
    decided: bool


@dataclass
class Ledger:
    """For each stored tensor (or DequantizeLinear of one): what it is read as, and the places where it is read as learned."""

    purposes: dict[str, str] = field(default_factory=dict)
    learned: dict[str, set[Place]] = field(default_factory=dict)

    def read(self, name: str, what: str) -> None:
        self.purposes.setdefault(name, what)

    def learns(self, name: str, place: Place) -> None:
        self.learned.setdefault(name, set()).add(place)


@dataclass(frozen=True, eq=False)
class Constants:
    """The real tensors that a model computes with: name → the initializer that holds it, integers that stand for it included."""

    holders: Mapping[str, str]
    ledger: Ledger

    def frozen(self, forward: Graph) -> tuple[Frozen, ...]:
        """Those that no scheme of this forward graph can train, in the order of the model."""
        trained = {v.source.initializer for layer in layers(forward) for v in layer.parameters.values() if v.source is not None}
        purposes, learned = self.ledger.purposes, self.ledger.learned
        found = {
            holder: Frozen(holder, purposes.get(name, "not read"), name in purposes and name not in learned)
            for name, holder in self.holders.items() if name not in trained and holder not in trained
        }
        return tuple(found.values())


def settle(
    graph: Graph, nodes: Iterable[onnx.NodeProto], arrays: Mapping[str, Array], integers: Mapping[str, StoredIntegers], ledger: Ledger
) -> tuple[Graph, Constants]:
    """The graph in which only what can be trained has a source, and the real tensors of the model."""
    holders = {name: integers[name].initializer if name in integers else name for name in arrays}
    places: dict[str, list[tuple[Place, onnx.NodeProto]]] = {}
    real: dict[str, str] = {}
    for node in nodes:
        for index, name in enumerate(node.input):
            if node.op_type not in QUANTISING and name in arrays and arrays[name].dtype.kind == "f" and arrays[name].size:
                places.setdefault(holders[name], []).append(((node.output[0], index), node))
                real[name] = holders[name]
    values: dict[str, list[Value]] = {}
    for v in graph.stored(Role.CONST):
        if v.source is not None:
            values.setdefault(holders.get(v.source.initializer, v.source.initializer), []).append(v)
    bare: dict[Value, Value] = {}
    for holder, stored in values.items():
        names = [name for name, of in real.items() if of == holder]
        why = _shared(stored, places.get(holder, []), set().union(*(ledger.learned.get(name, set()) for name in names)))
        if why:
            bare.update({v: dataclasses.replace(v, source=None) for v in stored})
            for name in names:
                ledger.purposes[name] = why
                ledger.learned.pop(name, None)
    return (graph.substitute(bare) if bare else graph), Constants(real, ledger)


def _shared(stored: Sequence[Value], places: Sequence[tuple[Place, onnx.NodeProto]], learned: set[Place]) -> str:
    """Why what is stored once cannot be trained as one thing; "" where it can."""
    for place, node in places:
        if place not in learned:
            return f"shared with {node.name} ({node.op_type}), where it is no weight"
    names = ", ".join(dict.fromkeys(node.name for _, node in places))
    return f"stored once for {names}, which read it in different ways" if len(stored) > 1 else ""
