# SPDX-License-Identifier: Apache-2.0
"""Plans of random graphs by hypothesis, and one small case a rule of the planner and of its checker."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_graphs import Fake, View, deep, param, plan_all, plan_one, random_graphs, same, training

from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph, Node, Program
from tinytrain.ir.types import Role
from tinytrain.planner import Buffer, Needs, check_plan, plan_program
from tinytrain.planner.exact import improve
from tinytrain.planner.place import lower_bound, overlaps, place

ARENA = 1_000_000                                         # bytes that no plan here fills


@settings(max_examples=300, deadline=None)
@given(
    random_graphs(), st.sampled_from((1, 8, 16)), st.sampled_from((0, 12)), st.sampled_from((None, 0, 12)), st.sampled_from((0, 4, 40)),
    st.booleans(),
)
def test_any_graph_gets_a_plan_that_the_checker_accepts(
    graph: Graph, align: int, scratch_bytes: int, lead: int | None, spare_bytes: int, either: bool
) -> None:
    def needs(node: Node) -> Needs:
        spare = (spare_bytes,) if spare_bytes else ()
        return Needs(scratch_bytes) if len(node.inputs) == 2 else Needs(lead=lead, spare=spare, either=either)

    plan = plan_one(graph, align=align, needs=needs)
    without = plan_one(graph, align=align, needs=lambda node: dataclasses.replace(needs(node), spare=()))
    assert plan.arena_bytes == without.arena_bytes, "what is spare costs nothing"
    places = [(plan.offsets.get(n.inputs[0]), plan.offsets[n.outputs[0]], n) for n in plan.spare if (0, 0) not in n.op.inplace]
    over = [n for x, y, n in places if x is not None and y <= x < y + n.outputs[0].type.nbytes]
    assert either or not over, "a kernel that needs them apart has them apart"
    assert all(size == spare_bytes and at + size <= plan.arena_bytes for at, size in plan.spare.values())
    assert plan.arena_bytes >= plan.lower_bound_bytes
    assert plan.arena_bytes <= sum(v.type.nbytes + align for v in graph.values()) + len(graph.nodes) * (scratch_bytes + align)
    again = plan_one(graph, align=align, needs=needs)
    assert again.offsets == plan.offsets and again.graph.nodes == plan.graph.nodes and again.aliases == plan.aliases


@settings(max_examples=300, deadline=None)
@given(random_graphs(), st.data())
def test_checker_refuses_overlap_of_values_in_use(graph: Graph, data: st.DataObject) -> None:
    """Move one value onto another that is written before and read after it: the reader must notice."""
    plan = plan_one(graph)
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
        check_plan(graph, dataclasses.replace(plan, offsets=moved, arena_bytes=10_000), {}, plan.offsets[graph.inputs[0]], 8, ARENA)


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


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 3), st.sampled_from((None, 0, 8, 80))), min_size=2, max_size=8))
def test_buffers_may_lie_over_what_ends_where_they_begin(chain: list[tuple[int, int, int | None]]) -> None:
    """In a chain, each value may be written over the one before; greedy and exact placements share bytes at one distance only."""
    pytest.importorskip("ortools")
    buffers: list[Buffer] = []
    for i, (size, longer, lead) in enumerate(chain):
        over = (i - 1, lead) if i and lead is not None and chain[i - 1][1] == 0 else None
        buffers.append(Buffer(i, i, i + 2 + longer, size, 8, over=over))
    greedy = place(buffers)
    exact = improve(buffers, greedy, 2.0)
    assert lower_bound(buffers) <= exact.height <= greedy.height and exact.proven_optimal
    for found in (greedy, exact):
        for i, others in enumerate(overlaps(buffers)):
            for a, b in ((buffers[i], buffers[j]) for j in others if j < i):
                at, start = found.offsets[a.id], found.offsets[b.id]
                assert at >= start + b.padded or start >= at + a.padded or a.lies_over(at, b, start)


def test_a_node_writes_over_what_it_reads() -> None:
    """8 bytes grow to 24, which shrink to 16: written 16 bytes before what is read, and where it begins."""
    g = Builder("over")
    a = g.emit(Fake((2,)), g.input("x", (1,)))
    b = g.emit(Fake((6,)), a)
    c = g.emit(Fake((4,)), b)
    d = g.emit(Fake((1,)), c)
    graph = g.graph([d])
    leads = {b: 13, c: 0}
    plan = plan_one(graph, needs=lambda node: Needs(lead=leads.get(node.outputs[0])))
    at = plan.offsets
    assert at[a] == at[b] + 16 and at[c] == at[b] and plan.arena_bytes == 24 and plan.proven_optimal
    assert plan_one(graph).arena_bytes == 40
    for wrong in ({a: at[a] - 8}, {c: at[c] + 8}):
        with pytest.raises(AssertionError, match=r"over its input 0 %"):
            check_plan(graph, dataclasses.replace(plan, offsets={**at, **wrong}, arena_bytes=40), {}, at[graph.inputs[0]], 8, ARENA)


@pytest.mark.parametrize("why", ["read again", "read twice", "kept", "of the caller", "stored"])
def test_what_is_not_written_over(why: str) -> None:
    g = Builder("apart")
    x = g.input("x", (4,))
    a = {"of the caller": x, "stored": param(g, "w", 4)}.get(why) or g.emit(Fake((4,)), x)
    b = g.emit(Fake((4,)), *([a, a] if why == "read twice" else [a]))
    c = g.emit(Fake((4,)), *([a, b] if why == "read again" else [b]))
    plan = plan_all({"only": g.graph([a, c] if why == "kept" else [c])}, needs=lambda node: Needs(lead=0 if b in node.outputs else None))
    at = plan.entries["only"].offsets
    assert at[a] != at[b]


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
    monkeypatch.setitem(sys.modules, "ortools.sat.python", None)
    buffers = [Buffer(0, 0, 2, 8, 8), Buffer(1, 1, 3, 8, 8)]
    start = dataclasses.replace(place(buffers), proven_optimal=False)
    assert improve(buffers, start, 5.0) is start


def test_graph_without_nodes_and_program_without_entries() -> None:
    g = Builder("empty")
    x = g.input("x", (4,))
    w = param(g, "w", 3)
    plan = plan_all({"only": g.graph([x])})
    assert (plan.arena_bytes, plan.entries["only"].offsets, plan.proven_optimal) == (16, {x: 0}, True)
    plan = plan_all({"only": dataclasses.replace(g.graph([w]), inputs=())})
    assert (plan.arena_bytes, plan.fixed, plan.fixed_bytes) == (16, {w: 0}, 16)
    assert plan_program(Program("none", {})).arena_bytes == 0


def test_chain_in_place_uses_one_buffer_and_views_none() -> None:
    g = Builder("chain")
    x = g.input("x", (4,))
    a = g.emit(Fake((4,)), x)
    b = g.emit(View((4,)), a)
    c = g.emit(same(b), b)
    plan = plan_one(g.graph([c]))
    assert plan.arena_bytes == 32, "the chain and its sample"
    assert plan.root(b) is a and plan.root(c) is a and plan.root(a) is a
    view = g.emit(View((4,)), x)
    plan = plan_one(g.graph([view, c]))
    assert plan.root(view) is x and plan.offsets[view] == plan.offsets[x]


@pytest.mark.parametrize(
    ("op", "why"),
    [
        (Fake((4,), ((0, 0),)), "the input is read again"),
        (Fake((3,), ((0, 0),)), "sizes differ"),
        (Fake((4,), ()), "the op does not allow it"),
    ],
)
def test_not_in_place(op: Fake, why: str) -> None:
    g = Builder("apart")
    a = g.emit(Fake((4,)), g.input("x", (4,)))
    b = g.emit(op, a)
    c = g.emit(Fake((4,)), a, b) if "again" in why else g.emit(Fake((4,)), b)
    assert plan_one(g.graph([c])).root(b) is b, why


def test_input_read_twice_is_overwritten_only_if_both_reads_allow_it() -> None:
    for pairs, shared in ((((0, 0),), False), (((0, 0), (1, 0)), True)):
        g = Builder("twice")
        a = g.emit(Fake((4,)), g.input("x", (4,)))
        view = g.emit(View((4,)), a)
        b = g.emit(Fake((4,), pairs), a, view)
        assert (plan_one(g.graph([b])).root(b) is a) is shared


def test_two_outputs_never_take_the_same_input() -> None:
    g = Builder("two")
    a = g.emit(Fake((4,)), g.input("x", (4,)))
    b, c = g.emit_all(Fake((4, 4), ((0, 0), (0, 1))), a)
    plan = plan_one(g.graph([b, c]))
    assert [plan.root(b), plan.root(c)] == [a, c]


def test_update_in_place_waits_for_the_last_reader_of_the_old_value() -> None:
    graph, w, new, back = training(((0, 0),))
    plan = plan_one(graph)
    assert plan.root(new) is w and plan.copies == () and plan.offsets[new] == plan.offsets[w]
    made = [n.outputs[0] for n in plan.graph.nodes]
    assert made.index(back) < made.index(new)


def test_update_by_an_op_that_cannot_write_in_place_is_copied() -> None:
    graph, w, new, _ = training(())
    plan = plan_one(graph)
    assert plan.root(new) is new and plan.copies == ((w, new),)


def test_update_whose_old_value_is_needed_later_is_copied() -> None:
    g = Builder("cycle")
    w = param(g, "w", 4)
    new = g.emit(same(w), w)
    y = g.emit(Fake((4,)), new, g.emit(View((4,)), w))
    plan = plan_one(g.graph([y], {w: new}))
    assert plan.copies == ((w, new),) and plan.root(new) is new


def test_update_that_does_not_read_the_old_value_is_written_in_its_place() -> None:
    g = Builder("reset")
    acc = param(g, "acc", 4, Role.STATE)
    zero = g.emit(View((4,)), g.emit(Fake((4,)), g.input("x", (4,))))
    y = g.emit(Fake((4,)), acc)
    plan = plan_one(g.graph([y], {acc: zero}))
    assert plan.root(zero) is acc and plan.copies == ()


def test_copies_come_in_an_order_that_loses_nothing() -> None:
    g = Builder("shift")
    x = g.input("x", (4,))
    a, b, c = (param(g, name, 4, Role.STATE) for name in "abc")
    graph = g.graph([], {c: x, b: c, a: b})
    assert plan_one(graph).copies == ((a, b), (b, c), (c, x))
    with pytest.raises(AssertionError, match="swap"):
        plan_one(g.graph([], {a: b, b: a}))
    with pytest.raises(AssertionError, match=r"%b:f32\[4\] is an output and is updated by %x"):
        plan_one(g.graph([b], {b: x}))


def test_entries_share_the_fixed_part() -> None:
    train, w, _, _ = training(((0, 0),))
    g = Builder("infer", taken=[w])
    state = param(g, "state", 5, Role.STATE)
    infer = g.graph([g.emit(Fake((9,)), state)])
    plan = plan_all({"infer": infer, "train": train})
    assert plan.fixed == {state: 0, w: 24} and plan.fixed_bytes == 40
    assert all(entry.offsets[v] == at for entry in plan.entries.values() for v, at in plan.fixed.items())
    assert plan.arena_bytes == max(entry.arena_bytes for entry in plan.entries.values()) == 80
    assert plan.proven_optimal and plan.lower_bound_bytes == 80


def test_the_sample_has_one_offset_in_all_entries_and_is_overwritten_after_its_last_reader() -> None:
    """infer alone would have it at the bottom, train, where the first value is larger, above that."""
    entries = {}
    for name, sizes in {"infer": (8, 4), "train": (40, 8, 60), "evaluate": (4, 30)}.items():
        g = Builder(name)
        v = x = g.input("x", (20,))
        for size in sizes:
            v = g.emit(Fake((size,)), v)
        entries[name] = g.graph([v])
    plan = plan_all(entries)
    assert {p.offsets[p.graph.inputs[0]] for p in plan.entries.values()} == {plan.input_offset}
    assert plan.arena_bytes == 4 * 68 and plan.proven_optimal
    train = plan.entries["train"]
    last = train.graph.outputs[0]
    assert train.offsets[last] < plan.input_offset + 80 and plan.input_offset < train.offsets[last] + 240
    assert train.graph.inputs[0] is not x


def test_nothing_is_written_in_place_of_the_sample() -> None:
    """The caller may have it in a buffer of its own, which is const."""
    g = Builder("const")
    x = g.input("x", (4,))
    a = g.emit(same(x), x)
    plan = plan_one(g.graph([a]))
    assert plan.root(a) is a and plan.offsets[a] != plan.offsets[x]


def test_scratch_has_room_only_while_its_node_runs() -> None:
    g = Builder("scratch")
    a = g.emit(Fake((2,)), g.input("x", (2,)))
    b = g.emit(Fake((2,)), a)
    graph = g.graph([g.emit(Fake((2,)), b)])
    plan = plan_one(graph, needs=lambda node: Needs(8 if b in node.outputs else 0))
    assert plan.arena_bytes == 24
    node = graph.nodes[1]
    assert list(plan.scratch_offsets) == [node] and plan.peak.values == (a, b)
    moved = dataclasses.replace(plan, scratch_offsets={node: plan.offsets[a]})
    with pytest.raises(AssertionError, match=r"scratch of  over its input 0 %"):
        check_plan(graph, moved, {}, plan.offsets[graph.inputs[0]], 8, ARENA)


def test_checker_names_both_values() -> None:
    g = Builder("net")
    x = g.input("x", (4,))
    a = g.emit(Fake((4,)), x, name="a")
    b = g.emit(Fake((4,)), x, name="b")
    c = g.emit(Fake((4,)), a, b, name="c")
    graph = g.graph([c])
    plan = plan_one(graph)

    def refused(match: str, **changes: object) -> None:
        with pytest.raises(AssertionError, match=match):
            check_plan(graph, dataclasses.replace(plan, **changes), {}, plan.offsets[x], 8, ARENA)  # type: ignore[arg-type]

    at = plan.offsets
    refused(r"%[ab]:f32\[4\] is expected at \d+\.\.\d+, %[ab]:f32\[4\] is there", offsets={**at, a: at[b]})
    refused("is not aligned to 8", offsets={**at, a: at[a] + 4})
    refused("leaves the arena", arena_bytes=plan.arena_bytes - 1)
    refused("before it is written", graph=graph.replace(nodes=graph.nodes[::-1]))
    refused("2 planned", graph=graph.replace(nodes=graph.nodes[:2]))
    refused(r"its root %b", aliases={a: b})
    refused(r"%c:f32\[4\] over its input 0 %a", offsets={**at, c: at[a]})
    refused(r"the sample %x:f32\[4\] stands at \d+, the program has it at", offsets={**at, x: at[x] + 8})
    refused(r"%x:f32\[4\] is expected at \d+\.\.\d+, %a:f32\[4\] is there|writes %a:f32\[4\] over its input 0 %x", offsets={**at, a: at[x]})
    refused("no place in the arena", offsets={v: o for v, o in at.items() if v is not c}, aliases={})


def test_checker_refuses_an_update_before_the_last_reader() -> None:
    graph, w, new, _ = training(((0, 0),))
    plan = plan_one(graph)
    fixed, sample_at = {w: 0}, plan.offsets[graph.inputs[0]]
    check_plan(graph, plan, fixed, sample_at, 8, ARENA)
    wrong = dataclasses.replace(plan, graph=graph)
    with pytest.raises(AssertionError, match=r"reads %w:f32\[4\].*: %w:f32\[4\] is expected at 0\.\.16, %new|%w.*%new"):
        check_plan(graph, wrong, fixed, sample_at, 8, ARENA)
    apart = {**plan.offsets, new: 64}
    with pytest.raises(AssertionError, match=r"end, %w"):
        check_plan(graph, dataclasses.replace(plan, offsets=apart, aliases={}, arena_bytes=80), fixed, sample_at, 8, ARENA)


def test_old_value_that_another_update_stores_is_not_overwritten_before() -> None:
    """{a: b, b: b2}: a gets the old b."""
    g = Builder("delay")
    a, b = (param(g, name, 4, Role.STATE) for name in "ab")
    new = g.emit(same(b), b)
    plan = plan_one(g.graph([], {a: b, b: new}))
    assert plan.copies == ((a, b), (b, new))


def test_same_program_same_plan() -> None:
    """Also where values are other objects, and where the exact search is cut off."""
    plans = [plan_one(deep(20)) for _ in range(2)]
    named = [{v.name: at for v, at in plan.offsets.items()} for plan in plans]
    assert named[0] == named[1]
    assert [n.outputs[0].name for n in plans[0].graph.nodes] == [n.outputs[0].name for n in plans[1].graph.nodes]

    pytest.importorskip("ortools")
    rng = np.random.default_rng(1)
    starts, lengths, sizes = rng.integers(0, 60, 120), rng.integers(1, 30, 120), rng.integers(1, 500, 120)
    buffers = [Buffer(i, int(s), int(s + d), int(n), 8) for i, (s, d, n) in enumerate(zip(starts, lengths, sizes, strict=True))]
    greedy = dataclasses.replace(place(buffers), proven_optimal=False)
    assert improve(buffers, greedy, 0.5) == improve(buffers, greedy, 0.5)


def test_value_that_replaces_two_stands_in_one_and_is_copied_to_the_other() -> None:
    g = Builder("both")
    a, b = (param(g, name, 4, Role.STATE) for name in "ab")
    new = g.emit(same(a), a)
    plan = plan_one(g.graph([], {a: new, b: new}))
    assert plan.root(new) is a and plan.copies == ((b, new),)
