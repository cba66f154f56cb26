# SPDX-License-Identifier: Apache-2.0
"""The plan of a program as JSON (docs/page.md): what each call takes, which kernel it has and why, and where every buffer is, how long."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from tinytrain.emit.fit import buffer_bytes, reserved_bytes
from tinytrain.emit.instructions import Table, data_bytes, load_table
from tinytrain.emit.select import Choice, Kernels, Selection
from tinytrain.emit.step import estimate
from tinytrain.ir.graph import Graph, Node, Program
from tinytrain.ir.types import Role, Value
from tinytrain.planner import ALIGN, Plan, ProgramPlan
from tinytrain.target.board import Board
from tinytrain.target.memory import arena_memory

FORMAT = 1


def plan_json(program: Program, plan: ProgramPlan, kernels: Kernels, board: Board) -> dict[str, Any]:
    """Sizes in bytes, offsets from the arena's start; instructions and cycles are estimates, None on a core where nothing was counted."""
    table = load_table(board.core)
    known = estimate(program, plan, kernels, board)
    choices: dict[Selection, int] = {}
    entries = {key: _entry(entry, plan, kernels, table, choices) for key, entry in plan.entries.items() if key != "evaluate"}
    owners = _owners(program)
    return {
        "format": FORMAT,
        "memory": {
            "fixed_bytes": plan.fixed_bytes, "arena_bytes": plan.arena_bytes, "lower_bound_bytes": plan.lower_bound_bytes,
            "proven_optimal": plan.proven_optimal, "arena_in": _arena_in(program, plan, board),
            "buffer_bytes": buffer_bytes(program), "stack_bytes": board.stack_bytes,
            "data_bytes": data_bytes(program),
        },
        "estimate": asdict(known) if known else None,
        "layers": _layers(program, owners),
        "fixed": [
            _buffer(v, "weights" if v.role is Role.PARAM else "optimiser", at, 0, 0, owners.get(v, ""))
            for v, at in plan.fixed.items()
        ],
        "entries": entries,
        "choices": [
            {"kernel": str(one.choice).rstrip(":"), "counted": one.count is not None, "refused": _reasons(one)} for one in choices
        ],
    }


def _arena_in(program: Program, plan: ProgramPlan, board: Board) -> str | None:
    """The memory that the arena is in; None on the host."""
    if board.is_host:
        return None
    return arena_memory(board, plan.arena_bytes, reserved_bytes(program, board)).name


def _entry(entry: Plan, whole: ProgramPlan, kernels: Kernels, table: Table | None, choices: dict[Selection, int]) -> dict[str, Any]:
    graph = entry.graph
    needed = graph.needed(graph.outputs[:1]) if graph.updates else {*graph.nodes}
    turn = max((i for i, node in enumerate(graph.nodes) if node in needed), default=-1)
    forward = {*graph.nodes[: turn + 1]}                  # also what keeps something of an activation for the backward pass
    buffers = list(_buffers(entry, whole, forward))
    used = _used(buffers, whole.fixed_bytes, len(graph.nodes))
    return {
        "arena_bytes": entry.arena_bytes, "lower_bound_bytes": entry.lower_bound_bytes, "proven_optimal": entry.proven_optimal,
        "order": entry.order, "peak": {"node": entry.peak.position, "bytes": entry.peak.bytes},
        "nodes": [
            _node(node, "forward" if node in forward else "backward", graph, entry, kernels, table, choices) | {"used_bytes": bytes_}
            for node, bytes_ in zip(graph.nodes, used, strict=True)
        ],
        "buffers": buffers,
    }


def _node(
    node: Node, phase: str, graph: Graph, entry: Plan, kernels: Kernels, table: Table | None, choices: dict[Selection, int]
) -> dict[str, Any]:
    """A call; one that only shows bytes in another shape has no kernel and takes nothing."""
    chosen = None if node.op.view else kernels.select(node, spare=entry.room(node))
    taken = table.taken(node, chosen) if table and chosen else None
    new = {*graph.updates.values()}
    return {
        "layer": node.origin, "op": node.op.name, "phase": phase, "updates": [v.name for v in node.outputs if v in new],
        "choice": None if chosen is None else choices.setdefault(chosen, len(choices)),
        "macs": node.op.cost(*node.kinds).macs,
        "instructions": round(taken.instructions) if taken else None, "cycles": round(taken.cycles) if taken else None,
    }


