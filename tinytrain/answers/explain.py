# SPDX-License-Identifier: Apache-2.0
"""`compile --explain`: what was decided for a model on a board, one line a decision, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator

from tinytrain.compiler import Compiled
from tinytrain.emit.select import Choice, Kernels, Selection
from tinytrain.errors import printable
from tinytrain.ir.graph import Node
from tinytrain.ir.op import Fusable
from tinytrain.ir.types import Value
from tinytrain.planner import Plan
from tinytrain.report.text import table
from tinytrain.schemes.scheme import Select, layers

Rows = Iterator[list[str]]


def explained(compiled: Compiled) -> str:
    """Sections of the model, of what is trained, and of kernels and memory of each entry point."""
    kernels = compiled.tuning.kernels(compiled.program)
    sections = [("model", _model(compiled)), ("trained", _trained(compiled))]
    for name, plan in compiled.plan.entries.items():
        sections += [(f"kernels of {name}, in order", _chosen(plan, kernels)), (f"memory of {name}", _placed(compiled, plan))]
    texts = [f"{title}\n{table(rows)}" for title, found in sections if (rows := [["", *row] for row in found])]
    return "\n\n".join("\n".join(map(printable, text.split("\n"))) for text in texts)


def _model(compiled: Compiled) -> Rows:
    """What became of nodes that are none of the program's own."""
    yield from ([name, became] for name, became in compiled.prepared.became.items())
    yield from ([note.split(" ")[0], note] for note in compiled.imported.notes)
    for node in compiled.program.entries["infer"].nodes:
        if isinstance(node.op, Fusable) and node.op.then:
            names = ", ".join(op.name for op in node.op.then)
            yield [node.origin, f"computes {names} as it stores, which saves a pass over memory"]
    yield from ([name, f"stays fp32: {why}"] for name, why in compiled.stays_fp32.items())


def _trained(compiled: Compiled) -> Rows:
    """Each parameter: trained or frozen."""
    known = layers(compiled.imported.graph)
    for number, scheme in enumerate(compiled.schemes):
        called = f"scheme {number} " if len(compiled.schemes) > 1 else ""
        named = f"{called}{scheme.preset or 'the scheme'}"
        first = next((i for i, layer in enumerate(known) if scheme.layers.get(layer.name)), len(known))
        for i, layer in enumerate(known):
            for kind in layer.parameters:
                select = scheme.layers.get(layer.name, {}).get(kind)
                yield [f"{layer.name}.{kind}", _why(select, named, i < first)]
    yield from ([one.name, f"frozen: {one.why}"] for one in compiled.frozen)


def _why(select: Select | None, scheme: str, before: bool) -> str:
    if select is None:
        return f"frozen: not in {scheme}" + ("; it lies before all that is trained, so no gradient goes this far" if before else "")
    if select.whole:
        return f"trained: in {scheme}"
    which = f"{len(select.channels)} named" if select.channels else f"{select.fraction:g} of its, those with the largest weights:"
    return f"trained in part: {which} {select.side}put channels, in {scheme}; the rest is read from flash"


def _chosen(plan: Plan, kernels: Kernels) -> Rows:
    """Each call: its kernel, and why no other."""
    for position, node in enumerate(plan.graph.nodes):
        if node.op.view:
            yield [str(position), node.origin, node.op.name, "no code", "it only names bytes that are there"]
        else:
            selection = kernels.select(node, spare=plan.room(node))
            yield [str(position), node.origin, node.op.name, str(selection.choice).rstrip(":"), _because(node, selection, kernels)]


def _because(node: Node, selection: Selection, kernels: Kernels) -> str:
    if (count := selection.count) is not None:
        unit = "instructions" if count.cycles is None else "cycles"
        return f"counted, and the best of those for its code ({count.time:,} {unit}, {count.code_bytes:,} B)"
    reasons: dict[str, dict[str, None]] = {}
    for kernel, why in selection.refused:
        if kernel.isa in (None, *kernels.isa) and all(kernel.reads(node.op, i, v.type.dtype) for i, v in _read(node)):
            reasons.setdefault(why, {})[Choice(kernel).text] = None
    refused = "".join(f"; not {', '.join(names)}: {why}" for why, names in reasons.items())
    return f"the last that suits, of its list for this board and these types{refused}"


def _read(node: Node) -> list[tuple[int, Value]]:
    """The operands that a kernel itself reads, without those of its epilogue."""
    arity = node.op.arity if isinstance(node.op, Fusable) else len(node.inputs)
    return list(enumerate(node.inputs[:arity]))


def _placed(compiled: Compiled, plan: Plan) -> Rows:
    """Each buffer by its offset: the bytes, how long they are in use, and why they are there."""
    spans, guests = plan.spans(), _guests(plan)
    peak = set(plan.peak.values)
    yield ["order of nodes", plan.order, "", "the fewest bytes in use at once, of the orders that were tried"]
    for value, offset in sorted(plan.offsets.items(), key=lambda item: (item[1], item[0].name)):
        if plan.root(value) is not value:
            continue
        where = f"{offset:,} to {offset + value.type.nbytes:,}"
        if value in compiled.plan.fixed:
            yield [value.name, where, "always", "kept from step to step, so at the same place in every entry"]
            continue
        start, end = spans[value]
        why = "the sample: at one place in every entry" if value in plan.graph.inputs else "free all that time"
        if guests.get(value):
            why += f"; then {', '.join(guests[value])} in the same bytes"
        if value in peak:
            why += f"; at the peak, {plan.peak.bytes:,} B"
        yield [value.name, where, f"nodes {start} to {end - 1}", why]
    asked = [(node, offset, plan.scratch_sizes[node], "its kernel asked for it") for node, offset in plan.scratch_offsets.items()]
    asked += [(node, offset, bytes_, "free then, and makes its kernel quicker") for node, (offset, bytes_) in plan.spare.items()]
    for node, offset, bytes_, why in asked:
        where = f"{offset:,} to {offset + bytes_:,}"
        yield [f"scratch of {node.origin or node.op.name}", where, f"node {plan.graph.nodes.index(node)}", why]


def _guests(plan: Plan) -> dict[Value, list[str]]:
    """Values that have no bytes of their own, by whose they have."""
    found: dict[Value, list[str]] = {}
    for value, root in plan.aliases.items():
        found.setdefault(root, []).append(value.name)
    return found
