# SPDX-License-Identifier: Apache-2.0
"""Where a network can be cut in blocks: behind nodes where one value alone is all that the rest of the network reads of what was computed.

    x → conv1 → relu → conv2 → add(relu) → dense        may be cut behind relu and behind add, not in between

Of the places between two layers the last one with the smallest value stands for all: behind activation and pooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations, pairwise

from tinytrain.gradient.partial import Target
from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.types import Role, Value

MOST_WAYS = 20_000                                        # to cut a network that are compared


@dataclass(frozen=True)
class Cut:
    """Behind node number `position`, where `value` is all that the rest reads."""

    position: int
    value: Value


def cuts(graph: Graph, targets: Sequence[Target]) -> list[Cut]:
    """Places in execution order with something that is trained before and behind each; no weight is read on both sides of one."""
    flows = set(graph.inputs)
    for node in graph.nodes:
        if flows.intersection(node.inputs):
            flows.update(node.outputs)
    last: dict[Value, int] = {v: len(graph.nodes) for v in graph.outputs}
    first: dict[Value, int] = {}
    for position, node in enumerate(graph.nodes):
        for v in node.inputs:
            first.setdefault(v, position)
            last[v] = max(last.get(v, -1), position)
    trained = [(first[t.read], last[t.read]) for t in targets if t.read in first]
    found: dict[int, Cut] = {}
    live: set[Value] = set(graph.inputs)
    layer = 0
    for position, node in enumerate(graph.nodes):
        live.update(v for v in node.outputs if v in flows)
        live = {v for v in live if last.get(v, -1) > position}
        layer += _begins_layer(node)
        value = next(iter(live)) if len(live) == 1 else None
        if value is None or value.role is not Role.TEMP or not value.shape or node.op.view:
            continue
        if any(begin <= position < end for begin, end in trained):
            continue
        known = found.get(layer)
        if known is None or value.type.nbytes <= known.value.type.nbytes:
            found[layer] = Cut(position, value)
    return _apart(list(found.values()), trained)


def _begins_layer(node: Node) -> bool:
    """Whether a node computes with a weight, and does not only follow another that does."""
    stored = (Role.PARAM, Role.CONST)
    return not node.op.extends_layer and any(node.inputs[i].role in stored or node.inputs[i].data is not None for i in node.op.parameters)


def _apart(found: Sequence[Cut], trained: Sequence[tuple[int, int]]) -> list[Cut]:
    """Those with something trained between one and the next."""
    kept: list[Cut] = []
    before = -1
    for cut in found:
        if any(before < end <= cut.position for _, end in trained):
            if any(begin > cut.position for begin, _ in trained):
                kept.append(cut)
            before = cut.position
    return kept


def even(graph: Graph, places: Sequence[Cut], blocks: int) -> tuple[Cut, ...]:
    """The `blocks` − 1 places that leave the fewest bytes of maps to the block that has most."""
    sizes = [sum(v.type.nbytes for v in node.outputs if not node.op.view) for node in graph.nodes]
    sums = [0, *accumulate(sizes)]
    ways = combinations(places, blocks - 1)

    def most(chosen: tuple[Cut, ...]) -> tuple[int, ...]:
        ends = [0, *(cut.position + 1 for cut in chosen), len(sizes)]
        return tuple(sorted((sums[b] - sums[a] for a, b in pairwise(ends)), reverse=True))

    return min((chosen for chosen, _ in zip(ways, range(MOST_WAYS), strict=False)), key=most)
