# SPDX-License-Identifier: Apache-2.0
"""Why a selection takes what it takes, as linear lower bounds on what any other selection takes.

At the peak of a plan, each value is in memory because somebody behind the peak reads it, and each reader is there because of certain
parameters: parameters of the layers that its result goes on to. A selection with one of those parameters keeps the value too:

    bytes ≥ base + Σ bytes of the value · [one of the parameters that it is kept for is trained]

Likewise instructions: a node of the backward pass runs if one of the parameters behind it is trained. A row is exact for the order of
nodes that it was read from; where another order serves another selection better, that takes a little less, and exact.py lowers the row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tinytrain.compiler import STACK_BYTES, target_bytes
from tinytrain.ir.graph import Graph, Node, Program
from tinytrain.ir.types import Role, Value
from tinytrain.planner import Plan
from tinytrain.schemes.cost import Costs
from tinytrain.schemes.space import Selection, Space

ALIGN = 8
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

    def rows(self, selection: Selection) -> list[Row]:
        """Of RAM, from the peak of this selection's plan, and of instructions."""
        program, plan = self.costs.planned(self.space.scheme(selection))
        worst = max(plan.entries.values(), key=lambda entry: entry.peak.bytes)
        found = [self._at_peak(program, worst, selection)]
        train = plan.entries["train"].graph
        if self.costs.counted:
            found.append(self._of_nodes(train, selection))
        return found

    def _at_peak(self, program: Program, plan: Plan, selection: Selection) -> Row:
        """What is alive at the peak, each value for those of its readers that are still to come.

        A value that both a gradient of a weight and one on the way further back read may be replaced by one bit an element
        (passes/pack_masks.py) in a selection without that weight.
        """
        position, needs = plan.peak.position, self._needs(plan.graph)
        ends = self._ends(plan.graph, needs)
        kept: dict[Value, list[Node]] = {v: [] for v in plan.peak.values}
        split: set[Value] = set()
        for i, node in enumerate(plan.graph.nodes):
            touched = [plan.root(v) for v in (*node.inputs, *(node.outputs if i == position else ()))]
            for root in [] if node.op.view else touched:
                if root in kept and i >= position:
                    kept[root].append(node)
                if node in ends:
                    split.add(root)
        # while a slice is made it is there beside its source, which alone would be there if all channels were trained
        slices = {plan.root(n.outputs[0]): plan.root(n.inputs[0]) for n in ends if len(n.inputs) == 1}
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
        peak = plan.graph.nodes[position]
        amounts.append((_padded(plan.scratch_sizes.get(peak, 0)) - plan.peak.shared_bytes, needs[peak]))
        return self._row("ram_bytes", target_bytes(program) + STACK_BYTES, amounts, selection, self._fixed_terms())

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

    def _of_nodes(self, train: Graph, selection: Selection) -> Row:
        needs = self._needs(train)
        amounts = [(int(self.costs.instructions(node) or 0), needs[node]) for node in train.nodes]
        return self._row("instructions", 0, amounts, selection, [])

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
