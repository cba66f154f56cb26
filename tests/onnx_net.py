# SPDX-License-Identifier: Apache-2.0
"""Random ONNX models that grow node by node, whose every tensor is known: onnxruntime, or the evaluator of onnx where that lacks an op,
computes each new node three times, as it is and with tiny errors of either sign in all that is computed. So a model knows how far
its numbers may be off, and a node whose result jumps by such errors (a Floor of a whole number, say) is not taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from oracle_session import session_of

Shape = tuple[int, ...]
T = TypeVar("T")
FLOAT, INT, BOOL = "f", "i", "b"                          # kinds of NumPy
ERROR = 1e-6                                              # of each operation, relative
UNSTEADY = 1e-3                                           # what such errors may do at most
LARGEST, MOST_ELEMENTS = 1e4, 400
RUNTIME_OPSET = 26                                        # the newest that onnxruntime takes
OPSETS = (17, *range(13, onnx.defs.onnx_opset_version() + 1))
SIZES = (3, 1, 2, 4, 5, 7)
WHOLE = ("Ceil", "Floor", "Hardmax", "Round", "Sign")    # exact whatever they are given; a whole Tanh may have been rounded to it


class Net:
    """A model; `draw` takes all decisions. Names of tensors are handed around."""

    def __init__(self, draw: st.DrawFn, op: str = "") -> None:
        self.draw = draw
        self.opset = self.one(*(version for version in OPSETS if not op or _there(op, version)))
        self.rng = np.random.default_rng(self.int(0, 9))
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: dict[str, np.ndarray] = {}           # initializers
        self.known: dict[str, np.ndarray] = {}            # every constant
        self.inputs: list[str] = []
        self.values: dict[str, tuple[np.ndarray, ...]] = {}
        self.model = onnx.ModelProto()
        self.outputs: list[str] = []
        self.open_batch = self.yes()
        for _ in range(self.one(1, 1, 1, 2)):
            self.enter()

    def __repr__(self) -> str:
        steps = [f"{name} {self.shape(name)}" for name in self.inputs]
        for n in self.nodes:
            said = ", ".join(f"{a.name}={helper.get_attribute_value(a)}" for a in n.attribute if a.type != onnx.AttributeProto.TENSOR)
            given = ", ".join(f"{name}{self.known[name].shape}" if name in self.known else name for name in n.input)
            shape = self.shape(n.output[0]) if n.output[0] in self.values or n.output[0] in self.known else ""
            steps.append(f"{', '.join(n.output)} {shape} = {n.op_type}({given}{'; ' if said else ''}{said})")
        return f"opset {self.opset}: " + "\n  ".join(steps)

    # decisions

    def one(self, *options: T) -> T:
        return self.draw(st.sampled_from(options))

    def int(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def yes(self) -> bool:
        return self.draw(st.booleans())

    def axis(self, rank: int) -> int:
        """Counted from either end."""
        return self.int(-rank, rank - 1) if rank else 0

    def axes(self, rank: int, least: int = 0) -> list[int]:
        """Some of them, each from either end."""
        found = self.draw(st.lists(st.integers(0, rank - 1), min_size=min(least, rank), max_size=rank, unique=True)) if rank else []
        return [a - rank if self.yes() else a for a in found]

    def draw_perm(self, rank: int) -> list[int]:
        return self.draw(st.permutations(range(rank)))

    # what is there

    def shape(self, name: str) -> Shape:
        return tuple(self.array(name).shape)

    def array(self, name: str) -> np.ndarray:
        return self.known[name] if name in self.known else self.values[name][0]

    @property
    def samples(self) -> dict[str, np.ndarray]:
        """What it is given, by input."""
        return {name: self.array(name) for name in self.inputs}

    def has(self, op: str) -> bool:
        """Whether there is the op in the model's opset."""
        return _there(op, self.opset)

    def takes(self, op: str, attribute: str) -> bool:
        return attribute in onnx.defs.get_schema(op, self.opset).attributes

    def enter(self) -> None:
        shape = (1, *(self.one(*SIZES) for _ in range(self.int(1, 4))))
        while math.prod(shape) > MOST_ELEMENTS // 2:
            shape = shape[:-1]
        name = f"x{len(self.inputs)}"
        self.inputs.append(name)
        self.values[name] = (self.rng.standard_normal(shape).astype(np.float32),) * 3

    def read(self, *ranks: int, kind: str = FLOAT) -> str:
        """A computed tensor, latest first; brought to one of these ranks by a Reshape if it has none of them."""
        found = [name for name in reversed(self.values) if self.array(name).dtype.kind == kind and np.isfinite(self.array(name)).all()]
        name = self.one(*found) if found else self._cast(kind)
        if ranks and len(self.shape(name)) not in ranks:
            return self.reshaped(name, self.one(*ranks))
        return name

    def _cast(self, kind: str) -> str:
        """Bools or integers of floats."""
        if kind == BOOL:
            return self.add("Greater", self.read(), self.stored(self.numbers()))
        return self.add("ArgMax", self.read(1, 2, 3, 4, 5), axis=-1)

    def reshaped(self, name: str, rank: int) -> str:
        return self.add("Reshape", name, self.stored(np.array(self.other_shape(self.shape(name), rank), np.int64)))

    def other_shape(self, shape: Shape, rank: int) -> Shape:
        """As many elements over so many axes."""
        new = [1] * max(rank, math.prod(shape) > 1)
        for factor in (f for size in shape for f in _factors(size)):
            new[self.int(0, len(new) - 1)] *= factor
        return tuple(new)

    def broadcast(self, shape: Shape) -> Shape:
        """A shape that broadcasts to it: fewer axes, some of them 1."""
        return tuple(1 if self.one(False, False, True) else n for n in shape[self.int(0, len(shape)) :])

    # what is made

    def numbers(self, *shape: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
        return np.asarray(self.rng.uniform(low, high, shape), np.float32)

    def stored(self, array: np.ndarray | np.generic | Sequence[int], *, folded: bool = True) -> str:
        """A constant: an initializer, a Constant node, or computed of others or of a shape."""
        array = np.asarray(array, None if isinstance(array, np.ndarray | np.generic) else np.int64)
        name = f"k{len(self.known)}"
        self.known[name] = array
        how = self.int(0, 3) if folded else 0
        if how == 1 or (how and array.dtype.kind == BOOL):
            self.nodes.append(helper.make_node("Constant", [], [name], name, value=numpy_helper.from_array(array, name)))
        elif how == 2 and array.dtype == np.int64 and array.ndim == 1 and array.size:
            self._of_shape(name, array)
        elif how == 3 and array.dtype in (np.float32, np.int64):
            first = np.asarray(self.rng.integers(-3, 4, array.shape), array.dtype)
            self.arrays |= {f"{name}a": first, f"{name}b": array - first}
            self.known[name] = first + (array - first)
            self.nodes.append(helper.make_node("Add", [f"{name}a", f"{name}b"], [name], name))
        else:
            self.arrays[name] = array
        return name

    def _of_shape(self, name: str, array: np.ndarray) -> None:
        """A vector of integers as one size of a tensor, and what is missing."""
        of = self.read()
        rank = len(self.shape(of))
        if not rank:
            self.arrays[name] = array
            return
        axis = self.int(0, rank - 1)
        self.arrays |= {f"{name}i": np.full(array.shape, axis, np.int64), f"{name}m": array - self.shape(of)[axis]}
        self.nodes += [
            helper.make_node("Shape", [of], [f"{name}s"], f"{name}s"),
            helper.make_node("Gather", [f"{name}s", f"{name}i"], [f"{name}g"], f"{name}g"),
            helper.make_node("Add", [f"{name}g", f"{name}m"], [name], name),
        ]

    def add(self, op: str, *operands: str, outputs: int = 1, strange: bool = False, domain: str = "", **attributes: Any) -> str:
        """A node behind what is there; its first output. Attributes that are None, or that the opset does not have, are left out.

        Raises Unfit where its results are of no use: none, huge, or unsteady.
        """
        if not domain and not self.has(op):
            raise Unfit
        names = [f"t{len(self.values) + i}" for i in range(outputs)]
        given = {k: v for k, v in attributes.items() if v is not None and (domain or self.takes(op, k))}
        made = helper.make_node(op, operands, names, f"{op}_{len(self.nodes)}", domain=domain, **given)
        results = self._computed(made)
        for each in results:
            if not _steady(each, strange):
                raise Unfit
        for name, each in zip(names, results, strict=True):
            self.values[name] = each if op in WHOLE or (op != "Celu" and self._exact(each[0], operands)) else _wavering(each, self.rng)
        self.nodes.append(made)
        return names[0]

    def _exact(self, result: np.ndarray, operands: Sequence[str]) -> bool:
        """Whether a result has no errors of its own: integers, and what was only moved."""
        if result.dtype.kind != FLOAT:
            return True
        given = [self.array(name).reshape(-1) for name in operands if name]
        return any(array.dtype.kind == FLOAT and np.isin(result, [*array, 0]).all() for array in given)

    def _computed(self, made: onnx.NodeProto) -> list[tuple[np.ndarray, ...]]:
        """Each output, three times."""
        flowing = [name for name in dict.fromkeys(made.input) if name in self.values]
        constants = [numpy_helper.from_array(self.known[name], name) for name in dict.fromkeys(made.input) if name in self.known]
        inputs = [_info(name, self.values[name][0]) for name in flowing]
        since = 0 if made.domain else onnx.defs.get_schema(made.op_type, self.opset).since_version
        opset = max(since, min(self.opset, RUNTIME_OPSET))
        model = _model(opset, [made], inputs, constants, list(made.output))
        runs = self._runner(model, [{name: self.values[name][run] for name in flowing} for run in range(3)])
        return [tuple(np.asarray(run[i]) for run in runs) for i in range(len(made.output))]

    @staticmethod
    def _runner(model: onnx.ModelProto, given: list[dict[str, np.ndarray]]) -> list[list[Any]]:
        try:
            session = session_of(model)
            return [session.run(None, one) for one in given]
        except Exception:                                 # onnxruntime lacks the op, its type or the opset
            try:
                evaluator = ReferenceEvaluator(model)
                with np.errstate(all="ignore"):
                    return [evaluator.run(None, one) for one in given]
            except Exception as why:
                raise Unfit(str(why)) from why

    def finish(self) -> None:
        """Make the `model`, and its `outputs`: of what nobody reads all or the latest few, and maybe one that others read too."""
        read = {name for n in self.nodes for name in n.input}
        made = [name for name in reversed(self.values) if name not in self.inputs]
        leaves = [name for name in made if name not in read][: self.one(100, 1, 2)]
        if self.one(False, False, True):
            leaves.append(self.one(*made))
        outputs = self.outputs
        for name in dict.fromkeys(leaves):
            outputs.append(self.add("Cast", name, to=TensorProto.FLOAT) if self.array(name).dtype == bool else name)
        inputs = [_info(name, self.array(name), self.open_batch) for name in self.inputs]
        stored = [numpy_helper.from_array(a, name) for name, a in self.arrays.items()]
        self.model = _model(self.opset, self.nodes, inputs, stored, outputs)
        for value in self.model.graph.output:
            array = self.array(value.name)
            value.CopyFrom(_info(value.name, array))
            if self.open_batch:
                value.type.tensor_type.ClearField("shape")
                value.type.tensor_type.shape.dim.extend(onnx.TensorShapeProto.Dimension() for _ in array.shape)
    def tolerance(self, name: str) -> float:
        """How far a tensor may be from what it should be, absolutely."""
        want, *others = self.values[name]
        finite = np.isfinite(want)
        scale = float(np.abs(want[finite]).max(initial=1e-3))
        return 3e-5 * scale + 20 * max(float(np.abs(o[finite].astype(np.float64) - want[finite]).max(initial=0)) for o in others)


class Unfit(Exception):
    """This node cannot stand here."""


Grower = Callable[[Net, str], object]
GROWERS: dict[str, Grower] = {}


def grows(*ops: str) -> Callable[[Grower], Grower]:
    """Register how one of these ops is added to a net, with random attributes and operands."""
    def register(grower: Grower) -> Grower:
        assert not GROWERS.keys() & set(ops)
        GROWERS.update(dict.fromkeys(ops, grower))
        return grower

    return register


def _model(
    opset: int, nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], constants: list[onnx.TensorProto], outputs: list[str]
) -> onnx.ModelProto:
    domains = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in sorted({n.domain for n in nodes} - {""}))]
    graph = helper.make_graph(nodes, "net", inputs, [onnx.ValueInfoProto(name=name) for name in outputs], constants)
    return helper.make_model(graph, opset_imports=domains, ir_version=max(8, helper.find_min_ir_version_for(domains[:1])))


