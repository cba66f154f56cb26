# SPDX-License-Identifier: Apache-2.0
"""Which updates are written straight over the old value, and what order that asks for.

    g = grad(x, dy);  w' = sgd(w, g);  dx = grad_x(dy, w);  updates {w: w'}
    → w' stands where w stood, and dx, which reads the old w, must come before w'.

Outputs are known before anything stored changes, and before anything else reads what they are made of: between the forward pass
and the backward pass an entry point can stop and leave all as it was. What is lent (`Graph.lent`) changes where it stands as often as it
likes, and is given back before outputs are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.types import Role, Value


@dataclass(frozen=True)
class Bound:
    """`targets`: value written → PARAM or STATE whose storage it takes; `copies`: (old, new) left for the end, in order;

    `edges`: (earlier, later) positions in the graph as given, on top of its data edges.
    """

    targets: dict[Value, Value]
    copies: tuple[tuple[Value, Value], ...]
    edges: tuple[tuple[int, int], ...]


def contents(graph: Graph) -> dict[Value, Value]:
    """Each value mapped to the one that has its bytes: itself, or what it is a view of, however far back."""
    origin: dict[Value, Value] = {}
    for node in graph.nodes:
        if node.op.view:
            seen = node.inputs[0]
            for out in node.outputs:
                end = node.op.starts(*(v.type for v in node.inputs)) + out.type.nbytes
                assert end <= seen.type.nbytes, f"{node.op.name}: view {out!r} ends behind {seen!r}"
                origin[out] = origin.get(seen, seen)
    return {v: origin.get(v, v) for v in graph.values()}


def starts(graph: Graph) -> dict[Value, int]:
    """Of each view: bytes from the beginning of its content to its own."""
    found: dict[Value, int] = {}
    for node in graph.nodes:
        if node.op.view:
            found[node.outputs[0]] = found.get(node.inputs[0], 0) + node.op.starts(*(v.type for v in node.inputs))
    return found


def may_overwrite(node: Node, output: int, target: Value, content: dict[Value, Value]) -> bool:
    """Whether the op allows `output` where `target` stands: every input that reads these bytes must allow it, index by index."""
    new = node.outputs[output].type
    return all(
        (i, output) in node.op.inplace and v.type.numel == new.numel and v.type.nbytes == new.nbytes == target.type.nbytes
        for i, v in enumerate(node.inputs) if content[v] is target
    )


def bind_updates(graph: Graph, *, together: bool = False) -> Bound:
    """Decide for each update: in place (with the edges that make it right), or a copy at the end.

    `together`: none before all else is computed that does not follow from another update; so it is always with what is `Op.concludes`.
    """
    content = contents(graph)
    producer = {v: (p, o) for p, node in enumerate(graph.nodes) if not node.op.view for o, v in enumerate(node.outputs)}
    readers: dict[Value, list[int]] = {}
    for p, node in enumerate(graph.nodes):
        if not node.op.view:
            for v in dict.fromkeys(content[v] for v in node.inputs):
                readers.setdefault(v, []).append(p)
    after: list[list[int]] = [[] for _ in graph.nodes]
    for v, (p, _) in producer.items():
        after[p].extend(readers.get(v, ()))

    homes = graph.homes()
    here = {v: homes.get(c, c) for v, c in content.items()}
    outputs = dict.fromkeys(content[v] for v in graph.outputs)
    sources = {content[new] for old, new in graph.updates.items() if content[new] is not old}
    targets: dict[Value, Value] = dict(homes)
    copies: list[tuple[Value, Value]] = []
    known = [producer[v][0] for v in outputs if v in producer] if graph.updates else []
    edges = _lent(graph, known, readers, after)
    edges += _outputs_first(graph, known, readers, content, after)
    for old, new in graph.updates.items():
        source = content[new]
        if source is old:
            continue
        assert old not in outputs, f"{graph.name}: {old!r} is an output and is updated by {new!r}; its old value would be lost"
        if source in producer and source not in targets and old not in sources:
            writer, output = producer[source]
            earlier = [r for r in dict.fromkeys([*readers.get(graph.lent.get(old, old), ()), *known]) if r != writer]
            if writer not in known and may_overwrite(graph.nodes[writer], output, old, here) and not _reaches(writer, earlier, after):
                targets[source] = old
                for r in earlier:
                    after[r].append(writer)
                    edges.append((r, writer))
                continue
        copies.append((old, new))
    groups = [[p for p, node in enumerate(graph.nodes) if node.op.concludes]]
    if together:
        groups.append([producer[v][0] for v in targets if v not in homes])
    for writers in groups:
        late = {*writers, *_behind(writers, after)}
        waited = [(p, w) for p, node in enumerate(graph.nodes) if not node.op.view and p not in late for w in writers]
        for before, writer in waited:
            after[before].append(writer)
        edges += waited
    return Bound(targets, _sequence(copies, content), tuple(edges))


def _lent(graph: Graph, known: list[int], readers: dict[Value, list[int]], after: list[list[int]]) -> list[tuple[int, int]]:
    """From the readers of what stands in a lent PARAM to what changes it, and from what gives it back to the outputs."""
    edges: list[tuple[int, int]] = []
    back = set(graph.lent.values())
    for p, node in enumerate(graph.nodes):
        if node.op.lends:
            edges += [(r, p) for r in readers[node.inputs[0]] if r != p]
            edges += [(p, k) for k in known if node.outputs[0] in back]
    for earlier, later in edges:
        after[earlier].append(later)
    return edges


def _outputs_first(
    graph: Graph, known: list[int], readers: dict[Value, list[int]], content: dict[Value, Value], after: list[list[int]]
) -> list[tuple[int, int]]:
    """From the nodes that make the outputs to whatever else reads what they read; `after` is given these edges too.

    A mean squared error and its gradient, say, read the same two tensors, and either could come first.
    """
    edges: list[tuple[int, int]] = []
    for p in known:
        for v in dict.fromkeys(content[v] for v in graph.nodes[p].inputs if content[v].role in (Role.INPUT, Role.TEMP)):
            for r in readers[v]:
                if r != p and not _reaches(r, [p], after):
                    after[p].append(r)
                    edges.append((p, r))
    return edges


def _reaches(start: int, goals: Sequence[int], after: list[list[int]]) -> bool:
    wanted = set(goals)
    return any(p in wanted for p in _behind([start], after))


def _behind(start: Sequence[int], after: list[list[int]]) -> Iterator[int]:
    """Positions that are to come after these, each once."""
    seen, todo = set(start), list(start)
    while todo:
        for p in after[todo.pop()]:
            if p not in seen:
                seen.add(p)
                todo.append(p)
                yield p


def _sequence(copies: list[tuple[Value, Value]], content: dict[Value, Value]) -> tuple[tuple[Value, Value], ...]:
    """Order the copies so that none overwrites what a later one reads: {a: b, b: t} copies b to a first."""
    done: list[tuple[Value, Value]] = []
    pending = list(copies)
    while pending:
        free = next((c for c in pending if all(content[d[1]] is not c[0] for d in pending if d is not c)), None)
        assert free is not None, f"updates swap values among each other, no order of copies is right: {pending}"
        pending.remove(free)
        done.append(free)
    return tuple(done)
