# SPDX-License-Identifier: Apache-2.0
"""watch_gradients: d2:f16 = …; d1:f16 = f(d2); w2' = update(d2, k); w1' = update(d1, k), k = update_factor(overflowed)

    ->  o2 = overflow(d2, overflowed);  w2' = update(d2, update_factor(o2));  o1 = overflow(d1, o2);  w1' = update(d1, update_factor(o1))

Whatever is stored as fp16 on the way back is looked at once, in the order in which it is made, and each update depends on what was seen up
to the last map that it is made of: what lies behind an overflow is left out, and nothing waits for what is made later. Activations that
are stored as fp16 and read again are looked at before all gradients: behind a ReLU6 the loss may be finite though they are not.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.types import F16, Value
from tinytrain.ops.loss_scale import Overflow, UpdateFactor
from tinytrain.planner.updates import contents


def watch_gradients(graph: Graph) -> Graph:
    """Needs stored gradients as they will be; ensures that nothing which depends on an overflow is made of one that was not looked at."""
    first = next((node for node in graph.nodes if isinstance(node.op, Overflow)), None)
    if first is None:
        return graph
    at = graph.nodes.index(first)
    forward, backward = graph.nodes[: at + 1], graph.nodes[at + 1 :]
    shown = contents(graph)
    again = {shown[v] for node in backward for v in node.inputs}
    watch = _Watch(graph, first.outputs[0])
    watch.g.nodes += forward
    for v in dict.fromkeys(v for node in forward for v in node.outputs if v in again and v.type.dtype is F16):
        watch.seen = [watch.look(v, first.origin)]
    for node in backward:
        watch.add(node)
    return graph if len(watch.g.nodes) == len(graph.nodes) else graph.replace(nodes=tuple(watch.g.nodes))


@dataclass
class _Watch:
    """Nodes with those that watch: `seen[n]` says whether there was an overflow up to the n-th gradient, `level` which one a value needs.

    `factors` are what updates depend on: made anew for each level, where `loss` was looked at.
    """

    graph: Graph
    loss: Value
    seen: list[Value] = field(init=False)
    level: dict[Value, int] = field(default_factory=dict)
    factors: dict[Value, Node] = field(default_factory=dict)
    made: dict[tuple[Value, int], Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.seen = [self.loss]
        self.kept = self.graph.kept()
        self.g = Builder(self.graph.name, self.graph.values())

    def look(self, v: Value, origin: str) -> Value:
        """Whether there was an overflow up to this value."""
        self.g.origin = origin
        return self.g.emit(Overflow(), v, self.seen[-1], name="overflowed")

    def add(self, node: Node) -> None:
        level = max((self.level.get(v, 0) for v in node.inputs), default=0)
        makes = isinstance(node.op, UpdateFactor) and self.loss in node.inputs
        swap = {v: self._factor(v, level) for v in node.inputs if v in self.factors} | {self.loss: self.seen[0 if makes else -1]}
        made = dataclasses.replace(node, inputs=tuple(swap.get(v, v) for v in node.inputs))
        self.g.nodes.append(made)
        if makes:
            self.factors[node.outputs[0]] = node
        self.level |= dict.fromkeys(node.outputs, level)
        for v in node.outputs:
            if v.type.dtype is F16 and v not in self.kept and not node.op.view:
                self.seen.append(self.look(v, node.origin))
                self.level[v] = len(self.seen) - 1

    def _factor(self, factor: Value, level: int) -> Value:
        """What this factor is once maps up to that level are looked at."""
        node = self.factors[factor]
        if level and (factor, level) not in self.made:
            self.g.origin = node.origin
            inputs = (self.seen[level] if v is self.loss else v for v in node.inputs)
            self.made[factor, level] = self.g.emit(node.op, *inputs, name=factor.name)
        return self.made.get((factor, level), factor)
