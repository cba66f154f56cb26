# SPDX-License-Identifier: Apache-2.0
"""Ops of any number of operands as ops of two: sum(a, b, c) -> (a + b) + c;  mean(a, b) -> (a + b)·1/2;  max, min likewise; of one: itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

PAIRED = {"Sum": "Add", "Mean": "Add", "Max": "Max", "Min": "Min"}


def pair_up(graph: onnx.GraphProto) -> None:
    """In place. The last of the ops of two keeps the name of the node; those before it are called `NAME/1` and so on."""
    taken = {name for node in graph.node for name in node.output} | {t.name for t in graph.initializer}
    nodes = [made for node in graph.node for made in (_paired(node, taken) if _is_paired(node) else [node])]
    if len(nodes) != len(graph.node) or any(new is not old for new, old in zip(nodes, graph.node, strict=True)):
        copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)


def _is_paired(node: onnx.NodeProto) -> bool:
    return node.domain == "" and node.op_type in PAIRED and (len(node.input) != 2 or node.op_type in ("Sum", "Mean"))


def _paired(node: onnx.NodeProto, taken: set[str]) -> list[onnx.NodeProto]:
    from onnx import helper

    def fresh(number: int) -> str:
        name = f"{node.output[0]}_{number}"
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    steps = [(PAIRED[node.op_type], operand) for operand in node.input[1:]]
    if not steps:
        return [helper.make_node("Identity", node.input, node.output, node.name)]
    made, before = [], node.input[0]
    if node.op_type == "Mean":
        steps.append(("Mul", fresh(0)))
        made.append(helper.make_node("Constant", [], [steps[-1][1]], f"{node.name}/part", value_float=1 / len(node.input)))
    for number, (op, operand) in enumerate(steps, start=1):
        last = number == len(steps)
        result, name = (node.output[0], node.name) if last else (fresh(number), f"{node.name}/{number}")
        made.append(helper.make_node(op, [before, operand], [result], name))
        before = result
    return made
