# SPDX-License-Identifier: Apache-2.0
"""The planner on graphs made of ops that exist only here: random ones by hypothesis, and one small case a rule."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph, Node, Program
from tinytrain.ir.op import Op
from tinytrain.ir.types import Role, TensorType, Value
from tinytrain.ir.verify import verify
from tinytrain.planner import Buffer, Plan, ProgramPlan, check_plan, plan_program
from tinytrain.planner.exact import improve
from tinytrain.planner.place import lower_bound, overlaps, place


@dataclass(frozen=True)
class _Fake(Op):
    """Any number of inputs; outputs of the given sizes (float elements). Unnamed, hence not in the registry."""

    sizes: tuple[int, ...] = (4,)
    pairs: tuple[tuple[int, int], ...] = ()

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return tuple(TensorType((n,)) for n in self.sizes)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return self.pairs


@dataclass(frozen=True)
class _View(_Fake):
    view = True


def _same(*values: Value, pairs: tuple[tuple[int, int], ...] = ((0, 0),)) -> _Fake:
    return _Fake(sizes=(values[0].type.numel,), pairs=pairs)


def _param(g: Builder, name: str, n: int, role: Role = Role.PARAM) -> Value:
    return g.const(name, np.zeros(n, np.float32), role)


def _one(graph: Graph, **options: object) -> Plan:
    """Plan of a program with this graph alone; exact placement off unless asked for."""
    return _all({"only": graph}, **options).entries["only"]


def _all(entries: dict[str, Graph], **options: object) -> ProgramPlan:
    for graph in entries.values():
        verify(graph)
    return plan_program(Program("p", entries), **{"exact_seconds": 0.0, **options})  # type: ignore[arg-type]


@st.composite
def _graphs(draw: st.DrawFn) -> Graph:
    g = Builder("random")
    params = [_param(g, "w", draw(st.sampled_from((3, 4, 8)))) for _ in range(draw(st.integers(0, 3)))]
    values = [g.input("x", (4,)), g.const("c", np.zeros(4, np.float32)), *params]
    sgd = draw(st.booleans())
    for _ in range(draw(st.integers(0, 12))):
        # mostly recent values, so that the graph gets deep
        read = draw(st.lists(st.integers(0, min(len(values), 6) - 1), min_size=1, max_size=3))
        recent = draw(st.booleans())
        inputs = [values[-1 - i if recent else i] for i in read]
        kind = draw(st.integers(0, 3))
        if kind == 0:
            values.append(g.emit(_View(sizes=(inputs[0].type.numel,)), inputs[0]))
        else:
            sizes = tuple(draw(st.lists(st.sampled_from((1, 3, 4, 4, 8)), min_size=1, max_size=2)))
            grid = [(i, o) for i in range(len(inputs)) for o in range(len(sizes))]
            pairs = tuple(draw(st.lists(st.sampled_from(grid), unique=True)))
            values.extend(g.emit_all(_Fake(sizes, pairs), *inputs))
    updates: dict[Value, Value] = {}
    for w in params:
        if sgd:
            values.append(g.emit(_same(w, pairs=((0, 0), (1, 0))), w, values[-1]))
        fits = [v for v in values if v.type == w.type and v not in params and v.role is not Role.CONST]
        if fits and draw(st.booleans()):
            updates[w] = fits[-1] if draw(st.booleans()) else draw(st.sampled_from(fits))
    shown = [v for v in values if not _shows_any(g.nodes, v, updates)]
    outputs = draw(st.lists(st.sampled_from(shown), unique=True, max_size=2))
    return g.graph(outputs, updates)


def _shows_any(nodes: list[Node], value: Value, params: dict[Value, Value]) -> bool:
    for node in reversed(nodes):
        if node.op.view and value in node.outputs:
            value = node.inputs[0]
    return value in params


@settings(max_examples=300, deadline=None)
@given(_graphs(), st.sampled_from((1, 8, 16)), st.sampled_from((0, 12)))
def test_any_graph_gets_a_plan_that_the_checker_accepts(graph: Graph, align: int, scratch_bytes: int) -> None:
    def scratch(node: Node) -> int:
        return scratch_bytes if len(node.inputs) == 2 else 0

    plan = _one(graph, align=align, scratch=scratch)
    assert plan.arena_bytes >= plan.lower_bound_bytes
    assert plan.arena_bytes <= sum(v.type.nbytes + align for v in graph.values()) + len(graph.nodes) * (scratch_bytes + align)
    again = _one(graph, align=align, scratch=scratch)
    assert again.offsets == plan.offsets and again.graph.nodes == plan.graph.nodes and again.aliases == plan.aliases


@settings(max_examples=300, deadline=None)
@given(_graphs(), st.data())
def test_checker_refuses_overlap_of_values_in_use(graph: Graph, data: st.DataObject) -> None:
    """Move one value onto another that is written before and read after it: the reader must notice."""
    plan = _one(graph)
    nodes = [n for n in plan.graph.nodes if not n.op.view]
    victims = [
        (v, w) for p, writer in enumerate(nodes) for w in writer.outputs
        for later in nodes[p + 1 :] for v in later.inputs
        if v in plan.offsets and v.role is Role.TEMP and plan.root(w) is w
        and plan.root(v) is not w and not any(v in n.outputs for n in nodes[p:])
        and not any(n.op.view and (v in n.outputs or w in n.inputs) for n in plan.graph.nodes)
    ]
    if not victims:
        return
    v, w = data.draw(st.sampled_from(victims))
    moved = {x: plan.offsets[v] if plan.root(x) is w else at for x, at in plan.offsets.items()}
    with pytest.raises(AssertionError):
        check_plan(graph, dataclasses.replace(plan, offsets=moved, arena_bytes=10_000), {}, 8)


_boxes = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5), st.integers(1, 60)), min_size=1, max_size=14)


@settings(max_examples=60, deadline=None)
@given(_boxes, st.booleans())
def test_exact_is_never_worse_than_greedy_and_never_below_the_bound(boxes: list[tuple[int, int, int]], pin: bool) -> None:
    pytest.importorskip("ortools")
    buffers = [Buffer(i, s, s + d, size, 8, 0 if pin and i == 0 else None) for i, (s, d, size) in enumerate(boxes)]
    greedy = place(buffers)
    exact = improve(buffers, greedy, 2.0)
    assert lower_bound(buffers) <= exact.height <= greedy.height
    assert exact.proven_optimal
    for found in (greedy, exact):
        assert max(at + b.padded for at, b in zip(found.offsets, buffers, strict=True)) <= found.height
        for i, others in enumerate(overlaps(buffers)):
            for j in others:
                low, high = sorted((i, j), key=lambda k: found.offsets[k])
                assert found.offsets[low] + buffers[low].padded <= found.offsets[high]
    assert improve(buffers, greedy, 2.0) == exact


def test_exact_search_closes_a_gap_that_greedy_leaves() -> None:
    pytest.importorskip("ortools")
    rng = np.random.default_rng(3)
    for _ in range(200):
        starts, lengths, sizes = rng.integers(0, 12, 14), rng.integers(1, 7, 14), rng.integers(1, 20, 14)
        buffers = [Buffer(i, int(s), int(s + d), int(8 * n), 8) for i, (s, d, n) in enumerate(zip(starts, lengths, sizes, strict=True))]
        greedy = place(buffers)
        if not greedy.proven_optimal and improve(buffers, greedy, 5.0).height < greedy.height:
            return
    pytest.fail("no case found where the exact search helps")


def test_without_ortools_the_greedy_placement_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ortools.sat.python", None)
    buffers = [Buffer(0, 0, 2, 8, 8), Buffer(1, 1, 3, 8, 8)]
    start = dataclasses.replace(place(buffers), proven_optimal=False)
    assert improve(buffers, start, 5.0) is start


def test_graph_without_nodes_and_program_without_entries() -> None:
    g = Builder("empty")
    x = g.input("x", (4,))
    w = _param(g, "w", 3)
    plan = _all({"only": g.graph([x])})
    assert (plan.arena_bytes, plan.entries["only"].offsets, plan.proven_optimal) == (0, {}, True)
    plan = _all({"only": g.graph([w])})
    assert (plan.arena_bytes, plan.fixed, plan.fixed_bytes) == (16, {w: 0}, 16)
    assert plan_program(Program("none", {})).arena_bytes == 0


def test_chain_in_place_uses_one_buffer_and_views_none() -> None:
    g = Builder("chain")
    x = g.input("x", (4,))
    a = g.emit(_Fake((4,)), x)
    b = g.emit(_View((4,)), a)
    c = g.emit(_same(b), b)
    plan = _one(g.graph([c]))
    assert plan.arena_bytes == 16
    assert plan.root(b) is a and plan.root(c) is a and plan.root(a) is a
    view = g.emit(_View((4,)), x)
    plan = _one(g.graph([view, c]))
    assert plan.root(view) is x and view not in plan.offsets


@pytest.mark.parametrize(
    ("op", "why"),
    [
        (_Fake((4,), ((0, 0),)), "the input is read again"),
        (_Fake((3,), ((0, 0),)), "sizes differ"),
        (_Fake((4,), ()), "the op does not allow it"),
    ],
)
def test_not_in_place(op: _Fake, why: str) -> None:
    g = Builder("apart")
    a = g.emit(_Fake((4,)), g.input("x", (4,)))
    b = g.emit(op, a)
    c = g.emit(_Fake((4,)), a, b) if "again" in why else g.emit(_Fake((4,)), b)
    assert _one(g.graph([c])).root(b) is b, why


def test_input_read_twice_is_overwritten_only_if_both_reads_allow_it() -> None:
    for pairs, shared in ((((0, 0),), False), (((0, 0), (1, 0)), True)):
        g = Builder("twice")
        a = g.emit(_Fake((4,)), g.input("x", (4,)))
        view = g.emit(_View((4,)), a)
        b = g.emit(_Fake((4,), pairs), a, view)
        assert (_one(g.graph([b])).root(b) is a) is shared


def test_two_outputs_never_take_the_same_input() -> None:
    g = Builder("two")
    a = g.emit(_Fake((4,)), g.input("x", (4,)))
    b, c = g.emit_all(_Fake((4, 4), ((0, 0), (0, 1))), a)
    plan = _one(g.graph([b, c]))
    assert [plan.root(b), plan.root(c)] == [a, c]


def _training(pairs: tuple[tuple[int, int], ...]) -> tuple[Graph, Value, Value, Value]:
    """g = grad(x); w2 = sgd(w, g); dx = back(g, w): as given, the update comes before the last reader of w."""
    g = Builder("train")
    w = _param(g, "w", 4)
    grad = g.emit(_Fake((4,)), g.input("x", (4,)), name="grad")
    new = g.emit(_same(w, pairs=pairs), w, grad, name="new")
    back = g.emit(_Fake((4,)), grad, w, name="back")
    return g.graph([back], {w: new}), w, new, back


def test_update_in_place_waits_for_the_last_reader_of_the_old_value() -> None:
    graph, w, new, back = _training(((0, 0),))
    plan = _one(graph)
    assert plan.root(new) is w and plan.copies == () and plan.offsets[new] == plan.offsets[w]
    made = [n.outputs[0] for n in plan.graph.nodes]
    assert made.index(back) < made.index(new)


def test_update_by_an_op_that_cannot_write_in_place_is_copied() -> None:
    graph, w, new, _ = _training(())
    plan = _one(graph)
    assert plan.root(new) is new and plan.copies == ((w, new),)


def test_update_whose_old_value_is_needed_later_is_copied() -> None:
    g = Builder("cycle")
    w = _param(g, "w", 4)
    new = g.emit(_same(w), w)
    y = g.emit(_Fake((4,)), new, g.emit(_View((4,)), w))
    plan = _one(g.graph([y], {w: new}))
    assert plan.copies == ((w, new),) and plan.root(new) is new


def test_update_that_does_not_read_the_old_value_is_written_in_its_place() -> None:
    g = Builder("reset")
    acc = _param(g, "acc", 4, Role.STATE)
    zero = g.emit(_View((4,)), g.emit(_Fake((4,)), g.input("x", (4,))))
    y = g.emit(_Fake((4,)), acc)
    plan = _one(g.graph([y], {acc: zero}))
    assert plan.root(zero) is acc and plan.copies == ()


def test_copies_come_in_an_order_that_loses_nothing() -> None:
    g = Builder("shift")
    x = g.input("x", (4,))
    a, b, c = (_param(g, name, 4, Role.STATE) for name in "abc")
    graph = g.graph([], {c: x, b: c, a: b})
    assert _one(graph).copies == ((a, b), (b, c), (c, x))
    with pytest.raises(AssertionError, match="swap"):
        _one(g.graph([], {a: b, b: a}))
    with pytest.raises(AssertionError, match=r"%b:f32\[4\] is an output and is updated by %x"):
        _one(g.graph([b], {b: x}))


def test_entries_share_the_fixed_part() -> None:
    train, w, _, _ = _training(((0, 0),))
    g = Builder("infer", taken=[w])
    state = _param(g, "state", 5, Role.STATE)
    infer = g.graph([g.emit(_Fake((9,)), state)])
    plan = _all({"infer": infer, "train": train})
    assert plan.fixed == {state: 0, w: 24} and plan.fixed_bytes == 40
    assert all(entry.offsets[v] == at for entry in plan.entries.values() for v, at in plan.fixed.items())
    assert plan.arena_bytes == max(entry.arena_bytes for entry in plan.entries.values()) == 80
    assert plan.proven_optimal and plan.lower_bound_bytes == 80


def test_scratch_has_room_only_while_its_node_runs() -> None:
    g = Builder("scratch")
    a = g.emit(_Fake((2,)), g.input("x", (4,)))
    b = g.emit(_Fake((2,)), a)
    graph = g.graph([g.emit(_Fake((2,)), b)])
    plan = _one(graph, scratch=lambda node: 8 if b in node.outputs else 0)
    assert plan.arena_bytes == 24
    node = graph.nodes[1]
    assert list(plan.scratch_offsets) == [node] and plan.peak.values == (a, b)
    moved = dataclasses.replace(plan, scratch_offsets={node: plan.offsets[a]})
    with pytest.raises(AssertionError, match=r"scratch of  over its input 0 %"):
        check_plan(graph, moved, {}, 8)


def test_checker_names_both_values() -> None:
    g = Builder("net")
    x = g.input("x", (4,))
    a = g.emit(_Fake((4,)), x, name="a")
    b = g.emit(_Fake((4,)), x, name="b")
    c = g.emit(_Fake((4,)), a, b, name="c")
    graph = g.graph([c])
    plan = _one(graph)

    def refused(match: str, **changes: object) -> None:
        with pytest.raises(AssertionError, match=match):
            check_plan(graph, dataclasses.replace(plan, **changes), {}, 8)  # type: ignore[arg-type]

    at = plan.offsets
    refused(r"%[ab]:f32\[4\] is expected at \d+\.\.\d+, %[ab]:f32\[4\] is there", offsets={**at, a: at[b]})
    refused("is not aligned to 8", offsets={**at, a: at[a] + 4})
    refused("leaves the arena", arena_bytes=plan.arena_bytes - 1)
    refused("before it is written", graph=graph.replace(nodes=graph.nodes[::-1]))
    refused("2 planned", graph=graph.replace(nodes=graph.nodes[:2]))
    refused(r"its root %b", aliases={a: b})
    refused(r"%c:f32\[4\] over its input 0 %a", offsets={**at, c: at[a]})
    refused("no place in the arena", offsets={v: o for v, o in at.items() if v is not c}, aliases={})


def test_checker_refuses_an_update_before_the_last_reader() -> None:
    graph, w, new, _ = _training(((0, 0),))
    plan = _one(graph)
    fixed = {w: 0}
    check_plan(graph, plan, fixed, 8)
    wrong = dataclasses.replace(plan, graph=graph)
    with pytest.raises(AssertionError, match=r"reads %w:f32\[4\].*: %w:f32\[4\] is expected at 0\.\.16, %new|%w.*%new"):
        check_plan(graph, wrong, fixed, 8)
    apart = {**plan.offsets, new: 64}
    with pytest.raises(AssertionError, match=r"end, %w"):
        check_plan(graph, dataclasses.replace(plan, offsets=apart, aliases={}, arena_bytes=80), fixed, 8)


def _deep(layers: int) -> Graph:
    """A training step of many layers: forward, then gradients and updates from the last layer to the first."""
    g = Builder("deep")
    rng = np.random.default_rng(0)
    sizes = [int(n) for n in rng.integers(20, 400, layers + 1)]
    acts = [g.input("x", (sizes[0],))]
    weights = [_param(g, f"w{k}", 32) for k in range(layers)]
    for k in range(layers):
        acts.append(g.emit(_Fake((sizes[k + 1],)), acts[-1], weights[k], name="act"))
    dy = g.emit(_Fake((sizes[-1],)), acts[-1], name="loss")
    updates = {}
    for k in reversed(range(layers)):
        dw = g.emit(_Fake((32,)), acts[k], dy, name="dw")
        updates[weights[k]] = g.emit(_same(weights[k], pairs=((0, 0), (1, 0))), weights[k], dw, name="new")
        dy = g.emit(_Fake((sizes[k],)), dy, weights[k], name="dx")
    return g.graph([acts[-1]], updates)


def test_five_hundred_nodes_plan_quickly_and_all_updates_are_in_place() -> None:
    import time

    graph = _deep(125)
    start = time.perf_counter()
    plan = _one(graph)
    assert time.perf_counter() - start < 5.0
    assert plan.copies == () and len(plan.graph.nodes) == 501
    assert plan.arena_bytes <= 1.1 * plan.lower_bound_bytes


def test_gradient_is_applied_at_once() -> None:
    """All gradients first, all updates last, as given: the planner moves each update to its gradient."""
    g = Builder("late")
    x = g.input("x", (4,))
    weights = [_param(g, "w", 32) for _ in range(6)]
    grads = [g.emit(_Fake((32,)), x) for _ in weights]
    news = [g.emit(_same(w, pairs=((0, 0), (1, 0))), w, dw) for w, dw in zip(weights, grads, strict=True)]
    plan = _one(g.graph([], dict(zip(weights, news, strict=True))))
    assert plan.arena_bytes == 6 * 128 + 128
    assert plan.order != "as given" and plan.proven_optimal


def test_old_value_that_another_update_stores_is_not_overwritten_before() -> None:
    """{a: b, b: b2}: a gets the old b."""
    g = Builder("delay")
    a, b = (_param(g, name, 4, Role.STATE) for name in "ab")
    new = g.emit(_same(b), b)
    plan = _one(g.graph([], {a: b, b: new}))
    assert plan.copies == ((a, b), (b, new))


def test_same_program_same_plan() -> None:
    """Also where values are other objects, and where the exact search is cut off."""
    plans = [_one(_deep(20)) for _ in range(2)]
    named = [{v.name: at for v, at in plan.offsets.items()} for plan in plans]
    assert named[0] == named[1]
    assert [n.outputs[0].name for n in plans[0].graph.nodes] == [n.outputs[0].name for n in plans[1].graph.nodes]

    pytest.importorskip("ortools")
    rng = np.random.default_rng(1)
    starts, lengths, sizes = rng.integers(0, 60, 120), rng.integers(1, 30, 120), rng.integers(1, 500, 120)
    buffers = [Buffer(i, int(s), int(s + d), int(n), 8) for i, (s, d, n) in enumerate(zip(starts, lengths, sizes, strict=True))]
    greedy = dataclasses.replace(place(buffers), proven_optimal=False)
    assert improve(buffers, greedy, 0.5) == improve(buffers, greedy, 0.5)
