# SPDX-License-Identifier: Apache-2.0
"""How long a training step and its pieces are, and what guards cost it: estimates of the table of factors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.emit.instructions import GUARD, Table, Work, code, load_table
from tinytrain.emit.project import CLook, Emitter
from tinytrain.emit.select import Kernels, Selection
from tinytrain.ir.graph import TRIALS, Node, Program, apply_of, replay_of
from tinytrain.ir.types import F32
from tinytrain.planner import Plan, ProgramPlan
from tinytrain.target.board import Board


@dataclass(frozen=True)
class Estimate:
    """Of one call, which is a training step with its update, of several schemes the dearest's, or an inference where nothing is trained:
    instructions, cycles, and those as milliseconds at the clock that the firmware sets, None where it sets none, or where several cores
    share them; `code_bytes` is all code of the firmware. `counted_on` is the core where kernels were counted, which may be one that the
    board's is like; `uncounted` stand in it as others of their kind.
    """

    instructions: int
    cycles: int
    milliseconds: float | None
    code_bytes: int
    counted_on: str
    uncounted: tuple[str, ...] = ()


def estimate(program: Program, plan: ProgramPlan, kernels: Kernels, board: Board) -> Estimate | None:
    """Of the scheme that takes most, where the device chooses with its share of the trials; None on a core where nothing was counted."""
    table = load_table(board.core)
    if table is None:
        return None

    def calls(entries: Sequence[Plan]) -> list[tuple[Node, Selection]]:
        return [(node, kernels.select(node, spare=entry.room(node))) for entry in entries for node in entry.graph.nodes if not node.op.view]

    def taken(entries: Sequence[Plan]) -> tuple[float, float]:
        each = [table.taken(*call) for call in calls(entries)]
        return sum(one.cycles for one in each), sum(one.instructions for one in each)

    steps = [_step(plan, train) for train in program.trains] or [[plan.entries["infer"]]]
    (cycles, instructions), most = max(((taken(step), step) for step in steps), key=lambda one: one[0])
    if program.every:                                     # the sample of a trial is evaluated again
        trial, share = taken([plan.entries["evaluate"]]), TRIALS * len(steps) / program.every
        cycles, instructions = cycles + share * trial[0], instructions + share * trial[1]
    uncounted = dict.fromkeys(name for call in calls(most) for name in table.uncounted(*call))
    alone = board.clock_hz and board.cores == 1
    return Estimate(
        round(instructions), round(cycles), round(cycles) / board.clock_hz * 1000 if alone else None,
        table.code_bytes(code(plan, kernels)), table.core, tuple(uncounted),
    )


def _step(plan: ProgramPlan, train: str) -> list[Plan]:
    """What a step of a scheme runs, in order: a new sample and its update, then those of the memory with theirs."""
    keys = [train, apply_of(train), *[replay_of(train), apply_of(train)] * plan.replays]
    return [plan.entries[key] for key in keys if key in plan.entries]


def worth(program: Program, plan: ProgramPlan, kernels: Kernels, board: Board) -> tuple[float, ...]:
    """Of each scheme, where the device chooses: how many of its steps one of the dearest takes, by instructions where they were counted,
    else by operations."""
    table, costs = load_table(board.core), list[float]()
    for train in program.trains if program.every else ():
        calls = [(node, entry.room(node)) for entry in _step(plan, train) for node in entry.graph.nodes if not node.op.view]
        if table is not None:
            costs.append(sum(table.taken(node, kernels.select(node, spare=room)).instructions for node, room in calls))
        else:
            each = [node.op.cost(*node.kinds) for node, _ in calls]
            costs.append(sum(cost.macs + cost.elements for cost in each))
    return tuple(float(np.float32(max(costs) / cost)) for cost in costs)


@dataclass(frozen=True)
class Pieces:
    """Of the scheme with the longest one: how many `NAME_train_continue` makes of a step, what the longest is for and how many
    instructions it takes, how many of the step are guards, and how many bytes of flash; None on a core where nothing was counted.
    """

    count: int
    longest: str
    longest_instructions: int | None
    guard_instructions: int | None
    guard_bytes: int | None


def pieces(emitter: Emitter, board: Board) -> Pieces | None:
    """None of a program that only infers."""
    table = load_table(board.core)
    made = [_summed([*_each(emitter, train, table), *_replays(emitter, train, table)], table) for train in emitter.program.trains]
    return max(made, key=lambda one: one.longest_instructions or one.count, default=None)


@dataclass(frozen=True)
class _Piece:
    """What it is for; its instructions without the looks behind it, and the number of floats of each of those."""

    name: str
    instructions: float
    looks: list[int]


def _replays(emitter: Emitter, train: str, table: Table | None) -> list[_Piece]:
    """The pieces of all samples of the memory that follow a new one."""
    times = emitter.program.replays
    return list(_each(emitter, replay_of(train), table))[1:] * times if times else []


def _each(emitter: Emitter, train: str, table: Table | None) -> Iterator[_Piece]:
    """The beginning of a step, and its pieces, in order."""
    program, plan, scheme = emitter.program, emitter.plan, emitter.schemes[train]
    given = [kind.numel for v in program.entries[train].inputs for _, kind in v.parts or ((v.name, v.type),) if kind.dtype is F32]
    yield _Piece("begin", 0.0, given if program.guards != "none" else [])
    without: list[list[CLook]] = [[] for _ in (*scheme.apply, *scheme.again)]
    behind = [*([] for _ in scheme.forward[1:]), scheme.looks, *(piece.looks for piece in scheme.backward), *without]
    keys = (train, apply_of(train), *(["evaluate"] if scheme.again else []))
    calls = _calls(emitter, [entry for key in keys if (entry := plan.entries.get(key))], table)
    for (name, instructions), looks in zip(calls, behind, strict=True):
        yield _Piece(name, instructions, [look.count for look in looks])


def _calls(emitter: Emitter, entries: Sequence[Plan], table: Table | None) -> Iterator[tuple[str, float]]:
    """(name, instructions) of what is called, in order; a copy counts as nothing beside a kernel."""
    for entry in entries:
        for node in entry.graph.nodes:
            if not node.op.view:
                selection = emitter.chosen.select(node, spare=entry.room(node))
                yield node.origin, table.taken(node, selection).instructions if table else 0.0
        yield from ((old.name, 0.0) for old, _ in entry.copies)


def _summed(each: list[_Piece], table: Table | None) -> Pieces:
    if table is None:
        return Pieces(len(each) - 1, "", None, None, None)
    guards = [table.of(Work(GUARD, {"call": len(one.looks), "in": sum(one.looks)})).instructions for one in each]
    most, longest = max((one.instructions + more, one.name) for one, more in zip(each, guards, strict=True))
    number = sum(len(one.looks) for one in each)
    code_bytes = table.code_bytes({"guards": 1, "look": number}) if number else 0
    return Pieces(len(each) - 1, longest, round(most), round(sum(guards)), code_bytes)
