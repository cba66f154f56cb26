# SPDX-License-Identifier: Apache-2.0
"""Execution orders: against the best there is on small graphs, and fast enough on large ones."""

from __future__ import annotations

import random

from planner_graphs import Fake, deep, param, plan_one, same

from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph
from tinytrain.ir.types import Role, Value
from tinytrain.planner.order import edges, orders
from tinytrain.planner.updates import bind_updates


def _small(seed: int) -> Graph:
    """A training step of two to four layers of random sizes, some frozen, some with a skip connection."""
    chance = random.Random(seed)
    g = Builder("small")
    layers = chance.randint(2, 4)
    sizes = [chance.choice((4, 16, 64, 128)) for _ in range(layers + 1)]
    acts = [g.input("x", (sizes[0],))]
    weights = [param(g, "w", chance.choice((8, 32, 128, 256))) for _ in range(layers)]
    for k in range(layers):
        skip = [chance.choice(acts[1:])] if k and chance.random() < 0.4 else []
        acts.append(g.emit(Fake((sizes[k + 1],)), acts[-1], weights[k], *skip))
    dy = g.emit(Fake((sizes[-1],)), acts[-1])
    updates = {}
    for k in reversed(range(layers)):
        if chance.random() < 0.8:
            dw = g.emit(Fake((weights[k].type.numel,)), acts[k], dy)
            updates[weights[k]] = g.emit(same(weights[k]), weights[k], dw)
        if k:
            dy = g.emit(Fake((sizes[k],)), dy, weights[k], *([acts[k]] if chance.random() < 0.5 else []))
    return g.graph([acts[-1]], updates)


def _least_peak(graph: Graph) -> int:
    """The least peak of all orders, over all sets of nodes that may have run; no in-place but that of updates."""
    bound = bind_updates(graph)
    before, _ = edges(graph, bound)
    made = [[v for v in node.outputs if v not in bound.targets] for node in graph.nodes]
    everything = [*graph.inputs, *(v for values in made for v in values)]
    readers = {v: {p for p, node in enumerate(graph.nodes) if v in node.inputs} for v in everything}
    kept = graph.kept()

    def live(ran: int) -> int:
        def used(v: Value) -> bool:
            return v in kept or any(not ran >> p & 1 for p in readers[v])
        there = [*graph.inputs, *(v for p, values in enumerate(made) if ran >> p & 1 for v in values)]
        return sum(v.type.nbytes for v in there if used(v))

    peaks = {0: 0}
    for _ in graph.nodes:
        following: dict[int, int] = {}
        for ran, peak in peaks.items():
            now = live(ran)
            for p in range(len(graph.nodes)):
                if not ran >> p & 1 and all(ran >> q & 1 for q in before[p]):
                    new = max(peak, now + sum(v.type.nbytes for v in made[p]))
                    key = ran | 1 << p
                    following[key] = min(following.get(key, new), new)
        peaks = following
    return peaks[(1 << len(graph.nodes)) - 1]


def test_orders_are_nearly_always_the_best_there_are() -> None:
    best = 0
    for seed in range(60):
        graph = _small(seed)
        plan = plan_one(graph)
        fixed = sum(v.type.nbytes for v in graph.stored(Role.PARAM))
        least = _least_peak(graph)
        found = plan.peak.bytes - fixed
        assert least <= found <= 1.6 * least, seed
        best += found == least
    assert best >= 57


def test_every_greedy_order_is_an_order() -> None:
    for seed in range(40):
        graph = _small(seed)
        bound = bind_updates(graph)
        before, _ = edges(graph, bound)
        for name, found in orders(graph, bound).items():
            at = {node: p for p, node in enumerate(found.nodes)}
            assert len(at) == len(graph.nodes), name
            for p, earlier in enumerate(before):
                assert all(at[graph.nodes[q]] < at[graph.nodes[p]] for q in earlier), name


def test_all_updates_of_five_hundred_nodes_are_in_place() -> None:
    plan = plan_one(deep(125))
    assert plan.copies == () and len(plan.graph.nodes) == 501
    assert plan.arena_bytes <= 1.1 * plan.lower_bound_bytes


def test_gradient_is_applied_at_once() -> None:
    """All gradients first, all updates last, as given: the planner moves each update to its gradient."""
    g = Builder("late")
    x = g.input("x", (4,))
    weights = [param(g, "w", 32) for _ in range(6)]
    grads = [g.emit(Fake((32,)), x) for _ in weights]
    news = [g.emit(same(w, pairs=((0, 0), (1, 0))), w, dw) for w, dw in zip(weights, grads, strict=True)]
    plan = plan_one(g.graph([], dict(zip(weights, news, strict=True))))
    assert plan.arena_bytes == 6 * 128 + 128 + 16
    assert plan.order != "as given" and plan.proven_optimal
