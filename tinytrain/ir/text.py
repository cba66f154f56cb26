# SPDX-License-Identifier: Apache-2.0
"""Graphs and numbers as text: for people, for golden files, for C."""

from __future__ import annotations

import math

import numpy as np

from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.op import Op


def literal(x: float) -> str:
    """The C constant of a number as float: exact, with its suffix. C99 has no literal for infinity, gcc and clang have a builtin."""
    with np.errstate(over="ignore"):
        number = np.float32(x)
    assert np.isinf(number) == math.isinf(x) and not math.isnan(x), f"{x} is no number of fp32"
    if math.isinf(x):
        return "__builtin_inff()" if x > 0 else "-__builtin_inff()"
    text = np.format_float_scientific(number, unique=True, trim="0", exp_digits=1)
    mantissa, exponent = text.split("e")
    return f"{mantissa}f" if int(exponent) == 0 else f"{mantissa}e{int(exponent)}f"


def op_text(op: Op) -> str:
    """`conv2d(stride=(2, 2), then=[relu])`: the name and what differs from the defaults."""
    parts = []
    for key, value in op.attributes().items():
        shown = f"[{', '.join(op_text(o) for o in value)}]" if key == "then" else op_text(value) if isinstance(value, Op) else repr(value)
        parts.append(f"{key}={shown}")
    return f"{op.name}({', '.join(parts)})" if parts else op.name


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
