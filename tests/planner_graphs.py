# SPDX-License-Identifier: Apache-2.0
"""Graphs for the tests of the planner, made of ops that exist only here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph, Node, Program
from tinytrain.ir.op import Op
from tinytrain.ir.types import Role, TensorType, Value
from tinytrain.ir.verify import verify
from tinytrain.planner import Plan, ProgramPlan, plan_program


@dataclass(frozen=True)
class Fake(Op):
    """Any number of inputs; outputs of the given sizes (float elements). Unnamed, hence not in the registry."""

    sizes: tuple[int, ...] = (4,)
    pairs: tuple[tuple[int, int], ...] = ()

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return tuple(TensorType((n,)) for n in self.sizes)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return self.pairs


@dataclass(frozen=True)
class View(Fake):
    view = True


def same(*values: Value, pairs: tuple[tuple[int, int], ...] = ((0, 0),)) -> Fake:
    return Fake(sizes=(values[0].type.numel,), pairs=pairs)


def param(g: Builder, name: str, n: int, role: Role = Role.PARAM) -> Value:
    return g.const(name, np.zeros(n, np.float32), role)


def plan_one(graph: Graph, **options: object) -> Plan:
    """Plan of a program with this graph alone; exact placement off unless asked for."""
    return plan_all({"only": graph}, **options).entries["only"]


def plan_all(entries: dict[str, Graph], **options: object) -> ProgramPlan:
    for graph in entries.values():
        verify(graph)
    return plan_program(Program("p", entries), **{"exact_seconds": 0.0, **options})  # type: ignore[arg-type]


@st.composite
def random_graphs(draw: st.DrawFn) -> Graph:
    g = Builder("random")
    params = [param(g, "w", draw(st.sampled_from((3, 4, 8)))) for _ in range(draw(st.integers(0, 3)))]
    values = [g.input("x", (4,)), g.const("c", np.zeros(4, np.float32)), *params]
    sgd = draw(st.booleans())
    for _ in range(draw(st.integers(0, 12))):
        # mostly recent values, so that the graph gets deep
        read = draw(st.lists(st.integers(0, min(len(values), 6) - 1), min_size=1, max_size=3))
        recent = draw(st.booleans())
        inputs = [values[-1 - i if recent else i] for i in read]
        kind = draw(st.integers(0, 3))
        if kind == 0:
            values.append(g.emit(View(sizes=(inputs[0].type.numel,)), inputs[0]))
        else:
            sizes = tuple(draw(st.lists(st.sampled_from((1, 3, 4, 4, 8)), min_size=1, max_size=2)))
            grid = [(i, o) for i in range(len(inputs)) for o in range(len(sizes))]
            pairs = tuple(draw(st.lists(st.sampled_from(grid), unique=True)))
            values.extend(g.emit_all(Fake(sizes, pairs), *inputs))
    updates: dict[Value, Value] = {}
    for w in params:
        if sgd:
            values.append(g.emit(same(w, pairs=((0, 0), (1, 0))), w, values[-1]))
        fits = [v for v in values if v.type == w.type and v not in params and v.role is not Role.CONST]
        if draw(st.booleans()) and fits:
            updates[w] = fits[-1] if draw(st.booleans()) else draw(st.sampled_from(fits))
    shown = [v for v in values if not _shows_any(g.nodes, v, updates)]
    outputs = draw(st.lists(st.sampled_from(shown), unique=True, max_size=2))
    return g.graph(outputs, updates)


def _shows_any(nodes: list[Node], value: Value, params: dict[Value, Value]) -> bool:
    for node in reversed(nodes):
        if node.op.view and value in node.outputs:
            value = node.inputs[0]
    return value in params


def training(pairs: tuple[tuple[int, int], ...]) -> tuple[Graph, Value, Value, Value]:
    """g = grad(x); w2 = sgd(w, g); dx = back(g, w): as given, the update comes before the last reader of w."""
    g = Builder("train")
    w = param(g, "w", 4)
    grad = g.emit(Fake((4,)), g.input("x", (4,)), name="grad")
    new = g.emit(same(w, pairs=pairs), w, grad, name="new")
    back = g.emit(Fake((4,)), grad, w, name="back")
    return g.graph([back], {w: new}), w, new, back


def deep(layers: int) -> Graph:
    """A training step of many layers: forward, then gradients and updates from the last layer to the first."""
    g = Builder("deep")
    rng = np.random.default_rng(0)
    sizes = [int(n) for n in rng.integers(20, 400, layers + 1)]
    acts = [g.input("x", (sizes[0],))]
    weights = [param(g, f"w{k}", 32) for k in range(layers)]
    for k in range(layers):
        acts.append(g.emit(Fake((sizes[k + 1],)), acts[-1], weights[k], name="act"))
    dy = g.emit(Fake((sizes[-1],)), acts[-1], name="loss")
    updates = {}
    for k in reversed(range(layers)):
        dw = g.emit(Fake((32,)), acts[k], dy, name="dw")
        updates[weights[k]] = g.emit(same(weights[k], pairs=((0, 0), (1, 0))), weights[k], dw, name="new")
        dy = g.emit(Fake((sizes[k],)), dy, weights[k], name="dx")
    return g.graph([acts[-1]], updates)
