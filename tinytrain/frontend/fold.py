# SPDX-License-Identifier: Apache-2.0
"""Everything that does not depend on the input becomes an initializer; nodes without effect go.

By onnxscript's folding, which knows shapes and conditions, then by onnx.reference, which evaluates any node that it left. Two things are
kept: a Dropout may be wanted for training, and stored integers must not become reals. So what only moves the reals of a
DequantizeLinear moves its integers: Transpose(DequantizeLinear(w)) becomes DequantizeLinear(Transpose(w)).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.frontend.literals import FLOAT, MOVES
from tinytrain.frontend.stored import StoredIntegers
from tinytrain.ir.types import Array
from tinytrain.onnx_graph import stored_array, stored_tensor
from tinytrain.reading import first_line

if TYPE_CHECKING:
    import onnx
    import onnx_ir

KEPT = ("Dropout", "DequantizeLinear")
RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
MOST_ELEMENTS = 1 << 27                                   # of all constants that are computed, half a gigabyte as float32


def _narrows(node: onnx_ir.Node) -> bool:
    """Whether a node takes from integers some of their bits."""
    return node.op_type == "Clip" and any(use.node.op_type == "DequantizeLinear" for use in node.outputs[0].uses())


def fold_constants(model: onnx.ModelProto, path: Path) -> tuple[onnx.ModelProto, dict[str, tuple[int, int]]]:
    """(the folded model; by initializer the bounds of integers that the file clips to fewer bits than their type has).

    Raises ModelError where a constant cannot be computed.
    """
    import onnx_ir
    import onnx_ir.passes.common as common
    from onnxscript import optimizer

    budget = _Budget(path)
    everything = 1 << 31
    try:
        work = onnx_ir.from_proto(model)
        common.InlinePass()(work)
        # under a domain that is not imported the library takes no node for something to be folded
        kept = [node for node in work.graph if node.op_type in KEPT or _narrows(node)]
        for node in kept:
            node.domain = "kept"
        optimizer.fold_constants(work, input_size_limit=everything, output_size_limit=everything, should_fold=budget.folds)
        for node in kept:
            node.domain = ""
        for step in (
            common.RemoveUnusedNodesPass(),
            common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            common.IdentityEliminationPass(),
            common.RemoveUnusedNodesPass(),
            common.NameFixPass(),
        ):
            step(work)
        folded = onnx_ir.to_proto(work)
    except (RuntimeError, ValueError, TypeError, ArithmeticError, NotImplementedError) as error:
        raise _not_computed(str(path), error.__cause__ or error) from error
    rest = _Rest(folded, path, budget)
    rest.run()
    return folded, rest.bounds


def _not_computed(where: str, why: BaseException) -> ModelError:
    return ModelError(
        f"{where}: its constant part cannot be computed: {first_line(why)}; expected constants that fold.",
        hint="Run onnxsim or the exporter's own constant folding first.",
    )


class _Budget:
    """How much may still be computed: a small file can ask for any number of elements."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.left = MOST_ELEMENTS

    def folds(self, node: onnx_ir.Node) -> bool | None:
        """For the library: whether it should compute a node whose operands are constants; None leaves it to its own rules."""
        shapes = [value.shape.numpy() for value in node.outputs if value.shape is not None and value.shape.is_static()]
        self.take(node.name or node.op_type, node.op_type, sum(math.prod(shape) for shape in shapes))
        return True if node.op_type == "ConstantOfShape" else None

    def take(self, name: str, op: str, elements: int) -> None:
        self.left -= elements
        if self.left < 0:
            raise ModelError(
                f"{name} ({op}) in {self.path}: with this constant of {elements:,} elements the model computes more than "
                f"{MOST_ELEMENTS:,} in all, expected fewer.",
                hint="Store large weights as initializers; no microcontroller holds such a constant.",
            )


