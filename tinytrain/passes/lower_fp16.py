# SPDX-License-Identifier: Apache-2.0
"""lower_fp16: y:f32 = conv2d(x:f32, w)  ->  y:f16 = conv2d(x:f16, w), computed in fp32 as before

fp16 is a way of storing: activations, and gradients on their way back, stand in memory as halves between kernels, which sum in fp32 and
round once, where they store. Gradients of parameters, losses, softmax and statistics of norms stay fp32, and so does what some kernel
cannot take as fp16: kernels read either, so that there are no casts but one of what the caller gives ("Mixed Precision Training",
arXiv 1710.03740, which also scales the loss: `Optimiser.loss_scale`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph
from tinytrain.ir.op import Elementwise, Fusable
from tinytrain.ir.types import F32, Role, Value
from tinytrain.ops.elementwise import Scale
from tinytrain.passes.halve_weights import halved, restored, unhalved
from tinytrain.passes.pack_masks import turning_point
from tinytrain.planner.updates import contents


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


def _lowered(graph: Graph, candidates: Iterable[Value], fp32: Collection[str]) -> Graph:
    shown = contents(graph)                               # a view is the memory of another value
    fixed = {shown[v] for v in (*graph.inputs, *graph.kept(), *_directions(graph), *unhalved(graph, fp32))}
    wide = (v for v in candidates if v.type.dtype is F32 and v.type.numel > 1 and shown[v] not in fixed)
    return restored(graph, {v: halved(v) for v in wide})


def _directions(graph: Graph) -> set[Value]:
    """What the updates follow: their operands, and element by element what those are made of on the way back."""
    found = set(graph.updates.values())
    backward = graph.nodes[turning_point(graph) or 0 :]
    for node in reversed(backward):
        if any(v in found for v in node.outputs):
            arity = node.op.arity if isinstance(node.op, Fusable) else 0
            found.update(node.inputs[arity:] if isinstance(node.op, Elementwise | Fusable) or node.op.view else ())
    return found & {v for node in backward for v in node.outputs}


def _taken_once(graph: Graph, fp32: Collection[str]) -> Graph:
    """A sample that is read again on the way back is rounded before anything else, if all that read it take that."""
    turn = turning_point(graph)
    if turn is None:
        return graph
    x, shown = graph.inputs[0], contents(graph)
    again = {shown[v] for node in graph.nodes[turn:] for v in node.inputs}
    if x not in again or x.type.dtype is not F32 or x in {shown[v] for v in unhalved(graph, fp32)}:
        return graph
    g = Builder(graph.name, graph.values())
    rounded = graph.substitute({x: g.emit(Scale(1.0), x, name=f"{x.name}_half")})
    return rounded.replace(nodes=(*g.nodes, *rounded.nodes))
