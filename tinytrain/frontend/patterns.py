# SPDX-License-Identifier: Apache-2.0
"""What exporters write out in many nodes is imported as the one op that it is:  Div(Sub(x, mean), Sqrt(var + ε)) -> LayerNormalization

A pattern is an expression of ONNX ops of an operand `x`; other names stand for a number. `Mul` is a product of any factors, however it is
grouped, divided or squared: its constants are one number. Reductions keep their axes, all of a pattern the same ones. It is taken where
nobody else reads a value inside. The file stays as it is: only the importer sees one node.
"""

from __future__ import annotations

import ast
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import permutations
from typing import TYPE_CHECKING

from tinytrain.frontend.layout import Dims
from tinytrain.ir.types import Array

if TYPE_CHECKING:
    import onnx

NEAR = 1e-4                                               # exporters round √2, 2/π and 1/6
DEEPEST = 6                                               # of nodes that multiply one into the other
OPERAND = "x"
REDUCING = ("ReduceMean", "ReduceMax", "ReduceSum", "ReduceLogSumExp", "Softmax")


@dataclass(frozen=True)
class Pattern:
    """`op` of x for the expression; `numbers` are its attributes by the names in the text, `trailing`: over all axes from `axis` on."""

    op: str
    text: str
    numbers: Mapping[str, str] = field(default_factory=dict)
    trailing: bool = False
    form: str = ""                                        # attribute `approximate`

    @cached_property
    def tree(self) -> ast.expr:
        return ast.parse(self.text, mode="eval").body


_LEFT = "Sub(x, ReduceMean(x))"
_LOW = "Sub(x, ReduceMax(x))"
PATTERNS = (
    Pattern("LayerNormalization", f"Mul({_LEFT}, Reciprocal(Sqrt(Add(ReduceMean(Mul({_LEFT}, {_LEFT})), eps))))", {"epsilon": "eps"}, True),
    Pattern("RMSNormalization", "Mul(x, Reciprocal(Sqrt(Add(ReduceMean(Mul(x, x)), eps))))", {"epsilon": "eps"}, True),
    Pattern("Gelu", "Mul(x, 0.5, Add(Erf(Mul(x, 0.70710678)), 1))"),
    Pattern("Gelu", "Mul(x, 0.5, Add(Tanh(Mul(0.79788456, Add(x, Mul(0.044715, x, x, x)))), 1))", form="tanh"),
    Pattern("Gelu", "Mul(x, 0.5, Add(Tanh(Mul(0.79788456, x, Add(Mul(0.044715, x, x), 1))), 1))", form="tanh"),
    Pattern("Swish", "Mul(x, Sigmoid(x))"),
    Pattern("Swish", "Mul(x, Sigmoid(Mul(x, alpha)))", {"alpha": "alpha"}),
    Pattern("HardSwish", "Mul(x, HardSigmoid(x, alpha=0.16666667, beta=0.5))"),
    Pattern("HardSwish", "Mul(x, Clip(Add(x, 3), 0, 6), 0.16666667)"),
    Pattern("Mish", "Mul(x, Tanh(Softplus(x)))"),
    Pattern("Softmax", f"Mul(Exp({_LOW}), Reciprocal(ReduceSum(Exp({_LOW}))))"),
    Pattern("Softmax", "Mul(Exp(x), Reciprocal(ReduceSum(Exp(x))))"),
    Pattern("LogSoftmax", f"Sub({_LOW}, Log(ReduceSum(Exp({_LOW}))))"),
    Pattern("LogSoftmax", "Sub(x, ReduceLogSumExp(x))"),
    Pattern("LogSoftmax", "Log(Softmax(x))"),
)
ROOTS = {"Mul", "Div", "Sub", "Log"}


@dataclass(frozen=True)
class _Found:
    """What a part of a pattern was found to be: x, numbers, axes of reductions, and by number the nodes that make it."""

    x: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    axes: Dims | None = None
    nodes: frozenset[int] = frozenset()

    def made_by(self, nodes: frozenset[int]) -> _Found:
        return replace(self, nodes=self.nodes | nodes)


@dataclass
class _Product:
    """Factors, whether each is divided by, the constants among them in one, and the nodes that multiply."""

    factors: list[tuple[str, bool]] = field(default_factory=list)
    number: float = 1.0
    nodes: set[int] = field(default_factory=set)