def _buffers(entry: Plan, whole: ProgramPlan, forward: set[Node]) -> Iterator[dict[str, Any]]:
    """What is in the arena behind parameters and state, each from the node that writes it first to the one that reads it last."""
    graph = entry.graph
    touched = {entry.root(v): node for node in reversed(graph.nodes) for v in (*node.outputs, *node.inputs)}
    for v, (start, end) in entry.spans().items():
        if v not in entry.offsets or v in whole.fixed:
            continue
        first = touched.get(v)
        kind = "sample" if v in graph.inputs else "activation" if first in forward else "gradient"
        yield _buffer(v, kind, entry.offsets[v], start, end, first.origin if first else "")
    spare = {node: ("spare", *place) for node, place in entry.spare.items()}
    scratch = {node: ("scratch", at, entry.scratch_sizes[node]) for node, at in entry.scratch_offsets.items()} | spare
    for position, node in enumerate(graph.nodes):
        if node in scratch:
            kind, offset, size = scratch[node]
            yield {
                "name": f"scratch of {node.op.name}", "kind": kind, "offset": offset, "bytes": size, "start": position,
                "end": position + 1, "layer": node.origin, "type": "",
            }


def _buffer(v: Value, kind: str, offset: int, start: int, end: int, layer: str) -> dict[str, Any]:
    return {
        "name": v.name, "kind": kind, "offset": offset, "bytes": v.type.nbytes, "start": start, "end": end, "layer": layer,
        "type": str(v.type),
    }


def _used(buffers: Iterable[Mapping[str, Any]], fixed_bytes: int, nodes: int) -> list[int]:
    """Bytes that are needed while each node runs; where buffers lie over each other they count once, and what is to spare not at all."""
    there = defaultdict(list)
    for buffer in (buffer for buffer in buffers if buffer["kind"] != "spare"):
        for position in range(buffer["start"], buffer["end"]):
            there[position].append((buffer["offset"], buffer["offset"] + -(-buffer["bytes"] // ALIGN) * ALIGN))
    found = []
    for position in range(nodes):
        total, top = fixed_bytes, 0
        for start, end in sorted(there[position]):
            total += max(0, end - max(start, top))
            top = max(top, end)
        found.append(total)
    return found


def _owners(program: Program) -> dict[Value, str]:
    """Each stored value → the layer that reads it first, in the order of inference where that reads it."""
    found: dict[Value, str] = {}
    for graph in program.entries.values():
        for node in graph.nodes:
            for v in node.inputs:
                if v.role in (Role.CONST, Role.PARAM, Role.STATE):
                    found.setdefault(v, node.origin)
    return found


def _layers(program: Program, owners: Mapping[Value, str]) -> list[dict[str, Any]]:
    """What each layer keeps: elements of weights that are trained and that are not, bytes of RAM for good, bytes of flash."""
    names = dict.fromkeys(node.origin for graph in program.entries.values() for node in graph.nodes)
    sums = {name: dict.fromkeys(("trained", "frozen", "ram_bytes", "flash_bytes"), 0) for name in names}
    firsts = program.firsts
    for v, layer in owners.items():
        known = sums[layer]
        if v in firsts:
            continue
        if v.source is not None:
            known["trained" if v.role is Role.PARAM else "frozen"] += v.type.numel
        if v.role is not Role.CONST:
            known["ram_bytes"] += v.type.nbytes
        if v.role is Role.CONST or (v.data is not None and v.data.any()):
            known["flash_bytes"] += v.type.nbytes
    return [{"name": name, **known} for name, known in sums.items()]


def _reasons(selection: Selection) -> dict[str, list[str]]:
    """Why → the kernels that were refused for it."""
    found: dict[str, list[str]] = {}
    for kernel, why in selection.refused:
        names = found.setdefault(why, [])
        if (name := Choice(kernel).text) not in names:
            names.append(name)
    return found
