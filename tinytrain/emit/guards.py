# SPDX-License-Identifier: Apache-2.0
"""What a training step looks at before it changes anything, so that nothing infinite is ever stored.

Sums of products of numbers below a limit are finite, and so is what an optimiser makes of them: what is looked at are the operands of
updates, sample and maps, not the gradients of weights, most of which never lie in memory. Where the weights between maps are fewer than the
elements of these, the weights are measured instead: ‖w·x‖ ≤ ‖w‖·‖x‖.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import or_

import numpy as np

from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.growth import Growth, growth_of
from tinytrain.ir.types import F32, Role, Value
from tinytrain.planner import Plan
from tinytrain.planner.updates import contents

_STORED = (Role.PARAM, Role.STATE)
_BIAS, _FRACTION_BITS = 127, 23                           # of the exponent of IEEE 754 single precision
INFINITE = 0xFF << _FRACTION_BITS
_LIKELY_BITS = {Role.INPUT: 16, Role.TEMP: 4}             # log2 of the mean square of a sample, and of a map
_GROWTH_BITS = 6                                          # every weight may become eight times as large in training, and all together
_SPARE_BITS = 32                                          # 2^16 times as large again, before a step is left out


def most_bits(graph: Graph) -> int:
    """log2 of what the square of a gradient stays below: 2^8 of all floats is left for rates and momentum, or, where gradients are squared,
    what sums of their squares need."""
    return 126 if any(op.squares for node in graph.nodes for op in (node.op, *getattr(node.op, "then", ()))) else 238


def limit(graph: Graph) -> int:
    """Bits of the power of two that numbers behind an update stay below: 2^e with N·2^2e below the root of what squares stay below, where N
    is the size of the largest map, so that no sum has more products."""
    most = max(v.type.numel for v in graph.values())
    return _BIAS + (most_bits(graph) // 2 - most.bit_length()) // 2 << _FRACTION_BITS


def operands(plan: Plan) -> list[list[Value]]:
    """Of each node that writes what is stored: the fp32 values that the update is made of, the sample and maps.

    What depends on another update is none of them: a rate, say, that follows the number of updates.
    """
    content, found = contents(plan.graph), list[list[Value]]()
    late: set[Value] = set()
    copied = {content[new] for _, new in plan.copies}
    for node in plan.graph.nodes:
        if node.op.view:
            continue
        read = dict.fromkeys(content[v] for v in node.inputs)
        writes = any(plan.root(v).role in _STORED or v in copied for v in node.outputs) and not node.op.lends
        if writes:
            maps = (v for v in read if v not in late and v.role in (Role.INPUT, Role.TEMP) and plan.root(v).role not in _STORED)
            found.append([v for v in maps if v.type.dtype is F32])
        if writes or late.intersection(read):
            late.update(node.outputs)
    return found


@dataclass(frozen=True)
class Bound:
    """The sum of squares of a value is 2^`log2` times those of `of` at most, each of which counts as 1 at least."""

    of: frozenset[Value]
    log2: int = 0


@dataclass(frozen=True)
class Watch:
    """`looked` are values that a limit holds for, each with the node that makes it; `measured` those that bounds of others are made of; the
    sum of log2 of their squares must not be above `room`. None: the sample, or a weight."""

    looked: dict[Value, Node | None]
    measured: dict[Value, Node | None] = field(default_factory=dict)
    room: int = 0

    @property
    def elements(self) -> int:
        return sum(v.type.numel for v in (*self.looked, *self.measured))


def watch(plan: Plan) -> Watch:
    """The fewest elements that are to be looked at, as far as taking the weights of one node after the other finds them: those of the
    smallest ones together, then one by one."""
    search = _Search(plan.graph, operands(plan))
    best, chosen = Watch({v: search.made.get(v) for v in search.watched}), frozenset[Value]()
    layers = sorted(filter(None, map(_weights, search.steps)), key=lambda weights: sum(v.type.numel for v in weights))
    for weights in (*accumulate(layers, or_), *layers):
        if not weights <= chosen and (other := search.measuring(chosen | weights)) and other.elements < best.elements:
            best, chosen = other, chosen | weights
    return best


@dataclass(frozen=True)
class _Step:
    """A node: its first output, and of what that is made, by terms of `growth`, where the op knows how large it can be."""

    outputs: tuple[Value, ...]
    growth: Growth | None
    terms: tuple[tuple[Value, ...], ...]


def _weights(step: _Step) -> frozenset[Value]:
    """The trained weights that say how large an output can be."""
    return frozenset(v for term in step.terms for v in term if v.role is Role.PARAM and v.type.dtype is F32)


class _Search:
    """What there is to look at in a graph with these operands of updates."""

    def __init__(self, graph: Graph, updates: list[list[Value]]) -> None:
        self.values, self.updates, self.most = graph.values(), updates, most_bits(graph)
        self.watched = dict.fromkeys(v for read in updates for v in read)
        self.made: dict[Value, Node] = {}
        self.steps: list[_Step] = []
        self.fixed: dict[Value, Bound] = {}
        content = contents(graph)
        for node in graph.nodes:
            if not node.op.view:
                self.made |= dict.fromkeys(node.outputs, node)
                growth = growth_of(node.op, [v.type for v in node.inputs])
                terms = tuple(tuple(content[node.inputs[i]] for i in term) for term in growth.terms) if growth else ()
                self.steps.append(_Step(node.outputs, growth, terms))
                constants = {v for term in terms for v in term if v.role is Role.CONST and v.type.dtype is F32}
                self.fixed |= {v: Bound(frozenset(), _size(v)) for v in constants}
        self.fixed |= {v: Bound(frozenset({v})) for v in self.watched if v not in self.made}

    def measuring(self, weights: frozenset[Value]) -> Watch | None:
        """What is looked at where these weights are measured; None where bounds would leave too little room."""
        bounds = self.fixed | {v: Bound(frozenset({v})) for v in weights}
        for step in self.steps:
            if step.growth and (found := _bound(step.growth, step.terms, bounds)):
                bounds[step.outputs[0]] = found
            bounds |= {v: Bound(frozenset({v})) for v in step.outputs if v in self.watched and v not in bounds}
        measured = frozenset[Value]().union(*(bounds[v].of for v in self.watched if bounds[v].of != {v}))
        looked = {v for v in self.watched if bounds[v].of == {v}} - measured
        room = self.most
        for read in self.updates:
            known = [bounds[v] for v in read if v not in looked]
            if (product := _product(known)) is None:
                return None
            room = min(room, self.most - (len(read) - len(known)) * self.most // 2 - product.log2) if known else room
        if sum(map(_likely, measured)) + _SPARE_BITS > room:
            return None
        where = self.made.get
        return Watch({v: where(v) for v in self.watched if v in looked}, {v: where(v) for v in self.values if v in measured}, room)


def _bound(growth: Growth, terms: tuple[tuple[Value, ...], ...], bounds: Mapping[Value, Bound]) -> Bound | None:
    """Of an output, from those of its operands."""
    found, log2 = frozenset[Value](), 0
    for term in terms:
        if not all(v in bounds for v in term) or (product := _product([bounds[v] for v in term])) is None:
            return None
        found, log2 = found | product.of, max(log2, product.log2)
    return Bound(found, log2 + growth.log2)


def _product(factors: Sequence[Bound]) -> Bound | None:
    """None where two are made of the same: its size counts once."""
    of = frozenset[Value]().union(*(bound.of for bound in factors))
    return Bound(of, sum(bound.log2 for bound in factors)) if len(of) == sum(len(bound.of) for bound in factors) else None


def _size(v: Value) -> int:
    """log2 of the sum of squares of what a weight has at first, rounded up, and 0 at least."""
    assert v.data is not None
    return max(0, math.frexp(float(np.square(v.data, dtype=np.float64).sum()))[1])


def _likely(v: Value) -> int:
    return _LIKELY_BITS[v.role] + v.type.numel.bit_length() if v.role in _LIKELY_BITS else _size(v) + _GROWTH_BITS
