# SPDX-License-Identifier: Apache-2.0
"""How long the pieces of a training step are, and what guards cost it: estimates of the table of factors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tinytrain.emit.guards import looks, looks_at_maps, loss_at
from tinytrain.emit.instructions import GUARD, Table, Work, load_table
from tinytrain.emit.select import Kernels
from tinytrain.ir.graph import Program, apply_of
from tinytrain.ir.types import F32
from tinytrain.planner import ProgramPlan
from tinytrain.target.board import Board


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


def pieces(program: Program, plan: ProgramPlan, kernels: Kernels, board: Board) -> Pieces | None:
    """None of a program that only infers."""
    table = load_table(board.core)
    made = [_summed(list(_each(program, plan, train, kernels, table)), table) for train in program.trains]
    return max(made, key=lambda one: one.longest_instructions or one.count, default=None)


@dataclass(frozen=True)
class _Piece:
    """Of a node; its instructions without the looks behind it, and the number of floats of each of those."""

    name: str
    instructions: float
    looks: list[int]


def _each(program: Program, plan: ProgramPlan, train: str, kernels: Kernels, table: Table | None) -> Iterator[_Piece]:
    """The beginning of a step, and its pieces, in order."""
    entry, sample = plan.entries[train], program.entries[train].inputs
    given = [kind.numel for v in sample for _, kind in v.parts or ((v.name, v.type),) if kind.dtype is F32]
    yield _Piece("begin", 0.0, given if program.guards != "none" else [])
    watched = looks(entry) if looks_at_maps(program, plan) else {}
    watched = {**watched, entry.graph.nodes[loss_at(entry)]: watched.get(None, [])}
    for part in (entry, *([applied] if (applied := plan.entries.get(apply_of(train))) else [])):
        for node in part.graph.nodes:
            if not node.op.view:
                taken = table.taken(node, kernels.select(node, spare=part.room(node))).instructions if table else 0.0
                yield _Piece(node.origin, taken, [v.type.numel for v in watched.get(node, [])])


def _summed(each: list[_Piece], table: Table | None) -> Pieces:
    if table is None:
        return Pieces(len(each) - 1, "", None, None, None)
    guards = [table.of(Work(GUARD, {"call": len(one.looks), "in": sum(one.looks)})).instructions for one in each]
    most, longest = max((one.instructions + more, one.name) for one, more in zip(each, guards, strict=True))
    number = sum(len(one.looks) for one in each)
    code_bytes = table.code_bytes({"guards": 1, "look": number}) if number else 0
    return Pieces(len(each) - 1, longest, round(most), round(sum(guards)), code_bytes)
