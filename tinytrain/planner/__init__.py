# SPDX-License-Identifier: Apache-2.0
"""The planner: order → lifetimes → offsets, for all entry points of a program in one arena; every plan is checked.

    PARAM, STATE | temporaries of infer, or of train, ...
    0            fixed_bytes                             arena_bytes
"""

from __future__ import annotations

from collections.abc import Callable

from tinytrain.ir.graph import Graph, Node, Program
from tinytrain.ir.types import Role, Value
from tinytrain.planner.check import check_plan
from tinytrain.planner.exact import improve
from tinytrain.planner.lifetimes import Lifetimes, lifetimes
from tinytrain.planner.order import orders
from tinytrain.planner.place import Placement, lower_bound, place
from tinytrain.planner.plan import Buffer, Peak, Plan, ProgramPlan
from tinytrain.planner.updates import Bound, bind_updates

__all__ = ["Buffer", "Peak", "Placement", "Plan", "ProgramPlan", "check_plan", "plan_program"]


def plan_program(
    program: Program, *, align: int = 8, scratch: Callable[[Node], int] | None = None, exact_seconds: float = 3.0
) -> ProgramPlan:
    """Plan every entry point.

    All offsets are multiples of `align` bytes; the arena itself must be aligned to at least that. `scratch(node)` is the
    bytes its kernel needs while it runs. `exact_seconds` bounds the exact placement of the entries that need the most;
    0 leaves it out. The same program gives the same plan.
    """
    fixed, fixed_bytes = _stack(program.stored(Role.PARAM, Role.STATE), align)
    drafts = {name: _draft(graph, fixed, scratch, align) for name, graph in program.entries.items()}
    lives = {name: draft[2] for name, draft in drafts.items()}
    bounds = {name: lower_bound(life.buffers) for name, life in lives.items()}
    placements = {name: place(life.buffers) for name, life in lives.items()}

    # one arena serves all entries: only one that needs more than the largest lower bound is worth the exact search
    bound = max(bounds.values(), default=fixed_bytes)
    costly = [name for name, found in placements.items() if found.height > bound]
    for name in costly:
        placements[name] = improve(lives[name].buffers, placements[name], exact_seconds / len(costly))

    entries = {name: _plan(*drafts[name], placements[name], bounds[name], scratch) for name in drafts}
    for name, plan in entries.items():
        check_plan(program.entries[name], plan, fixed, align)
    arena = max((plan.arena_bytes for plan in entries.values()), default=fixed_bytes)
    proven = arena == bound or any(plan.proven_optimal for plan in entries.values() if plan.arena_bytes == arena)
    return ProgramPlan(entries, fixed, fixed_bytes, arena, bound, proven)


def _stack(values: list[Value], align: int) -> tuple[dict[Value, int], int]:
    """Values one after the other from offset 0, each aligned."""
    offsets, end = {}, 0
    for v in values:
        offsets[v] = end
        end += -(-v.type.nbytes // align) * align
    return offsets, end


def _draft(
    graph: Graph, fixed: dict[Value, int], scratch: Callable[[Node], int] | None, align: int
) -> tuple[str, Bound, Lifetimes, Graph]:
    """The greedy order with the least bytes in use at once; of equals the first."""
    bound = bind_updates(graph)
    found = [(name, bound, lifetimes(g, bound, fixed, scratch, align), g) for name, g in orders(graph, bound).items()]
    return min(found, key=lambda draft: draft[2].peak.bytes)


def _plan(
    order: str, bound: Bound, life: Lifetimes, graph: Graph, placement: Placement, bound_bytes: int, scratch: Callable[[Node], int] | None
) -> Plan:
    at = dict(zip(life.owners, placement.offsets, strict=True))
    offsets = {v: at[v] for v in life.owners if isinstance(v, Value)}
    offsets.update({v: at[root] for v, root in life.roots.items() if root in at})
    nodes = {node: at[node] for node in life.owners if isinstance(node, Node)}
    sizes = {node: size for node in graph.nodes if scratch and (size := scratch(node)) > 0}
    return Plan(
        graph=graph, offsets=offsets, aliases={v: root for v, root in life.roots.items() if root is not v},
        scratch_offsets=nodes, scratch_sizes=sizes, copies=bound.copies, arena_bytes=placement.height,
        lower_bound_bytes=bound_bytes, proven_optimal=placement.proven_optimal, peak=life.peak, order=order,
    )
