# SPDX-License-Identifier: Apache-2.0
"""An independent proof of a plan: run it on labelled bytes.

Every write labels its bytes with the value written; every read demands that all bytes still carry the label of the value
read. Nothing here looks at lifetimes or at how the plan was found, so that a mistake there cannot hide here.
"""

from __future__ import annotations

import bisect
from collections import Counter

import numpy as np

from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.types import Role, Value
from tinytrain.planner.plan import Plan

_STORED = (Role.PARAM, Role.STATE)


class _Bytes:
    """The arena as runs between all offsets that occur, each with the label of who wrote it last; -1: nobody."""

    def __init__(self, ranges: list[tuple[int, int]]) -> None:
        self.cuts = sorted({0, *(at for at, _ in ranges), *(at + size for at, size in ranges)})
        self.labels = np.full(len(self.cuts), -1, np.int64)
        self.owners: list[object] = []

    def _runs(self, at: int, size: int) -> slice:
        return slice(bisect.bisect_left(self.cuts, at), bisect.bisect_left(self.cuts, at + size))

    def write(self, at: int, size: int, owner: object) -> None:
        self.labels[self._runs(at, size)] = len(self.owners)
        self.owners.append(owner)

    def demand(self, at: int, size: int, owner: Value, where: str) -> None:
        for label in self.labels[self._runs(at, size)]:
            found = self.owners[label] if label >= 0 else "nothing"
            assert found is owner, f"{where}: {owner!r} is expected at {at}..{at + size}, {_name(found)} is there"


def _name(owner: object) -> str:
    return f"scratch of {owner.op.name}" if isinstance(owner, Node) else f"{owner!r}"


def check_plan(given: Graph, plan: Plan, fixed: dict[Value, int], sample_at: int, align: int, program_bytes: int) -> None:
    """Raise AssertionError unless running `plan` gives what `given` means.

    `fixed`: offsets of all PARAM and STATE; `sample_at`: of the first input, where there is one; `program_bytes`: size of the arena. All as
    the program has them.
    """
    graph = plan.graph
    same = Counter(given.nodes) == Counter(graph.nodes)
    assert same, f"{given.name}: {len(given.nodes)} nodes given, {len(graph.nodes)} planned, or others"
    assert given.updates == graph.updates and given.outputs == graph.outputs, f"{given.name}: outputs or updates were changed"
    _check_ranges(plan, fixed, sample_at, align, program_bytes)

    ranges = [(at, v.type.nbytes) for v, at in plan.offsets.items()]
    ranges += [(at, plan.scratch_sizes[node]) for node, at in plan.scratch_offsets.items()]
    ranges += plan.spare.values()
    memory = _Bytes(ranges)
    # the value whose bytes a view shows
    shown: dict[Value, Value] = {}
    for v, at in fixed.items():
        memory.write(at, v.type.nbytes, v)
    for v in graph.inputs[:1]:
        memory.write(plan.offsets[v], v.type.nbytes, v)
    written: set[Value] = {v for v in graph.values() if v.role is not Role.TEMP}
    for position, node in enumerate(graph.nodes):
        where = f"{graph.name} node {position} {node.op.name}"
        for v in node.inputs:
            assert v in written, f"{where} reads {v!r} before it is written"
        written.update(node.outputs)
        if node.op.view:
            _check_view(plan, node, shown, where)
            continue
        for v in node.inputs:
            _demand(memory, plan, v, shown, f"{where} reads")
        _check_node(plan, node, where)
        if node in plan.scratch_offsets:
            memory.write(plan.scratch_offsets[node], plan.scratch_sizes[node], node)
        if node in plan.spare:
            memory.write(*plan.spare[node], node)
        for v in node.outputs:
            memory.write(plan.offsets[v], v.type.nbytes, v)

    for v in graph.outputs:
        _demand(memory, plan, v, shown, f"{graph.name} output")
    for old, new in plan.copies:
        assert graph.updates.get(old) is new, f"{graph.name}: copy of {new!r} over {old!r} is no update"
        _demand(memory, plan, new, shown, f"{graph.name} copy")
        memory.write(fixed[old], old.type.nbytes, shown.get(new, new))
    for v in graph.outputs:
        _demand(memory, plan, v, shown, f"{graph.name} output after copies")
    for v, at in fixed.items():
        new = graph.updates.get(v, graph.lent.get(v, v))
        memory.demand(at, v.type.nbytes, shown.get(new, new), f"{graph.name} end, {v!r}")
    _check_outputs_first(plan, {shown.get(v, v) for v in graph.outputs})
    _check_lent(plan)