class _Rest:
    """What is still computed from constants only, in place."""

    def __init__(self, model: onnx.ModelProto, path: Path, budget: _Budget) -> None:
        self.graph = model.graph
        self.opsets = list(model.opset_import)
        self.path = path
        self.budget = budget
        self.tensors = {t.name: t for t in self.graph.initializer}
        self.reals: dict[str, onnx.NodeProto] = {}        # outputs of DequantizeLinear of constants
        self.shapes = {
            v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
            for v in (*self.graph.input, *self.graph.value_info)
            if v.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in v.type.tensor_type.shape.dim)
        }
        # what has no elements depends on nothing
        self.empty = {
            v.name: np.zeros(self.shapes[v.name], np.float32) for v in self.graph.value_info
            if v.type.tensor_type.elem_type == FLOAT and 0 in self.shapes.get(v.name, ())
        }
        self.exits = {o.name for o in self.graph.output}
        self.bounds: dict[str, tuple[int, int]] = {}
        self.changed = False

    def run(self) -> None:
        nodes = [made for node in self.graph.node if (made := self._folded(node)) is not None]
        if not self.changed:
            return
        read = {name for node in nodes for name in node.input} | self.exits
        nodes = [node for node in nodes if node.output[0] in read or node.output[0] not in self.reals]
        read = {name for node in nodes for name in node.input} | self.exits
        tensors = [tensor for tensor in self.tensors.values() if tensor.name in read]
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        del self.graph.initializer[:]
        self.graph.initializer.extend(tensors)

    def _folded(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """None where the results are stored now; else what stands for the node."""
        for i, name in enumerate(node.input):
            if name in self.empty:
                node.input[i] = self._named(f"{name}_empty", self.empty[name])
        if all(name in self.empty for name in node.output if name) and not self.exits & set(node.output):
            self.changed = True
            return None
        if node.op_type in ("Shape", "Size") and node.input[0] in self.shapes:
            self._store(node, self._evaluated(node, [np.broadcast_to(np.float32(0), self.shapes[node.input[0]])]))
            return None
        if not all(name in self.tensors or name in self.reals for name in node.input if name) or not self._may_fold(node):
            return node
        if node.op_type == "DequantizeLinear":
            if _fits(node, *(self._array(name) if name else None for name in node.input)):
                self.reals[node.output[0]] = node
            return node
        self.budget.take(node.name, node.op_type, sum(math.prod(self.shapes.get(name, ())) for name in node.output))
        moved = self._moved(node, self.reals[node.input[0]]) if node.op_type in MOVES and node.input[0] in self.reals else None
        if moved is not None:
            self.reals[node.output[0]] = moved
            return moved
        operands = [self._array(name) if name else None for name in node.input]
        results = _quantised(node, operands) if node.op_type == "QuantizeLinear" else self._evaluated(node, operands)
        if results is None:
            return node
        if node.op_type == "Clip" and operands[0] is not None and operands[0].dtype.kind in "iu":
            self.bounds[node.output[0]] = _ends(*operands)
        self._store(node, results)
        return None

    def _may_fold(self, node: onnx.NodeProto) -> bool:
        control = any(a.HasField("g") or a.graphs for a in node.attribute)
        random = node.op_type in RANDOM or node.op_type == "Dropout"
        return node.domain in ("", "ai.onnx") and not control and not random

    def _array(self, name: str) -> Array:
        if name in self.tensors:
            return stored_array(self.tensors[name])
        node = self.reals[name]
        stored, scale, zero = (*(self._array(operand) if operand else None for operand in node.input), None)[:3]
        assert stored is not None
        assert scale is not None
        return StoredIntegers.of(node.input[0], stored, scale, zero, _axis(node)).reals()

    def _evaluated(self, node: onnx.NodeProto, operands: list[Array | None]) -> list[Array]:
        """Its results by onnx.reference."""
        from onnx import helper
        from onnx.reference import ReferenceEvaluator

        given = {name: array for name, array in zip(node.input, operands, strict=True) if array is not None}
        inputs = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in given.items()]
        outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
        model = helper.make_model(helper.make_graph([node], "constant", inputs, outputs), opset_imports=self.opsets)
        try:
            with np.errstate(all="ignore"):
                return [np.asarray(result) for result in ReferenceEvaluator(model).run(None, given)]
        except Exception as why:                          # NumPy, and whatever the implementation of an op raises
            raise _not_computed(f"{node.name} ({node.op_type}) in {self.path}", why) from why

    def _store(self, node: onnx.NodeProto, results: list[Array]) -> None:
        self.changed = True
        for name, array in zip((n for n in node.output if n), results, strict=True):
            self.tensors[name] = stored_tensor(name, array)

    def _named(self, name: str, array: Array, kind: int = 0) -> str:
        """A further constant, called so or nearly so."""
        self.changed = True
        while name in self.tensors:
            name += "_"
        self.tensors[name] = stored_tensor(name, array, kind)
        return name

    def _moved(self, node: onnx.NodeProto, real: onnx.NodeProto) -> onnx.NodeProto | None:
        """A DequantizeLinear of the moved integers; None where its scales would belong to no single axis any more."""
        from onnx import helper

        stored, scale = self._array(real.input[0]), self._array(real.input[1])
        further = [self._array(name) if name else None for name in node.input[1:]]
        (integers,) = self._evaluated(node, [stored, *further])
        kept = [a for a in real.attribute if a.name != "axis"]
        if scale.size > 1:
            along = _along(real, scale, stored.ndim)
            (channel,) = self._evaluated(node, [np.broadcast_to(np.arange(scale.size).reshape(along), stored.shape), *further])
            axis = next((a for a in range(channel.ndim) if _counts_along(channel, a, scale.size)), None)
            if axis is None:
                return None
            kept.append(helper.make_attribute("axis", axis))
        name = self._named(f"{node.output[0]}_integers", integers, self.tensors[real.input[0]].data_type)
        if real.input[0] in self.bounds:
            self.bounds[name] = self.bounds[real.input[0]]
        made = helper.make_node("DequantizeLinear", [name, *real.input[1:]], list(node.output), name=node.name)
        made.attribute.extend(kept)
        return made


