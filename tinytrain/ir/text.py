# SPDX-License-Identifier: Apache-2.0
"""Graphs as text: for people and for golden files."""

from __future__ import annotations

from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.op import Op


def op_text(op: Op) -> str:
    """`conv2d(stride=(2, 2), then=[relu])`: the name and what differs from the defaults."""
    parts = []
    for key, value in op.attributes().items():
        parts.append(f"{key}={_attribute_text(value)}")
    return f"{op.name}({', '.join(parts)})" if parts else op.name


def _attribute_text(value: object) -> str:
    if isinstance(value, Op):
        return op_text(value)
    ops = isinstance(value, tuple) and value and all(isinstance(each, Op) for each in value)
    return f"[{', '.join(map(op_text, value))}]" if isinstance(value, tuple) and ops else repr(value)


def node_text(node: Node) -> str:
    outs = ", ".join(repr(v) for v in node.outputs)
    ins = ", ".join(f"%{v.name}" for v in node.inputs)
    return f"{outs} = {op_text(node.op)} {ins}" + (f"    # {node.origin}" if node.origin else "")


def graph_text(graph: Graph) -> str:
    """One line a node: `%y:f32[10] = dense %x, %w, %b    # fc1`."""
    lines = [f"graph {graph.name}({', '.join(map(repr, graph.inputs))})"]
    lines += [f"  {node_text(node)}" for node in graph.nodes]
    lines.append(f"  return {', '.join(f'%{v.name}' for v in graph.outputs)}")
    lines += [f"  update %{old.name} <- %{new.name}" for old, new in graph.updates.items()]
    return "\n".join(lines) + "\n"