def _there(op: str, opset: int) -> bool:
    return onnx.defs.has(op, opset) and not onnx.defs.get_schema(op, opset).deprecated


def _info(name: str, array: np.ndarray, open_batch: bool = False) -> onnx.ValueInfoProto:
    shape: list[int | str] = list(array.shape)
    if open_batch:
        shape[0] = "N"
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), shape)


def _factors(n: int) -> list[int]:
    for p in range(2, n):
        if n % p == 0:
            return [p, *_factors(n // p)]
    return [n] if n > 1 else []


def _steady(runs: tuple[np.ndarray, ...], strange: bool) -> bool:
    first, *others = runs
    if not 0 < first.size <= MOST_ELEMENTS or any(other.shape != first.shape for other in others):
        return False
    if first.dtype.kind != FLOAT:
        return all(np.array_equal(first, other) for other in others)
    if strange:
        return all(np.array_equal(np.isfinite(first), np.isfinite(other)) for other in others)
    if not all(np.isfinite(run).all() for run in runs):
        return False
    scale = float(np.abs(first).max())
    return scale <= LARGEST and all(float(np.abs(first - other).max()) <= UNSTEADY * scale for other in others)


def _wavering(runs: tuple[np.ndarray, ...], rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    noise = rng.uniform(-ERROR, ERROR, runs[0].shape)
    return runs[0], (runs[1] * (1 + noise)).astype(np.float32), (runs[2] * (1 - noise)).astype(np.float32)
