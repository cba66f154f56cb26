# SPDX-License-Identifier: Apache-2.0
"""The planner: order → lifetimes → offsets, for all entry points of a program in one arena; every plan is checked.

    PARAM, STATE | temporaries of infer, or of train, ...
    0            fixed_bytes                             arena_bytes

The sample, which an entry finds in the arena when it is called, is one of its temporaries; it stands at one offset in all entries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

from tinytrain.ir.graph import Graph, Node, Program
from tinytrain.ir.types import Role, Value
from tinytrain.planner.check import check_plan
from tinytrain.planner.exact import improve
from tinytrain.planner.lifetimes import Lifetimes, lead_of, lifetimes
from tinytrain.planner.order import orders
from tinytrain.planner.place import Placement, lower_bound, place
from tinytrain.planner.plan import Buffer, Needs, Peak, Plan, ProgramPlan
from tinytrain.planner.reorder import reorder
from tinytrain.planner.updates import Bound, bind_updates, starts

__all__ = ["ALIGN", "Buffer", "Needs", "Peak", "Placement", "Plan", "ProgramPlan", "check_plan", "plan_program"]


ALIGN = 8                                                 # bytes: what every offset in an arena is a multiple of


def no_needs(node: Node) -> Needs:
    return Needs()


_Measure = Callable[[Graph, Bound], Lifetimes]


@dataclass(frozen=True)
class _Draft:
    """An entry point while it is planned."""

    order: str
    graph: Graph
    bound: Bound
    life: Lifetimes
    placement: Placement

    @property
    def sample(self) -> int | None:
        """Id of the sample's buffer."""
        return next((i for i, v in enumerate(self.life.owners) if v in self.graph.inputs), None)


def plan_program(
    program: Program, *, align: int = ALIGN, needs: Callable[[Node], Needs] = no_needs, exact_seconds: float = 3.0
) -> ProgramPlan:
    """Plan every entry point.

    All offsets are multiples of `align` bytes; the arena itself must be aligned to at least that. `needs(node)` is
    what its kernel asks for. `exact_seconds` bounds the exact placement of the entries that need the most;
    0 leaves it out. The same program gives the same plan.
    """
    needs = cache(needs)
    plan = _planned(program, align, needs, exact_seconds)
    wanting = {
        node for entry in plan.entries.values() for node in entry.graph.nodes
        if not node.op.view and needs(node).worth and node not in entry.spare
    }

    def given(node: Node) -> Needs:
        return dataclasses.replace(needs(node), scratch=needs(node).worth) if node in wanting else needs(node)

    return _planned(program, align, cache(given), exact_seconds) if wanting else plan


def _planned(program: Program, align: int, needs: Callable[[Node], Needs], exact_seconds: float) -> ProgramPlan:
    fixed, fixed_bytes = _stack(program.stored(Role.PARAM, Role.STATE), align)
    drafts: dict[str, _Draft] = {}
    for name, graph in program.entries.items():
        drafts[name] = _draft(graph, program.guards == "step", lambda g, bound: lifetimes(g, bound, fixed, needs, align))

    # one arena serves all entries: effort is worth its time only on one that needs more than all others must have
    needed = 0
    for name in sorted(drafts, key=lambda name: -drafts[name].life.peak.bytes):
        if drafts[name].placement.height > needed:
            drafts[name] = _repaired(program.entries[name], drafts[name], lambda g, bound: lifetimes(g, bound, fixed, needs, align))
            needed = max(needed, lower_bound(drafts[name].life.buffers))
    bounds = {name: lower_bound(draft.life.buffers) for name, draft in drafts.items()}
    bound = max(bounds.values(), default=fixed_bytes)
    costly = [name for name, draft in drafts.items() if draft.placement.height > bound]
    for name in costly:
        draft = drafts[name]
        found = improve(draft.life.buffers, draft.placement, exact_seconds / len(costly))
        drafts[name] = dataclasses.replace(draft, placement=found)

    drafts, input_offset = _one_sample(drafts, bounds)
    arena = max((draft.placement.height for draft in drafts.values()), default=fixed_bytes)
    entries = {name: _plan(draft, bounds[name], needs, align, arena) for name, draft in drafts.items()}
    for name, plan in entries.items():
        check_plan(program.entries[name], plan, fixed, input_offset, align, arena)
    proven = arena == bound or any(plan.proven_optimal for plan in entries.values() if plan.arena_bytes == arena)
    return ProgramPlan(entries, fixed, fixed_bytes, input_offset, arena, bound, proven, program.replays)