def _check_ranges(plan: Plan, fixed: dict[Value, int], sample_at: int, align: int, program_bytes: int) -> None:
    """Alignment, bounds, and that stored values and the sample stand where the program wants them."""
    for v in plan.graph.inputs[:1]:
        assert plan.offsets.get(v) == sample_at, f"the sample {v!r} stands at {plan.offsets.get(v)}, the program has it at {sample_at}"
    for v, at in fixed.items():
        assert plan.offsets.get(v) == at, f"{v!r} stands at {plan.offsets.get(v)}, the program has it at {at}"
    pieces: list[tuple[object, int, int]] = [(v, at, v.type.nbytes) for v, at in plan.offsets.items()]
    pieces += [(node, at, plan.scratch_sizes[node]) for node, at in plan.scratch_offsets.items()]
    parts: set[Value] = set()                             # what begins within another value, and views of that
    for node in plan.graph.nodes:
        if node.op.view and (node.op.starts(*(v.type for v in node.inputs)) or parts.intersection(node.inputs)):
            parts.update(node.outputs)
    limits = [plan.arena_bytes] * len(pieces) + [program_bytes] * len(plan.spare)
    pieces += [(node, at, size) for node, (at, size) in plan.spare.items()]
    for (owner, at, size), limit in zip(pieces, limits, strict=True):
        needed = owner.type.dtype.np.itemsize if isinstance(owner, Value) and owner in parts else align
        assert at >= 0 and at % needed == 0, f"{_name(owner)} at offset {at} is not aligned to {needed}"
        assert at + size <= limit, f"{_name(owner)} at {at}..{at + size} leaves the arena of {limit} bytes"
    for node, size in plan.scratch_sizes.items():
        assert node in plan.scratch_offsets, f"{node.op.name} needs {size} bytes of scratch and has none"
    for v in plan.graph.values():
        root, here = plan.root(v), plan.offsets.get(v)
        begin = plan.offsets.get(root)
        inside = here == begin if here is None or begin is None else begin <= here <= begin + root.type.nbytes - v.type.nbytes
        assert inside, f"{v!r} at {here}, its root {root!r} at {begin}"


def _check_outputs_first(plan: Plan, outputs: set[Value]) -> None:
    """Nothing stored is written before all outputs are: an entry point may end there and leave all as it was."""
    unknown = {v for v in outputs if v.role is Role.TEMP}
    for position, node in enumerate(plan.graph.nodes):
        unknown.difference_update(node.outputs)
        for v in (v for v in node.outputs if not node.op.view and not node.op.lends and plan.root(v).role in _STORED):
            where = f"{plan.graph.name} node {position} {node.op.name}"
            assert not unknown, f"{where} writes {plan.root(v)!r} before outputs {list(unknown)} are known"


def _check_lent(plan: Plan) -> None:
    """What is lent is changed where it stands, and is given back before the first output is known."""
    homes, back, known = plan.graph.homes(), set(plan.graph.lent.values()), set(plan.graph.outputs)
    for position, node in enumerate(plan.graph.nodes):
        where = f"{plan.graph.name} node {position} {node.op.name}"
        if node.op.lends:
            (made,) = node.outputs
            assert plan.root(made) is homes[made], f"{where} changes {homes[made]!r} in {plan.root(made)!r}"
            back.discard(made)
        assert not (back and known.intersection(node.outputs)), f"{where}: an output is known before {list(back)} are given back"


def _check_view(plan: Plan, node: Node, shown: dict[Value, Value], where: str) -> None:
    """A view stands in its input where it starts there, or like it has no place in the arena."""
    seen = node.inputs[0]
    root, at = plan.root(seen), plan.offsets.get(seen)
    for v in node.outputs:
        shown[v] = shown.get(seen, seen)
        start = node.op.starts(*(v.type for v in node.inputs))
        assert start + v.type.nbytes <= seen.type.nbytes, f"{where}: view {v!r} ends behind {seen!r}"
        assert plan.root(v) is root, f"{where}: view {v!r} of {seen!r} has root {plan.root(v)!r}, not {root!r}"
        want = None if at is None else at + start
        assert plan.offsets.get(v) == want, f"{where}: view {v!r} at {plan.offsets.get(v)}, {seen!r} at {at}"


def _demand(memory: _Bytes, plan: Plan, value: Value, shown: dict[Value, Value], where: str) -> None:
    source = shown.get(value, value)
    if source.role in (Role.INPUT, Role.CONST) and source not in plan.graph.inputs[:1]:
        root = plan.root(value)
        assert root is source and value not in plan.offsets, f"{where} {value!r}: it shows {source!r}, its root is {root!r}"
        return
    assert value in plan.offsets, f"{where} {value!r}, which has no place in the arena"
    memory.demand(plan.offsets[value], value.type.nbytes, source, where)


def _check_node(plan: Plan, node: Node, where: str) -> None:
    """What one kernel call touches is apart, but for what its op allows to be in place."""
    writes: list[tuple[object, int, int]] = []
    for v in node.outputs:
        assert v in plan.offsets, f"{where} writes {v!r}, which has no place in the arena"
        writes.append((v, plan.offsets[v], v.type.nbytes))
    if node in plan.spare:                                # in place of its scratch
        writes.append((node, *plan.spare[node]))
    elif node in plan.scratch_offsets:
        writes.append((node, plan.scratch_offsets[node], plan.scratch_sizes[node]))
    for k, (one, at, size) in enumerate(writes):
        for other, at2, size2 in writes[:k]:
            assert not _meet(at, size, at2, size2), f"{where} writes {_name(one)} and {_name(other)} to the same bytes"
        for i, v in enumerate(node.inputs):
            if v not in plan.offsets or not _meet(at, size, plan.offsets[v], v.type.nbytes):
                continue
            if (i, k) == (0, 0) and node in plan.leads and at + plan.leads[node] == plan.offsets[v]:
                continue
            allowed = (i, k) in node.op.inplace and isinstance(one, Value) and at == plan.offsets[v] and v.type.nbytes == size
            assert allowed and v.type.numel == node.outputs[k].type.numel, f"{where} writes {_name(one)} over its input {i} {v!r}"


def _meet(at: int, size: int, at2: int, size2: int) -> bool:
    return at < at2 + size2 and at2 < at + size and size > 0 and size2 > 0
