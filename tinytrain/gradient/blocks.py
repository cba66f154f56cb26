# SPDX-License-Identifier: Apache-2.0
"""Where a network can be cut in blocks: behind each layer with what follows it alone, its activation and pooling.

    x → conv1 → relu → conv2 → add(relu) → dense        may be cut behind relu and behind add, not behind conv1

What is read behind a cut passes it: at a shortcut more than one map does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from tinytrain.gradient.partial import Target
from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.types import Role, Value


@dataclass(frozen=True)
class Cut:
    """Behind node number `position`, which makes `value`; all that passes has `nbytes`."""

    position: int
    value: Value
    nbytes: int


class Blocks:
    """The places to cut a graph at, in execution order, with something that is trained before and behind each.

    No weight is read on both sides of one, and all that is trained in a block leads to the map that it hands on: of parallel branches none
    ends a block alone. `further`: what teaches a block reads what the next layer makes of its map.
    """

    def __init__(self, graph: Graph, targets: Sequence[Target], further: bool = False) -> None:
        self.graph = graph
        self.further = further
        self.begin = set(layers(graph))
        self.first: dict[Value, int] = {}
        self.last: dict[Value, int] = {v: len(graph.nodes) for v in graph.outputs}
        for position, node in enumerate(graph.nodes):
            for v in node.inputs:
                self.first.setdefault(v, position)
                self.last[v] = max(self.last.get(v, -1), position)
        self.read = [t.read for t in targets if t.read in self.first]
        self.trained = [(self.first[v], self.last[v]) for v in self.read]
        self.all = self._places()
        self.places = self._apart(self.all)

    def after(self, cut: Cut) -> Cut:
        """The place behind the next layer."""
        return next((place for place in self.all if place.position > cut.position), self.end)

    @cached_property
    def end(self) -> Cut:
        """That of the whole network."""
        return Cut(len(self.graph.nodes) - 1, self.graph.outputs[0], 0)

    def _places(self) -> list[Cut]:
        """The last place behind each layer at which the fewest bytes pass."""
        flows, live = set(self.graph.inputs), set(self.graph.inputs)
        found: dict[int, Cut] = {}
        layer = 0
        for position, node in enumerate(self.graph.nodes):
            if flows.intersection(node.inputs):
                flows.update(node.outputs)
                live.update(node.outputs)
            live = {v for v in live if self.last.get(v, -1) > position}
            layer += node in self.begin
            value = node.outputs[0]
            if value not in live or not value.shape or node.op.view or any(a <= position < b for a, b in self.trained):
                continue
            cut = Cut(position, value, sum(v.type.nbytes for v in live if v.role is Role.TEMP))
            if layer not in found or cut.nbytes <= found[layer].nbytes:
                found[layer] = cut
        return list(found.values())

    def _apart(self, found: Sequence[Cut]) -> list[Cut]:
        """Those with something trained since the one before, and more behind them."""
        kept: list[Cut] = []
        before = -1
        for cut in found:
            if any(before < end <= cut.position for _, end in self.trained) and any(begin > cut.position for begin, _ in self.trained):
                kept.append(cut)
                before = cut.position
        return kept

    @property
    def counts(self) -> list[int]:
        """In how many blocks the network can be cut, upwards; none where nowhere."""
        return sorted(self._ways)[1:]

    def even(self, blocks: int) -> tuple[Cut, ...]:
        """The `blocks` − 1 places that leave the fewest bytes of maps to the block that has most."""
        return self._ways[blocks]

    def most_bytes(self, cuts: Sequence[Cut]) -> int:
        """Of the maps of that block, where the network is cut there."""
        begins = [-1, *(cut.position for cut in cuts)]
        return max(map(self._bytes, begins, [*cuts, self.end]))

    @cached_property
    def _ways(self) -> dict[int, tuple[Cut, ...]]:
        """By the number of blocks."""
        ends = [*self.places, self.end]
        best: dict[tuple[int, int], tuple[int, int, tuple[Cut, ...]]] = {}
        for i, end in enumerate(ends):
            if self.taught(-1, end):
                best[1, i] = (size := self._bytes(-1, end), size, ())
        for count in range(2, len(ends) + 1):
            for i in range(count - 1, len(ends)):
                ways = [
                    (max(most, size), total + size, (*chosen, ends[before]))
                    for before in range(count - 2, i)
                    if (count - 1, before) in best and self.taught(ends[before].position, ends[i])
                    for most, total, chosen in [best[count - 1, before]] for size in [self._bytes(ends[before].position, ends[i])]
                ]
                if ways:
                    best[count, i] = min(ways, key=lambda way: way[:2])
        return {1: (), **{count: chosen for (count, i), (_, _, chosen) in best.items() if i == len(ends) - 1}}

    def taught(self, begin: int, end: Cut) -> bool:
        """Whether all that is trained behind node number `begin` leads to the map at `end`, and that to what teaches it; what the network
        ends in is not asked."""
        if end is self.end:
            return True
        passes = not self.further or end.value in self._leading[self.after(end)]
        return passes and all(v in self._leading[end] for v in self.read if begin < self.last[v] <= end.position)

    @cached_property
    def _leading(self) -> dict[Cut, set[Value]]:
        """What is read on the way to the map at each place."""
        return {cut: {v for node in self.graph.needed([cut.value]) for v in node.inputs} for cut in [*self.all, self.end]}

    def _bytes(self, begin: int, end: Cut) -> int:
        """The most that the gradients of a block behind node number `begin` have in memory at once: what its layers up to one of them read,
        which the gradients of their weights do again, and the gradients of that one's output and input. Of what goes on behind it no
        weights have gradients."""
        flows, read, most = set[Value](), dict[Value, None](), 0
        last = self.after(end) if self.further else end
        for position, node in enumerate(self.graph.nodes[begin + 1 : last.position + 1], begin + 1):
            if node in self.begin:
                x, y = node.inputs[0], node.outputs[0]
                if position <= end.position:
                    read[x] = None
                most = max(most, sum(v.type.nbytes for v in read) + y.type.nbytes + (x.type.nbytes if x in flows else 0))
                flows.update(node.outputs)
            elif flows.intersection(node.inputs):
                flows.update(node.outputs)
        return most


def layers(graph: Graph) -> Iterator[Node]:
    """The nodes that compute with a weight what a sample leads to, and do not only follow another that does."""
    flows = set(graph.inputs)
    for node in graph.nodes:
        if flows.isdisjoint(node.inputs):
            continue                                      # puts a weight together that is trained in part
        flows.update(node.outputs)
        if not node.op.extends_layer and any(node.inputs[i] not in flows for i in node.op.parameters):
            yield node
