# SPDX-License-Identifier: Apache-2.0
"""Who shares storage with whom, and from when to when each piece of storage is in use.

    y = relu(x), x not read again  → y stands where x stood        (`op.inplace`)
    z = reshape(y)                 → z is y under another shape    (`op.view`)
    updates {w: w2}                → w2 stands where w stood       (see updates.py)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.types import Role, Value
from tinytrain.planner.plan import Buffer, Needs, Peak, in_use
from tinytrain.planner.updates import Bound, contents, may_overwrite


@dataclass(frozen=True)
class Lifetimes:
    """`roots` maps every value to the one that owns its storage; `buffers` are those of the owners, PARAM and STATE fixed.

    `owners[i]` is what buffer i is for: a value, or the node whose scratch it is. The sample, the graph's first input, has a buffer
    as well, which no other value takes over: the caller may have it elsewhere, where nothing may be written.
    """

    roots: dict[Value, Value]
    buffers: tuple[Buffer, ...]
    owners: tuple[Value | Node, ...]
    peak: Peak


def lifetimes(graph: Graph, bound: Bound, fixed: dict[Value, int], needs: Callable[[Node], Needs], align: int) -> Lifetimes:
    """Storage and its use for the graph in the order given; `fixed` are offsets (bytes) of all PARAM and STATE of the program."""
    count = len(graph.nodes)
    content = contents(graph)
    last = {content[v]: p for p, node in enumerate(graph.nodes) for v in node.inputs}
    last.update({content[v]: count for v in graph.kept()})

    roots = {v: v for v in content if content[v] is v}
    spans: dict[Value, tuple[int, int]] = {}
    for p, node in enumerate(graph.nodes):
        if node.op.view:
            continue
        taken: set[Value] = set()
        for o, out in enumerate(node.outputs):
            end = min(max(last.get(out, p), p) + 1, count)
            if out in bound.targets:
                roots[out] = bound.targets[out]
                continue
            root = _dying_input(node, o, p, roots, content, last, taken)
            if root is not None:
                taken.add(root)
                roots[out] = root
                spans[root] = (spans[root][0], end)
            else:
                spans[out] = (p, end)
    roots.update({v: roots[c] for v, c in content.items()})

    for sample in graph.inputs[:1]:
        spans[sample] = (0, min(last.get(sample, 0) + 1, max(count, 1)))
    owners: list[Value | Node] = [*fixed, *spans]
    times = [(0, max(count, 1), v.type.nbytes, offset) for v, offset in fixed.items()]
    buffers = [Buffer(i, start, end, size, align, offset) for i, (start, end, size, offset) in enumerate(times)]
    ids = {v: i for i, v in enumerate(owners)}
    over: dict[Value, tuple[int, int]] = {}
    for p, node in enumerate(graph.nodes):
        lead = lead_of(node, needs, align)
        if lead is not None and last[content[node.inputs[0]]] == p and _is_apart(node, roots):
            over[node.outputs[0]] = (ids[roots[node.inputs[0]]], lead)
    for v, (start, end) in spans.items():
        buffers.append(Buffer(len(buffers), start, end, v.type.nbytes, align, over=over.get(v)))
    for p, node in enumerate(graph.nodes):
        size = needs(node).scratch
        if size > 0:
            buffers.append(Buffer(len(buffers), p, p + 1, size, align))
            owners.append(node)
    return Lifetimes(roots, tuple(buffers), tuple(owners), _peak(graph, buffers, owners))


def lead_of(node: Node, needs: Callable[[Node], Needs], align: int) -> int | None:
    """How many bytes before input 0, a multiple of `align`, output 0 must begin to lie over it; None where it may not."""
    lead = None if node.op.view else needs(node).lead
    return None if lead is None else -(-lead // align) * align


def _is_apart(node: Node, roots: dict[Value, Value]) -> bool:
    """Whether input 0 has storage that no other input or output of the node uses, and output 0 storage of its own."""
    root, out = roots[node.inputs[0]], node.outputs[0]
    return root.role is Role.TEMP and roots[out] is out and sum(roots[v] is root for v in (*node.inputs, *node.outputs)) == 1


def _dying_input(
    node: Node,
    output: int,
    position: int,
    roots: dict[Value, Value],
    content: dict[Value, Value],
    last: dict[Value, int],
    taken: set[Value],
) -> Value | None:
    """The storage of a TEMP input that ends here and that the op lets this output take over."""
    for i, o in node.op.inplace:
        if o != output:
            continue
        held = content[node.inputs[i]]
        root = roots[held]
        if root.role is Role.TEMP and root not in taken and last[held] == position and may_overwrite(node, output, held, content):
            return root
    return None


def _peak(graph: Graph, buffers: list[Buffer], owners: list[Value | Node]) -> Peak:
    """Padded bytes in use, at the first position where they are most; no placement can use fewer."""
    used = in_use(buffers)
    best = max(used)
    position = used.index(best)
    there = [o for b, o in zip(buffers, owners, strict=True) if b.start <= position < b.end and b.fixed is None]
    values = sorted((o for o in there if isinstance(o, Value)), key=lambda v: -v.type.nbytes)
    shared = sum(b.shared(buffers) for b in buffers if b.start == position)
    return Peak(position, used.count(best), best, graph.nodes[position] if graph.nodes else None, tuple(values), shared)
