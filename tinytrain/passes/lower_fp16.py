# SPDX-License-Identifier: Apache-2.0
"""lower_fp16: y:f32 = conv2d(x:f32, w)  ->  y:f16 = conv2d(x:f16, w), computed in fp32 as before

fp16 is a way of storing: activations, and gradients on their way back, stand in memory as halves between kernels, which sum in fp32 and
round once, where they store. Gradients of parameters, losses, softmax and statistics of norms stay fp32, and so does what some kernel
cannot take as fp16: kernels read either, so that there are no casts but one of what the caller gives ("Mixed Precision Training",
arXiv 1710.03740, which also scales the loss: `Optimiser.loss_scale`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph, Program
from tinytrain.ir.types import F32, Role, Value
from tinytrain.ops.elementwise import Scale
from tinytrain.ops.loss_scale import LossScaleFactor
from tinytrain.passes.halve_weights import beyond, fixed, halved, restored, unhalved
from tinytrain.passes.pack_masks import turning_point
from tinytrain.planner.updates import contents
from tinytrain.schemes.precision import Rule, fp32_layers


def lower_fp16(graph: Graph, fp32: Collection[str] = ()) -> Graph:
    """Needs fused kernels, so that only what lies in memory is rounded; nodes of these names keep all they read and write in fp32."""
    graph = _taken_once(graph, fp32)
    return _lowered(graph, (v for v in graph.values() if v.role is Role.TEMP), fp32)


def halve_gradients(graph: Graph) -> Graph:
    """The same of gradients on their way back alone."""
    turn = turning_point(graph)
    if turn is None:
        return graph
    made = {v for node in graph.nodes[turn + 1 :] for v in node.outputs}
    shown = contents(graph)
    return _lowered(graph, (v for v in graph.values() if v in made and shown[v] in made), ())


def absorbed(rules: Sequence[Rule], before: Graph, after: Graph) -> dict[str, str]:
    """The `fp32_layers` of the graph before passes fused it, and nodes that took such layers in: of a relu the convolution before it."""
    found = fp32_layers(rules, before)
    content, makers, readers = contents(after), after.producers(), before.readers()
    for node in before.nodes:
        if node.origin in found:
            v = node.outputs[0]
            while v not in content and len(readers[v]) == 1:
                v = readers[v][0].outputs[0]
            if maker := makers.get(content.get(v, v)):
                found.setdefault(maker.origin, found[node.origin])
    return found


def stays_fp32(rules: Sequence[Rule], model: Graph, program: Program) -> dict[str, str]:
    """Layer → why it is not stored as fp16: what was asked for first, then why something of it stays, for want of a kernel or for the range
    of its weights."""
    asked = fp32_layers(rules, model)
    return {**asked, **{name: why for name, why in _never_halved(program).items() if name not in asked}}


def _never_halved(program: Program) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in program.entries["infer"].nodes:
        if large := [v for v in node.inputs if beyond(v)]:
            found[node.origin] = f"its {large[0].name} reaches {beyond(large[0]):,.0f}"
    for node in (node for graph in program.entries.values() for node in graph.nodes if node.origin):
        if any(v.type.dtype is F32 and v.type.numel > 1 and v.role is not Role.STATE and v not in node.wide for v in fixed(node)):
            found.setdefault(node.origin, f"{node.op.name} takes no fp16")
    return found


def _lowered(graph: Graph, candidates: Iterable[Value], fp32: Collection[str]) -> Graph:
    shown = contents(graph)                               # a view is the memory of another value
    stay = {shown[v] for v in (*graph.inputs, *graph.kept(), *_directions(graph), *_unscaled(graph), *unhalved(graph, fp32))}
    wide = (v for v in candidates if v.type.dtype is F32 and v.type.numel > 1 and shown[v] not in stay)
    return restored(graph, {v: halved(v) for v in wide})


def _directions(graph: Graph) -> set[Value]:
    """What the updates follow: their operands, and element by element what those are made of on the way back; but not the summands of what
    other gradients are made of too: that of a position embedding is the gradient of all that it was added to."""
    backward, shown = graph.nodes[turning_point(graph) or 0 :], contents(graph)
    made = {v for node in backward for v in node.outputs}
    found, flowing = set(graph.updates.values()), set[Value]()
    for node in reversed(backward):
        followed: tuple[Value, ...] = ()
        if any(v in found for v in node.outputs):
            followed = node.inputs if node.op.view else node.along
            if sum(v in made and v.type.numel > 1 for v in followed) > 1 and any(shown[v] in flowing for v in node.outputs):
                followed = ()
        found.update(followed)
        if not node.op.view and any(v.type.dtype.is_float and v.type.numel > 1 for v in node.outputs):
            flowing.update(shown[v] for v in node.inputs if v not in followed)
    return found & made


def _unscaled(graph: Graph) -> set[Value]:
    """What the gradients of a loss are before they are multiplied by its scale: small numbers of them would vanish."""
    scales = {v for node in graph.nodes if isinstance(node.op, LossScaleFactor) for v in node.outputs}
    return {v for node in graph.nodes if scales & {*node.inputs} for v in node.inputs}


def _taken_once(graph: Graph, fp32: Collection[str]) -> Graph:
    """A sample that is read again on the way back is rounded before anything else, if all that read it take that."""
    turn = turning_point(graph)
    if turn is None or not graph.inputs:
        return graph
    x, shown = graph.inputs[0], contents(graph)
    again = {shown[v] for node in graph.nodes[turn:] for v in node.inputs}
    if x not in again or x.type.dtype is not F32 or x in {shown[v] for v in unhalved(graph, fp32)}:
        return graph
    g = Builder(graph.name, graph.values())
    rounded = graph.substitute({x: g.emit(Scale(1.0), x, name=f"{x.name}_half")})
    return rounded.replace(nodes=(*g.nodes, *rounded.nodes))
