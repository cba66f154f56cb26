# SPDX-License-Identifier: Apache-2.0
"""Why a selection takes what it takes, as linear lower bounds on what any other selection takes.

Where a plan is fullest, each value is in memory because somebody behind reads it, and each reader is there because of certain
parameters: parameters of the layers that its result goes on to. A selection with one of those parameters keeps the value too:

    bytes ≥ base + Σ bytes of the value · [one of the parameters that it is kept for is trained]

Likewise instructions: a node of the backward pass runs if one of the parameters behind it is trained. Only readers
that depend on what is computed there count, whatever the order of nodes. Where passes or kernels do better for another selection,
that may take a little less: exact.py lowers a row that a plan contradicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tinytrain.emit.fit import reserved_bytes
from tinytrain.ir.graph import Graph, Node, Program
from tinytrain.ir.types import Role, Value
from tinytrain.planner import Plan
from tinytrain.search.cost import Costs
from tinytrain.search.space import Selection, Space

ALIGN = 8
_POSITIONS = 6                                            # of a plan that are made into rows
Literal = tuple[int, int]                                 # (group, level): the group takes this choice or a larger one
Needs = frozenset[Literal]


@dataclass(frozen=True)
class Row:
    """`resource` is at least base + Σ amount · [some literal of its set holds]."""

    resource: str
    base: int
    terms: tuple[tuple[int, Needs], ...]

    def value(self, selection: Selection) -> int:
        return self.base + sum(amount for amount, needs in self.terms if any(selection[g] >= level for g, level in needs))


class Explainer:
    """Rows of a model. Each call builds and plans the selection; the channels that a choice takes are counted once for each level."""

    def __init__(self, costs: Costs, space: Space) -> None:
        self.costs = costs
        self.space = space
        self._owner = {
            v.name: frozenset(space.groups_of(layer.name, kind)) for layer in space.layers for kind, v in layer.parameters.items()
        }
        depth = max(space.all)
        programs = {level: costs.program(space.scheme(tuple(min(level, top) for top in space.all))) for level in range(1, depth + 1)}
        # bytes that stay in RAM for the whole time, by what they are kept for, at each level
        self._fixed = {level: self._kept(program) for level, program in programs.items()}
        self._alone: dict[tuple[int, int], float] = {}    # (group, level) → instructions of what is done for its weight alone
        self._forward: dict[tuple[str, str], float] = {}  # (origin, op) → of what runs anyway: a weight that is not cut has quicker kernels
        for level, program in programs.items() if costs.counted else ():
            alone, kernels = dict[int, float](), costs.tuning.kernels(program)
            for node, of in self._needs(program.entries["train"]).items():
                if of is None:
                    taken = costs.taken(node, kernels).instructions
                    self._forward[node.origin, node.op.name] = min(taken, self._forward.get((node.origin, node.op.name), taken))
                if of and len(groups := {group for group, _ in of}) == 1:
                    (group,) = groups
                    alone[group] = alone.get(group, 0.0) + costs.taken(node, kernels).instructions
            self._alone |= {(group, min(level, space.all[group])): amount for group, amount in alone.items()}

    def rows(self, selection: Selection) -> list[Row]:
        """Of RAM, from the fullest positions of this selection's plan, and of instructions."""
        program, plan = self.costs.planned(self.space.scheme(selection))
        worst = max(plan.entries.values(), key=lambda entry: entry.peak.bytes)
        found = self._of_memory(program, worst, selection)
        if self.costs.counted:
            found.append(self._of_nodes(program, selection))
        return found

    def _of_memory(self, program: Program, plan: Plan, selection: Selection) -> list[Row]:
        """One row for each of the positions where most is alive."""
        needs = self._needs(plan.graph)
        ends = self._ends(plan.graph, needs)
        spans = _spans(plan)
        alive = [{v for v, (first, last) in spans.items() if first <= i <= last} for i in range(len(plan.graph.nodes))]
        for node, values in zip(plan.graph.nodes, alive, strict=True):
            taken = {plan.root(v) for v in node.inputs}
            values.difference_update(v for v in node.outputs if plan.root(v) in taken)      # written in place of an input
        used = [sum(_padded(v.type.nbytes) for v in values) for values in alive]
        most = sorted(range(len(used)), key=lambda i: (i != plan.peak.position, -used[i]))
        positions = list({frozenset(alive[i]): i for i in reversed(most)}.values())[-_POSITIONS:]
        base = reserved_bytes(program, self.costs.board)
        return [
            self._row("ram_bytes", base, self._alive(plan, needs, ends, alive[i], i), selection, self._fixed_terms()) for i in positions
        ]

    def _alive(
        self, plan: Plan, needs: Mapping[Node, Needs | None], ends: set[Node], values: Iterable[Value], position: int
    ) -> list[tuple[int, Needs | None]]:
        """What is alive at a position, each value for those of its readers that must still come: that depend on what is computed there.

        A value that both a gradient of a weight and one on the way further back read may be replaced by one bit an element
        (passes/pack_masks.py) in a selection without that weight.
        """
        kept: dict[Value, list[Node]] = {v: [] for v in values}
        split: set[Value] = set()
        behind = set(plan.graph.nodes[position].outputs)
        shown = _shown(plan.graph)
        for i, node in enumerate(plan.graph.nodes):
            must_come = i == position or not behind.isdisjoint(node.inputs)
            behind.update(node.outputs if must_come else ())
            for v in () if node.op.view else (*node.inputs, *(node.outputs if i == position else ())):
                if shown.get(v, v) in kept and must_come:
                    kept[shown.get(v, v)].append(node)
                if node in ends:
                    split.add(shown.get(v, v))
        # while a slice is made it is there beside its source, which alone would be there if all channels were trained
        slices = {n.outputs[0]: shown.get(n.inputs[0], n.inputs[0]) for n in ends if len(n.inputs) == 1}
        amounts: list[tuple[int, Needs | None]] = []
        for v, nodes in kept.items():
            if kept.get(slices.get(v, v)) and v in slices:
                continue
            bytes_ = _padded(v.type.nbytes)
            on_way = _union(*(needs[n] for n in nodes if n not in ends))
            at_end = _union(*(needs[n] for n in nodes if n in ends))
            if on_way is None or v not in split:
                amounts.append((bytes_, _union(on_way, at_end)))
                continue
            bits = min(bytes_, _padded(-(-v.type.numel // 8)))
            amounts += [(bits, _union(on_way, at_end)), (bytes_ - bits, at_end)]
        node = plan.graph.nodes[position]
        shared = plan.peak.shared_bytes if position == plan.peak.position else sum(_padded(v.type.nbytes) for v in node.outputs)
        amounts.append((_padded(plan.scratch_sizes.get(node, 0)) - (shared if plan.peak.shared_bytes else 0), needs[node]))
        return amounts

    def _ends(self, graph: Graph, needs: Mapping[Node, Needs | None]) -> set[Node]:
        """Nodes that make the gradient of one weight, or the slice of a saved value that such a node reads."""
        sizes = {self._owner.get(v.name): v.type.numel for v in graph.updates}
        readers, found = graph.readers(), set()
        for node in reversed(graph.nodes):
            of = needs[node]
            if of and len(of) == 1 and (
                node.outputs[0].type.numel == sizes.get(of)
                or (len(node.inputs) == 1 and all(reader in found for reader in readers[node.outputs[0]]))
            ):
                found.add(node)
        return found

    def _of_nodes(self, program: Program, selection: Selection) -> Row:
        """With room for the scratch of every kernel, as other plans may have it."""
        needs, kernels = self._needs(program.entries["train"]), self.costs.tuning.kernels(program)
        amounts: list[tuple[int, Needs | None]] = []
        for node, of in needs.items():
            taken = self._least(of, selection) * self.costs.taken(node, kernels).instructions
            if of is None:
                taken = min(taken, self._forward.get((node.origin, node.op.name), taken))
            amounts.append((int(taken), of))
        return self._row("instructions", 0, amounts, selection, [])

    def _least(self, needs: Needs | None, selection: Selection) -> float:
        """What a larger choice may take in proportion to this one: more channels can fill the vectors of a quicker kernel."""
        groups = {group for group, _ in needs or ()}
        if len(groups) != 1:
            return 1.0
        (group,) = groups
        here = self._alone.get((group, selection[group]), 0.0)
        larger = [amount for (other, level), amount in self._alone.items() if other == group and level > selection[group]]
        return min(1.0, *(amount / here for amount in larger)) if here and larger else 1.0

    def _row(
        self, resource: str, base: int, amounts: Iterable[tuple[int, Needs | None]], selection: Selection, terms: list[tuple[int, Needs]]
    ) -> Row:
        """Amounts that everybody needs go into the base; those for one weight alone are in proportion to its choice, up to this one."""
        sums: dict[Needs, int] = {needs: amount for amount, needs in terms}
        for amount, needs in amounts:
            if needs is None:
                base += amount
                continue
            groups = {group for group, _ in needs}
            choices = self.space.groups[next(iter(groups))].choices if groups else ()
            if len(groups) == 1 and self.space.groups[next(iter(groups))].layer:
                (group,) = groups
                level, before = selection[group], 0
                for i in range(1, level + 1):
                    share = int(amount * choices[i - 1].size / choices[level - 1].size)
                    literal = frozenset({(group, i)})
                    sums[literal] = sums.get(literal, 0) + share - before
                    before = share
            elif needs:
                sums[needs] = sums.get(needs, 0) + amount
        return Row(resource, base, tuple((amount, needs) for needs, amount in sums.items() if amount))

    def _fixed_terms(self) -> list[tuple[int, Needs]]:
        """Parameters and optimiser, for each choice of a weight what it has more than the one before."""
        terms: dict[Needs, int] = {}
        before: dict[Needs, int] = {}
        for level, kept in self._fixed.items():
            for needs, amount in kept.items():
                literal = frozenset((g, max(at, level) if self.space.groups[g].layer else at) for g, at in needs)
                terms[literal] = amount - before.get(needs, 0)
                before[needs] = amount
        return [(amount, needs) for needs, amount in terms.items() if amount > 0]

    def _kept(self, program: Program) -> dict[Needs, int]:
        """Bytes of PARAM and STATE by what they are kept for; those that all selections have are not counted."""
        found: dict[Needs, int] = {}
        for graph in program.entries.values():
            needs = self._needs(graph)
            producers = graph.producers()
            for old, new in graph.updates.items():
                of = self._owner.get(old.name) if old.role is Role.PARAM else needs.get(producers[new]) if new in producers else None
                if of:
                    found[of] = found.get(of, 0) + _padded(old.type.nbytes)
        return found

    def _needs(self, graph: Graph) -> Mapping[Node, Needs | None]:
        """Each node → the parameters that are trained with what it makes; None for the forward pass, which runs anyway."""
        wanted: dict[Value, Needs | None] = dict.fromkeys(graph.outputs)
        for old, new in graph.updates.items():
            wanted[new] = _union(wanted.get(new, frozenset()), self._owner.get(old.name, frozenset()))
        found: dict[Node, Needs | None] = {}
        for node in reversed(graph.nodes):
            needs: Needs | None = frozenset()
            for v in node.outputs:
                needs = _union(needs, wanted.get(v, frozenset()))
            found[node] = needs
            for v in node.inputs:
                wanted[v] = _union(wanted.get(v, frozenset()), needs)
        return found


def _shown(graph: Graph) -> dict[Value, Value]:
    """View → the value whose bytes it shows."""
    found: dict[Value, Value] = {}
    for node in graph.nodes:
        if node.op.view:
            found[node.outputs[0]] = found.get(node.inputs[0], node.inputs[0])
    return found


def _spans(plan: Plan) -> dict[Value, tuple[int, int]]:
    """The first and the last position at which each value of the arena, but parameters and states, is needed."""
    shown = _shown(plan.graph)
    found: dict[Value, tuple[int, int]] = {}
    for i, node in enumerate(plan.graph.nodes):
        for v in () if node.op.view else (*node.inputs, *node.outputs):
            value = shown.get(v, v)
            if v in plan.offsets and plan.root(v).role in (Role.TEMP, Role.INPUT):
                found[value] = (found[value][0] if value in found else 0 if value.role is Role.INPUT else i, i)
    for v in plan.graph.outputs:
        if (value := shown.get(v, v)) in found:
            found[value] = (found[value][0], len(plan.graph.nodes))
    return found


def _union(*sets: Needs | None) -> Needs | None:
    found: Needs = frozenset()
    for needs in sets:
        if needs is None:
            return None
        found |= needs
    return found


def _padded(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


Explain = Callable[[Selection], list[Row]]