def _stack(values: list[Value], align: int) -> tuple[dict[Value, int], int]:
    """Values one after the other from offset 0, each aligned."""
    offsets, end = {}, 0
    for v in values:
        offsets[v] = end
        end += -(-v.type.nbytes // align) * align
    return offsets, end


def _draft(given: Graph, together: bool, measure: _Measure) -> _Draft:
    """The greedy order with the least bytes in use at once, placed; of equals the first."""
    bound = bind_updates(given, together=together)
    found = [(measure(graph, bound), name, graph) for name, graph in orders(given, bound).items()]
    life, name, graph = min(found, key=lambda draft: draft[0].peak.bytes)
    return _Draft(name, graph, bound, life, place(life.buffers))


def _repaired(given: Graph, draft: _Draft, measure: _Measure) -> _Draft:
    """The order repaired, unless it is harder to place and thereby worse in the end."""
    graph, life = reorder(draft.graph, draft.life, draft.bound, given, lambda g: measure(g, draft.bound))
    if graph is draft.graph:
        return draft
    better = _Draft(f"{draft.order}, repaired", graph, draft.bound, life, place(life.buffers))
    return better if better.placement.height <= draft.placement.height else draft


def _one_sample(drafts: dict[str, _Draft], bounds: dict[str, int]) -> tuple[dict[str, _Draft], int]:
    """The drafts with the sample at one offset, and that offset: where one of them has it, or on top of what all need without it."""
    taking = {name: draft for name, draft in drafts.items() if draft.sample is not None}
    if not taking:
        return drafts, 0

    def placed(at: int) -> dict[str, _Draft]:
        return {name: _pinned(draft, at, bounds[name]) for name, draft in taking.items()}

    def height(trial: dict[str, _Draft]) -> int:
        return max(draft.placement.height for draft in trial.values())

    def offsets() -> Iterator[int]:
        yield from dict.fromkeys(draft.placement.offsets[draft.sample] for draft in taking.values() if draft.sample is not None)
        yield max(_without_sample(draft).height for draft in taking.values())

    trials = []
    for at in offsets():
        trials.append((placed(at), at))
        if height(trials[-1][0]) <= height(taking):
            break
    best, input_offset = min(trials, key=lambda trial: height(trial[0]))
    return {**drafts, **best}, input_offset


def _pinned(draft: _Draft, at: int, bound_bytes: int) -> _Draft:
    """The draft with its sample at this offset."""
    assert draft.sample is not None
    if draft.placement.offsets[draft.sample] == at:
        return draft
    found = place([dataclasses.replace(b, fixed=at) if b.id == draft.sample else b for b in draft.life.buffers])
    return dataclasses.replace(draft, placement=dataclasses.replace(found, proven_optimal=found.height == bound_bytes))


def _without_sample(draft: _Draft) -> Placement:
    return place([dataclasses.replace(b, size=0) if b.id == draft.sample else b for b in draft.life.buffers])


def _lies_over(node: Node, offsets: dict[Value, int]) -> bool:
    """Whether output 0 is written over input 0, as only one kernel of the node may allow it."""
    x, y = node.inputs[0], node.outputs[0]
    if x not in offsets or y not in offsets or (0, 0) in node.op.inplace:
        return False
    return offsets[x] < offsets[y] + y.type.nbytes and offsets[y] < offsets[x] + x.type.nbytes


def _spare(
    draft: _Draft, offsets: dict[Value, int], needs: Callable[[Node], Needs], align: int, arena_bytes: int
) -> dict[Node, tuple[int, int]]:
    """For each node that could use some bytes: where the arena has as many that are free while it runs, the smallest such place; of several
    counts of them the first that has one. It may lie where scratch is that would be used without it."""
    found = {}
    for position, node in enumerate(draft.graph.nodes):
        wanted = () if node.op.view else needs(node).spare
        if not wanted or (not needs(node).either and _lies_over(node, offsets)):
            continue
        placed = zip(draft.life.buffers, draft.placement.offsets, draft.life.owners, strict=True)
        taken = sorted((at, at + b.size) for b, at, owner in placed if b.start <= position < b.end and owner is not node)
        ends = [-(-end // align) * align for end in accumulate((end for _, end in taken), max, initial=0)]
        gaps = [(end - at, at) for at, end in zip(ends, (*(at for at, _ in taken), arena_bytes), strict=True)]
        places = ((min((gap for gap in gaps if gap[0] >= size), default=None), size) for size in wanted)
        if (place := next(((gap[1], size) for gap, size in places if gap is not None), None)) is not None:
            found[node] = place
    return found


def _plan(draft: _Draft, bound_bytes: int, needs: Callable[[Node], Needs], align: int, program_bytes: int) -> Plan:
    life, placement = draft.life, draft.placement
    at = dict(zip(life.owners, placement.offsets, strict=True))
    offsets = {v: at[v] for v in life.owners if isinstance(v, Value)}
    within = starts(draft.graph)
    offsets.update({v: at[root] + within.get(v, 0) for v, root in life.roots.items() if root in at})
    return Plan(
        graph=draft.graph, offsets=offsets, aliases={v: root for v, root in life.roots.items() if root is not v},
        scratch_offsets={node: at[node] for node in life.owners if isinstance(node, Node)},
        scratch_sizes={node: size for node in draft.graph.nodes if (size := needs(node).scratch) > 0},
        leads={node: lead for node in draft.graph.nodes if (lead := lead_of(node, needs, align)) is not None},
        spare=_spare(draft, offsets, needs, align, program_bytes), copies=draft.bound.copies, arena_bytes=placement.height,
        lower_bound_bytes=bound_bytes,
        proven_optimal=placement.proven_optimal, peak=life.peak, order=draft.order,
    )