def _ends(x: Array | None, low: Array | None = None, high: Array | None = None) -> tuple[int, int]:
    """The bounds of a Clip of integers."""
    assert x is not None
    limits = np.iinfo(x.dtype)
    return int(limits.min if low is None else low.reshape(())), int(limits.max if high is None else high.reshape(()))


def _counts_along(array: Array, axis: int, count: int) -> bool:
    along = [-1 if a == axis else 1 for a in range(array.ndim)]
    return bool(array.shape[axis] == count and (array == np.arange(count).reshape(along)).all())


def _axis(node: onnx.NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == "axis"), 1)


def _along(node: onnx.NodeProto, scale: Array, rank: int) -> list[int]:
    """The shape that lays scales along the axis of a QuantizeLinear or DequantizeLinear."""
    axis = _axis(node)
    return [-1 if scale.size > 1 and a == axis % rank else 1 for a in range(rank)]


def _fits(node: onnx.NodeProto, array: Array | None, scale: Array | None = None, zero: Array | None = None) -> bool:
    """Whether there is one positive scale for the whole array, or one for each index of an axis, and as many zero points."""
    if array is None or scale is None or scale.ndim > 1 or not (scale > 0).all() or (zero is not None and zero.size != scale.size):
        return False
    along = _along(node, scale, array.ndim)
    return scale.size == 1 or (-1 in along and array.shape[along.index(-1)] == scale.size)


def _quantised(node: onnx.NodeProto, operands: list[Array | None]) -> list[Array] | None:
    """Stored numbers as the integers that a QuantizeLinear makes of them; what is odd is left to the importer, by None."""
    x, scale, zero = (*operands, None)[:3]
    if x is None or scale is None or zero is None or not _fits(node, x, scale, zero):
        return None
    along = _along(node, scale, x.ndim)
    numbers = np.rint(x / scale.reshape(along)) + zero.astype(np.float32).reshape(along)
    limits = np.iinfo(zero.dtype)
    return [np.clip(numbers, limits.min, limits.max).astype(zero.dtype).reshape(x.shape)]
