# SPDX-License-Identifier: Apache-2.0
"""Greedy execution orders. Each respects data edges and the edges of in-place updates; the planner keeps the one with the least peak."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tinytrain.ir.graph import Graph
from tinytrain.ir.types import Role, Value
from tinytrain.planner.updates import Bound, contents

# a gradient, what scales or reshapes it, and its update run back to back; longer chains are not tied to an update
_CHAIN = 3


@dataclass(frozen=True)
class _Group:
    """Nodes that run back to back, and their effect on memory: bytes that stay, and how often each content is read."""

    nodes: tuple[int, ...]
    is_update: bool
    stays: int
    reads: dict[Value, int]


def orders(graph: Graph, bound: Bound) -> dict[str, Graph]:
    """The graph in each greedy order, by name, the graph as given first."""
    before, after = edges(graph, bound)
    everything = range(len(graph.nodes))
    base = _list_schedule(before, after, lambda i: (i,))
    rank = {p: i for i, p in enumerate(base)}
    groups = _groups(graph, bound, base, rank, after)
    group_of = {p: g for g, group in enumerate(groups) for p in group.nodes}
    group_before = [sorted({group_of[q] for p in group.nodes for q in before[p]} - {g}) for g, group in enumerate(groups)]
    group_after = [sorted({group_of[q] for p in group.nodes for q in after[p]} - {g}) for g, group in enumerate(groups)]

    def flat(sequence: list[int]) -> list[int]:
        return [p for g in sequence for p in groups[g].nodes]

    found = {
        "as given": base,
        "depth first": _depth_first(before, after, sorted(everything, key=rank.__getitem__)),
        "least memory": flat(_least_memory(graph, groups, group_before, group_after)),
        "updates early": flat(_list_schedule(group_before, group_after, lambda g: (not groups[g].is_update, g))),
    }
    return {name: graph.replace(nodes=tuple(graph.nodes[p] for p in sequence)) for name, sequence in found.items()}


def edges(graph: Graph, bound: Bound) -> tuple[list[list[int]], list[list[int]]]:
    """Predecessors and successors of each position: data edges and those of in-place updates."""
    producer = {v: p for p, node in enumerate(graph.nodes) for v in node.outputs}
    pairs = {(producer[v], p): None for p, node in enumerate(graph.nodes) for v in node.inputs if v in producer}
    pairs.update(dict.fromkeys(bound.edges))
    before: list[list[int]] = [[] for _ in graph.nodes]
    after: list[list[int]] = [[] for _ in graph.nodes]
    for p, q in pairs:
        before[q].append(p)
        after[p].append(q)
    return before, after


def _list_schedule(before: list[list[int]], after: list[list[int]], key: Callable[[int], tuple[int, ...]]) -> list[int]:
    """Topological order; of what is ready the least key goes first."""
    missing = [len(b) for b in before]
    ready = [(key(i), i) for i, m in enumerate(missing) if m == 0]
    heapq.heapify(ready)
    done: list[int] = []
    while ready:
        i = heapq.heappop(ready)[1]
        done.append(i)
        for j in after[i]:
            missing[j] -= 1
            if missing[j] == 0:
                heapq.heappush(ready, (key(j), j))
    assert len(done) == len(before), f"the graph has a cycle: {len(done)} of {len(before)} nodes can be ordered"
    return done


def _depth_first(before: list[list[int]], after: list[list[int]], base: list[int]) -> list[int]:
    """Each sink in turn, preceded by what it still needs: a value is made just before it is wanted."""
    done: dict[int, None] = {}
    for sink in (p for p in base if not after[p]):
        stack = [(sink, iter(before[sink]))]
        while stack:
            p, rest = stack[-1]
            q = next((q for q in rest if q not in done), None)
            if q is not None:
                stack.append((q, iter(before[q])))
            else:
                done.setdefault(p)
                stack.pop()
    return list(done)


def _groups(graph: Graph, bound: Bound, base: list[int], rank: dict[int, int], after: list[list[int]]) -> list[_Group]:
    """An update with the nodes that serve it alone; every other node by itself. In base order of their last node."""
    content = contents(graph)
    new = {content[v] for v in graph.updates.values()}
    head: dict[int, tuple[int, int]] = {}
    for p in reversed(base):
        heads = {head[q][0] for q in after[p]}
        depth = 1 + max((head[q][1] for q in after[p]), default=0)
        if any(v in new for v in graph.nodes[p].outputs):
            head[p] = (p, 0)
        elif len(heads) == 1 and depth <= _CHAIN and any(v in new for v in graph.nodes[min(heads)].outputs):
            head[p] = (min(heads), depth)
        else:
            head[p] = (p, 0)
    members: dict[int, list[int]] = {}
    for p in base:
        members.setdefault(head[p][0], []).append(p)

    total = _uses(graph, range(len(graph.nodes)), content)
    total.update({content[v] for v in graph.kept()})
    groups = []
    for top in sorted(members, key=rank.__getitem__):
        nodes = tuple(members[top])
        inside = _uses(graph, nodes, content)
        made = [v for p in nodes for v in graph.nodes[p].outputs if content[v] is v and v not in bound.targets]
        made_set = set(made)
        stays = sum(v.type.nbytes for v in made if total[v] > inside[v])
        outside = {
            v: n for v, n in inside.items()
            if (v.role is Role.TEMP or v in graph.inputs[:1]) and v not in bound.targets and v not in made_set
        }
        groups.append(_Group(nodes, any(v in new for v in graph.nodes[top].outputs), stays, outside))
    return groups


def _uses(graph: Graph, nodes: Iterable[int], content: dict[Value, Value]) -> Counter[Value]:
    """How many of the given nodes read each content."""
    return Counter(v for p in nodes for v in {content[v] for v in graph.nodes[p].inputs})


def _least_memory(graph: Graph, groups: list[_Group], before: list[list[int]], after: list[list[int]]) -> list[int]:
    """Of the groups that are ready, run the one that leaves the fewest bytes in use."""
    content = contents(graph)
    left = _uses(graph, range(len(graph.nodes)), content)
    left.update({content[v] for v in graph.kept()})
    missing = [len(b) for b in before]
    ready = [g for g, m in enumerate(missing) if m == 0]

    def growth(g: int) -> tuple[int, int]:
        return groups[g].stays - sum(v.type.nbytes for v, n in groups[g].reads.items() if left[v] == n), g

    done: list[int] = []
    while ready:
        g = min(ready, key=growth)
        ready.remove(g)
        done.append(g)
        left.subtract(groups[g].reads)
        for h in after[g]:
            missing[h] -= 1
            if missing[h] == 0:
                ready.append(h)
    return done
