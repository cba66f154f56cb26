# SPDX-License-Identifier: Apache-2.0
"""dequantise x → any ops on each number by itself → quantise   ->   lookup x, a table of all 256

Whatever handlers have made of functions in fp32, one or several in a row, becomes a table where one int8 tensor decides the result.
"""

from __future__ import annotations

import dataclasses

from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.op import Elementwise
from tinytrain.ir.types import F32, S8, Value
from tinytrain.ops.lookup import Formula, Lookup
from tinytrain.ops.quantize import Dequantise, Quantise
from tinytrain.passes.drop_dead import drop_dead_nodes

# ONNX functions of one number, those that a further operand of one element makes one included
TABULATED = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Cos", "Cosh", "Div", "Elu", "Erf", "Exp", "Floor", "Gelu",
    "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Max", "Min", "Mish", "Neg", "PRelu", "Pow", "Reciprocal", "Round", "Selu", "Shrink",
    "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Swish", "Tan", "Tanh", "ThresholdedRelu",
)


def tabulated(graph: Graph) -> tuple[Graph, frozenset[str]]:
    """Also which ONNX nodes became tables, or parts of them."""
    made, names = graph.producers(), Builder(graph.name, graph.values())
    nodes = [_table(names, node, made) or node for node in graph.nodes]
    found = drop_dead_nodes(graph.replace(nodes=tuple(nodes)))
    return found, _computing(graph) - _computing(found)


def _computing(graph: Graph) -> frozenset[str]:
    return frozenset(node.origin for node in graph.nodes if not isinstance(node.op, (Lookup, Dequantise, Quantise)))


def _table(names: Builder, node: Node, made: dict[Value, Node]) -> Node | None:
    """The lookup that a quantise node becomes, under the name of what is in front of it."""
    end = made.get(node.inputs[0])
    if not isinstance(node.op, Quantise) or end is None or isinstance(end.op, Dequantise):
        return None
    walk = _Walk(made)
    if not walk.reaches(node.inputs[0]) or walk.x is None or (quant := walk.x.type.quant) is None:
        return None
    to = node.op
    op = Lookup(to.scale, to.zero_point, to.low, to.high, Formula(tuple(walk.steps)), quant.scale[0], quant.zero_point)
    table = names.const(f"{end.outputs[0].name}_table", op.table())
    return dataclasses.replace(node, op=op, inputs=(walk.x, table), origin=end.origin)


class _Walk:
    """From the end of a formula back to the one int8 tensor that it is of."""

    def __init__(self, made: dict[Value, Node]) -> None:
        self.made = made
        self.x: Value | None = None
        self.steps: list[tuple[Elementwise, tuple[int | float, ...]]] = []
        self.numbers: dict[Value, int] = {}

    def reaches(self, v: Value) -> bool:
        """Whether v is a function of x alone, the steps to which are noted."""
        if v in self.numbers:
            return True
        node = self.made.get(v)
        if node is None or not isinstance(node.op, Elementwise) or len(node.outputs) != 1:
            return False
        if isinstance(node.op, Dequantise):
            x = node.inputs[0]
            if x.type.dtype is not S8 or x.type.quant is None or len(x.type.quant.scale) != 1 or self.x not in (None, x):
                return False
            self.x, self.numbers[v] = x, 0
            return True
        if v.type.dtype is not F32 or not node.op.differentiable:
            return False
        if not all((at > 0 and _number(one) is not None) or self.reaches(one) for at, one in enumerate(node.inputs)):
            return False
        operands = tuple(self.numbers[one] if one in self.numbers else _number(one) for one in node.inputs)
        self.steps.append((node.op, operands))           # type: ignore[arg-type]
        self.numbers[v] = len(self.steps)
        return True


def _number(v: Value) -> float | None:
    """Of a stored operand of one element that nobody trains."""
    return float(v.data.reshape(())) if v.data is not None and v.data.size == 1 and v.type.dtype is F32 and v.source is None else None
