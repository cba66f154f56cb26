# SPDX-License-Identifier: Apache-2.0
"""permute_channels: y = conv2d(x, w1); z = conv2d(y, w2)  ->  y' = conv2d(x, w1'); z = conv2d(y', w2')

w1' has the output channels of w1, and w2' the input channels of w2, in another order: z is the same (bit for bit where sums are those of
integers). Which axes must be permuted together, each op says itself (`Op.ties`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.types import Quant, TensorType, Value
from tinytrain.ir.verify import verify

Slot = tuple[Value, int]                                  # an axis of a value


@dataclass(frozen=True, eq=False)
class Group:
    """Axes that count the same channels. `size` is that of the shortest; a longer one counts them several times.

    `pinned` says why their order cannot change; it is "" where it can.
    """

    slots: tuple[Slot, ...]
    size: int
    pinned: str


def channel_axis(graph: Graph, value: Value, side: Literal["in", "out"]) -> int | None:
    """The axis of a weight that counts the channels of its input, or of its output; None where they cannot be told apart."""
    node = next(n for n in graph.nodes if value in n.inputs)
    at = node.inputs.index(value)
    other = 0 if side == "in" else ~0
    for tie in node.op.ties(*(v.type for v in node.inputs)):
        axes = [axis for operand, axis in tie if operand == at]
        if axes and any(operand == other for operand, _ in tie):
            return axes[0] % len(value.shape)
    return None


def reader_of_another_layout(graph: Graph, value: Value) -> Node | None:
    """The node that reads a weight turned or reshaped, if any: that is trained as a whole."""
    return next((n for n in graph.nodes if value in n.inputs and value not in (n.inputs[i] for i in n.op.parameters)), None)


def channel_groups(graph: Graph) -> dict[Slot, Group]:
    """The group of each axis of each value of a forward graph."""
    parent = {(v, axis): (v, axis) for v in graph.values() for axis in range(len(v.shape))}
    pins: dict[Slot, str] = {}

    def root(slot: Slot) -> Slot:
        while parent[slot] is not slot:
            parent[slot] = parent[parent[slot]]
            slot = parent[slot]
        return slot

    for ends, what in ((graph.inputs, "input"), (graph.outputs, "output")):
        pins.update({(v, axis): f"they are those of the model's {what}" for v in ends for axis in range(len(v.shape))})
    for node in graph.nodes:
        tied: set[Slot] = set()
        for tie in _ties(node):
            for slot in tie[1:]:
                parent[root(slot)] = root(tie[0])
            tied.update(tie)
        for v in (*node.inputs, *node.outputs):
            loose = {(v, axis) for axis, size in enumerate(v.shape) if size > 1} - tied - set(pins)
            pins.update(dict.fromkeys(loose, f"{node.origin or node.op.name} ({node.op.name}) depends on their order"))

    members: dict[Slot, list[Slot]] = {}
    for slot in parent:
        members.setdefault(root(slot), []).append(slot)
    found: dict[Slot, Group] = {}
    for slots in members.values():
        sizes = [v.shape[axis] for v, axis in slots]
        pinned = next((pins[slot] for slot in slots if slot in pins), "")
        if not pinned and any(size % min(sizes) for size in sizes):
            pinned = f"axes of {min(sizes)} and {max(sizes)} elements count them"
        group = Group(tuple(slots), min(sizes), pinned)
        found.update(dict.fromkeys(slots, group))
    return found


def _ties(node: Node) -> list[list[Slot]]:
    def slot(operand: int, axis: int) -> Slot:
        v = node.inputs[operand] if operand >= 0 else node.outputs[~operand]
        return v, axis % len(v.shape)

    return [[slot(*at) for at in tie] for tie in node.op.ties(*(v.type for v in node.inputs))]


def permute_channels(graph: Graph, orders: Mapping[Group, Sequence[int]]) -> tuple[Graph, dict[Value, Value]]:
    """The graph with the channels of each group in another order: new place → old place; and what stands for each stored value.

    Needs groups of this graph that are not pinned; ensures the same results.
    """
    stored: dict[Value, Value] = {}
    for group, order in orders.items():
        assert not group.pinned and sorted(order) == list(range(group.size)), f"{group.slots}: {order}"
        for v, axis in group.slots:
            if v.data is not None:
                stored[v] = _permuted(stored.get(v, v), axis, order)
    made: dict[Value, Value] = dict(stored)
    nodes = []
    for node in graph.nodes:
        moved = dataclasses.replace(node, inputs=tuple(made.get(v, v) for v in node.inputs))
        for v, kind in zip(node.outputs, node.op.infer(*moved.kinds), strict=True):
            if kind != v.type.computed:
                made[v] = dataclasses.replace(v, type=kind)
        nodes.append(dataclasses.replace(moved, outputs=tuple(made.get(v, v) for v in node.outputs)))
    updates = {made.get(old, old): made.get(new, new) for old, new in graph.updates.items()}
    return verify(graph.replace(nodes=tuple(nodes), updates=updates), after="permute_channels"), stored


def _permuted(v: Value, axis: int, order: Sequence[int]) -> Value:
    assert v.data is not None
    size = len(order)
    indices = [start + i for start in range(0, v.shape[axis], size) for i in order]
    return dataclasses.replace(
        v, type=dataclasses.replace(v.type, quant=_quant(v.type, axis, indices)), data=np.ascontiguousarray(v.data.take(indices, axis)),
        source=v.source.taking(axis, indices, v.shape) if v.source else None,
    )


def _quant(kind: TensorType, axis: int, indices: Sequence[int]) -> Quant | None:
    quant = kind.quant
    if quant is None or quant.axis != axis or len(quant.scale) == 1:
        return quant
    return dataclasses.replace(quant, scale=tuple(quant.scale[i] for i in indices))
