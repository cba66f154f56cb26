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
from itertools import accumulate, starmap
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
_SPARE_BITS = 40                                          # by which squares may grow in training before a step is left out


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
        writes = any(plan.root(v).role in _STORED or v in copied for v in node.outputs)
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
    updates, nodes = operands(plan), [node for node in plan.graph.nodes if not node.op.view]
    made = {v: node for node in nodes for v in node.outputs}
    growths = [(node, growth_of(node.op, [v.type for v in node.inputs])) for node in nodes]
    best, chosen = Watch({v: made.get(v) for read in updates for v in read}), frozenset[Value]()
    layers = sorted(filter(None, starmap(_weights, growths)), key=lambda weights: sum(v.type.numel for v in weights))
    for weights in (*accumulate(layers, or_), *layers):
        other = _measuring(plan.graph, updates, growths, made, chosen | weights)
        if other and other.elements < best.elements:
            best, chosen = other, chosen | weights
    return best


def _weights(node: Node, growth: Growth | None) -> frozenset[Value]:
    """The trained weights that say how large the output of a node can be."""
    read = (node.inputs[i] for term in growth.terms for i in term) if growth else ()
    return frozenset(v for v in read if v.role is Role.PARAM and v.type.dtype is F32)


def _measuring(
    graph: Graph, updates: list[list[Value]], growths: Sequence[tuple[Node, Growth | None]], made: Mapping[Value, Node],
    weights: frozenset[Value],
) -> Watch | None:
    """What is looked at where these weights are measured; None where bounds would leave too little room."""
    watched = dict.fromkeys(v for read in updates for v in read)
    content, bounds = contents(graph), {v: Bound(frozenset({v})) for v in (*watched, *weights) if v not in made}
    for node, growth in growths:
        if growth and (found := _bound(node, growth, bounds, content)):
            bounds[node.outputs[0]] = found
        bounds |= {v: Bound(frozenset({v})) for v in node.outputs if v in watched and v not in bounds}
    measured = frozenset[Value]().union(*(bounds[v].of for v in watched if bounds[v].of != {v}))
    looked = {v for v in watched if bounds[v].of == {v}} - measured
    room = most = most_bits(graph)
    for read in updates:
        known = [bounds[v] for v in read if v not in looked]
        if sum(len(bound.of) for bound in known) > len(frozenset[Value]().union(*(bound.of for bound in known))):
            return None
        room = min(room, most - (len(read) - len(known)) * most // 2 - sum(bound.log2 for bound in known)) if known else room
    if sum(_likely(v) for v in measured) + _SPARE_BITS > room:
        return None
    return Watch({v: made.get(v) for v in watched if v in looked}, {v: made.get(v) for v in graph.values() if v in measured}, room)


def _bound(node: Node, growth: Growth, bounds: Mapping[Value, Bound], content: Mapping[Value, Value]) -> Bound | None:
    """Of the first output of a node, from those of its operands."""
    found, log2 = frozenset[Value](), 0
    for term in growth.terms:
        product = [_constant(v) if v.role is Role.CONST else bounds.get(content[v]) for v in (node.inputs[i] for i in term)]
        factors = [bound for bound in product if bound]
        of = frozenset[Value]().union(*(bound.of for bound in factors))
        if len(factors) < len(term) or len(of) < sum(len(bound.of) for bound in factors):
            return None
        found, log2 = found | of, max(log2, sum(bound.log2 for bound in factors))
    return Bound(found, log2 + growth.log2)


def _constant(v: Value) -> Bound | None:
    return Bound(frozenset(), _size(v)) if v.type.dtype is F32 else None


def _size(v: Value) -> int:
    """log2 of the sum of squares of what a weight has at first, rounded up, and 0 at least."""
    assert v.data is not None
    return max(0, math.frexp(float(np.square(v.data, dtype=np.float64).sum()))[1])


def _likely(v: Value) -> int:
    return _LIKELY_BITS[v.role] + v.type.numel.bit_length() if v.role in _LIKELY_BITS else _size(v)