def joined(graph: onnx.GraphProto, arrays: Mapping[str, Array], shapes: Mapping[str, Dims]) -> tuple[list[onnx.NodeProto], set[str]]:
    """The nodes with one in place of each pattern, named and placed as its last one; constants that are now numbers of an op."""
    search = _Search(graph, arrays, shapes)
    instead: dict[int, onnx.NodeProto] = {}
    inside: set[int] = set()
    for number, node in enumerate(graph.node):
        made = search.at(number) if node.op_type in ROOTS and node.domain == "" else None
        if made is not None and not made[1] & inside:
            instead[number], nodes = made
            inside |= nodes
    constants = {name for number in inside for name in graph.node[number].input if name in arrays}
    read = {name for number, node in enumerate(graph.node) if number not in inside for name in node.input}
    return [instead.get(n, node) for n, node in enumerate(graph.node) if n in instead or n not in inside], constants - read


class _Search:
    def __init__(self, graph: onnx.GraphProto, arrays: Mapping[str, Array], shapes: Mapping[str, Dims]) -> None:
        self.graph, self.arrays, self.shapes = graph, arrays, shapes
        self.maker = {name: number for number, node in enumerate(graph.node) for name in node.output if node.domain == ""}
        self.uses = Counter(name for node in graph.node for name in node.input)
        self.uses.update(o.name for o in graph.output)

    def at(self, root: int) -> tuple[onnx.NodeProto, frozenset[int]] | None:
        """What stands for the pattern whose last node is this one, and the nodes that make it."""
        for pattern in PATTERNS:
            for found in self._matches(pattern.tree, self.graph.node[root].output[0], _Found()):
                if self._closed(found.nodes, root) and (made := self._made(pattern, found, self.graph.node[root])) is not None:
                    return made, found.nodes
        return None

    def _made(self, pattern: Pattern, found: _Found, last: onnx.NodeProto) -> onnx.NodeProto | None:
        from onnx import helper

        rank = len(self.shapes.get(found.x, ()))
        attributes: dict[str, float | int | str] = {name: found.numbers[text] for name, text in pattern.numbers.items()}
        if self.shapes.get(found.x) != self.shapes.get(last.output[0]) or found.numbers.get("eps", 1.0) <= 0:
            return None
        if pattern.form:
            attributes["approximate"] = pattern.form
        if found.axes is not None:
            if found.axes != (tuple(range(found.axes[0], rank)) if pattern.trailing else found.axes[:1]):
                return None
            attributes["axis"] = found.axes[0]
        made = helper.make_node(pattern.op, [found.x], last.output, last.name)
        made.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        return made

    def _closed(self, nodes: frozenset[int], root: int) -> bool:
        """Whether nobody else reads what is inside."""
        read = Counter(name for number in nodes for name in self.graph.node[number].input)
        return all(read[name] == self.uses[name] for number in nodes - {root} for name in self.graph.node[number].output if name)

    def _number(self, value: str) -> float | None:
        array = self.arrays.get(value)
        return float(array.reshape(())) if array is not None and array.size == 1 and array.dtype.kind == "f" else None

    def _matches(self, tree: ast.expr, value: str, found: _Found) -> Iterator[_Found]:
        """All ways to find the expression in what makes the value."""
        if isinstance(tree, ast.Call):
            op = ast.unparse(tree.func)
            if op == "Mul":
                yield from self._products(tree.args, self._product(value), found)
            elif value in self.maker and self.graph.node[self.maker[value]].op_type == op:
                yield from self._calls(tree, op, self.maker[value], found)
        elif isinstance(tree, ast.Name) and tree.id == OPERAND:
            if found.x in ("", value) and value not in self.arrays:
                yield replace(found, x=value)
        elif (number := self._number(value)) is not None:
            yield from _same(tree, number, found)

    def _calls(self, tree: ast.Call, op: str, number: int, found: _Found) -> Iterator[_Found]:
        node = self.graph.node[number]
        if any(not _near(_attribute(node, str(word.arg)), ast.literal_eval(word.value)) for word in tree.keywords):
            return
        if op in REDUCING:
            axes = self._axes(node)
            if axes is None or found.axes not in (None, axes):
                return
            found = replace(found, axes=axes)
        given = list(node.input)[: 1 if op in REDUCING else None]
        if len(given) != len(tree.args):
            return
        for operands in [given, given[::-1]] if op == "Add" else [given]:
            yield from self._all(list(zip(tree.args, operands, strict=True)), found.made_by(frozenset({number})))

    def _all(self, parts: Sequence[tuple[ast.expr, str]], found: _Found) -> Iterator[_Found]:
        if not parts:
            yield found
            return
        for more in self._matches(*parts[0], found):
            yield from self._all(parts[1:], more)

    def _axes(self, node: onnx.NodeProto) -> Dims | None:
        """Of a reduction that keeps its rank."""
        from onnx import helper

        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        rank = len(self.shapes.get(node.input[0], ()))
        if not rank or given.get("keepdims", 1) != 1:
            return None
        if node.op_type == "Softmax":
            return (int(given.get("axis", -1)) % rank,)
        axes = self.arrays.get(node.input[1], None) if len(node.input) > 1 else given.get("axes")
        return None if axes is None else tuple(sorted(int(a) % rank for a in axes))

    def _product(self, value: str, depth: int = 0) -> _Product:
        """What is multiplied to a value; what others read too is a factor as it is."""
        constant, number = self._number(value), self.maker.get(value)
        if constant is not None:
            return _Product(number=constant)
        node = self.graph.node[number] if number is not None else None
        exponent = self._number(node.input[1]) if node is not None and node.op_type == "Pow" else None
        if node is None or number is None or depth == DEEPEST or (depth and self.uses[value] > 1):
            return _Product([(value, False)])
        if node.op_type in ("Mul", "Div"):
            a, b = (self._product(name, depth + 1) for name in node.input)
            if node.op_type == "Div":
                if not b.number:
                    return _Product([(value, False)])
                b = _Product([(name, not over) for name, over in b.factors], 1 / b.number, b.nodes)
            return _Product(a.factors + b.factors, a.number * b.number, a.nodes | b.nodes | {number})
        if exponent in (2.0, 3.0):
            return _Product([(node.input[0], False)] * int(exponent), 1.0, {number})
        return _Product([(node.input[0], True)], 1.0, {number}) if node.op_type == "Reciprocal" else _Product([(value, False)])

    def _products(self, trees: Sequence[ast.expr], product: _Product, found: _Found) -> Iterator[_Found]:
        """The factors in any order, each with one of the product."""
        numbers = [tree for tree in trees if isinstance(tree, ast.Constant)]
        names = [tree for tree in trees if isinstance(tree, ast.Name) and tree.id != OPERAND]
        parts = [tree for tree in trees if tree not in numbers and tree not in names]
        if len(parts) != len(product.factors) or not product.nodes:
            return
        left = product.number / math.prod(float(ast.literal_eval(tree)) for tree in numbers)
        for agreed in _same(names[0] if names else ast.Constant(1.0), left, found.made_by(frozenset(product.nodes))):
            for factors in dict.fromkeys(permutations(product.factors)):
                pairs = [(_divisor(tree), tree, *factor) for tree, factor in zip(parts, factors, strict=True)]
                if all((divisor is not None) == over for divisor, _, _, over in pairs):
                    yield from self._all([(divisor or tree, name) for divisor, tree, name, _ in pairs], agreed)


def _divisor(tree: ast.expr) -> ast.expr | None:
    """What a factor of a pattern divides by."""
    return tree.args[0] if isinstance(tree, ast.Call) and ast.unparse(tree.func) == "Reciprocal" else None


def _same(tree: ast.expr, number: float, found: _Found) -> Iterator[_Found]:
    """A number that is the one of the pattern, or what one of its names stands for."""
    if isinstance(tree, ast.Name):
        if found.numbers.get(tree.id, number) == number:
            yield replace(found, numbers={**found.numbers, tree.id: number})
    elif _near(number, ast.literal_eval(tree)):
        yield found


def _near(number: float, want: float) -> bool:
    return math.isclose(number, want, rel_tol=NEAR, abs_tol=1e-12)


def _attribute(node: onnx.NodeProto, name: str) -> float:
    """A float attribute, or its default."""
    import onnx

    default = onnx.defs.get_schema(node.op_type).attributes[name].default_value.f
    return next((float(a.f) for a in node.attribute if a.name == name), float(default))
