# SPDX-License-Identifier: Apache-2.0
"""Repairs of an execution order around the position where most bytes are in use.

    what is made before the peak and read only after it is made later;
    what is read last after the peak is read before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tinytrain.ir.graph import Graph
from tinytrain.planner.lifetimes import Lifetimes
from tinytrain.planner.order import edges
from tinytrain.planner.updates import Bound

# work of the repairs, in nodes looked at: about a second
_NODES = 250_000
# positions that a move may lead past the peak
_BEYOND = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


def reorder(graph: Graph, life: Lifetimes, bound: Bound, given: Graph, measure: Callable[[Graph], Lifetimes]) -> tuple[Graph, Lifetimes]:
    """Move nodes (with what they need, or what needs them) across the peak as long as that lowers it.

    `graph` is an order of `given`, to which `bound` belongs; `measure` gives the lifetimes of an order.
    """
    before, after = edges(given, bound)
    at = {node: p for p, node in enumerate(given.nodes)}
    sequence = [at[node] for node in graph.nodes]
    left = _NODES // max(1, len(sequence))
    better = True
    while better and left > 0:
        better = False
        for trial in _moves(sequence, life, before, after):
            found_graph = given.replace(nodes=tuple(given.nodes[p] for p in trial))
            found = measure(found_graph)
            left -= 1
            if _score(found) < _score(life):
                sequence, graph, life, better = trial, found_graph, found, True
                break
            if left <= 0:
                break
    return graph, life


def _score(life: Lifetimes) -> tuple[int, int]:
    return life.peak.bytes, life.peak.width


def _moves(sequence: list[int], life: Lifetimes, before: list[list[int]], after: list[list[int]]) -> Iterator[list[int]]:
    """Orders that differ in one move across the peak, short moves first."""
    top, end = life.peak.position, len(sequence)
    for distance in range(1, end):
        for beyond in (b for b in _BEYOND if b < distance):
            # from `distance - beyond` on one side of the peak to `beyond` on the other
            near = distance - beyond
            if near <= top and top + beyond < end:
                yield from _later(sequence, top - near, top, top + beyond, after)
            if top + near < end and beyond <= top:
                yield from _earlier(sequence, top - beyond, top, top + near, before)


def _later(sequence: list[int], first: int, top: int, last: int, after: list[list[int]]) -> Iterator[list[int]]:
    """The node at `first`, and what needs it up to `last`, right behind `last`; nothing if the peak needs it."""
    moved = {sequence[first]}
    reach = set(after[sequence[first]])
    part = sequence[first : last + 1]
    for p in part:
        if p in reach:
            moved.add(p)
            reach.update(after[p])
    if sequence[top] not in moved:
        yield [*sequence[:first], *(p for p in part if p not in moved), *(p for p in part if p in moved), *sequence[last + 1 :]]


def _earlier(sequence: list[int], first: int, top: int, last: int, before: list[list[int]]) -> Iterator[list[int]]:
    """The node at `last`, and what it needs from `first` on, right before `first`; nothing if it needs the peak."""
    moved = {sequence[last]}
    reach = set(before[sequence[last]])
    part = sequence[first : last + 1]
    for p in reversed(part):
        if p in reach:
            moved.add(p)
            reach.update(before[p])
    if sequence[top] not in moved:
        yield [*sequence[:first], *(p for p in part if p in moved), *(p for p in part if p not in moved), *sequence[last + 1 :]]
