# SPDX-License-Identifier: Apache-2.0
"""One ONNX node during import: what a handler sees of it, and the registry of handlers."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.frontend.layout import Dims, Tensor, ir_shape, lasting, plain
from tinytrain.frontend.stored import StoredIntegers
from tinytrain.frontend.trainable import Ledger
from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Op
from tinytrain.ir.types import S32, Array, Source, Value
from tinytrain.ops.quantize import dequantised
from tinytrain.ops.shape import Reshape, Transpose

if TYPE_CHECKING:
    import onnx

Made = Tensor | tuple["Tensor | None", ...]                 # output 0, or each output; None of one that nobody reads
Handler = Callable[["Call"], Made]
IntegerHandler = Callable[["Call"], "Made | None"]
_HANDLERS: dict[str, Handler] = {}
_INTEGER_HANDLERS: dict[str, IntegerHandler] = {}
F = TypeVar("F", bound=Handler)
G = TypeVar("G", bound=IntegerHandler)


def handles(*onnx_ops: str) -> Callable[[F], F]:
    """Register a handler for ONNX ops of the default domain."""
    def register(handler: F) -> F:
        for name in onnx_ops:
            assert name not in _HANDLERS, f"two handlers for {name}"
            _HANDLERS[name] = handler
        return handler

    return register


def on_integers(*onnx_ops: str) -> Callable[[G], G]:
    """Register what computes ops whose operands are integers that stand for reals; it declines by None, before it emits anything."""
    def register(handler: G) -> G:
        for name in onnx_ops:
            assert name not in _INTEGER_HANDLERS, f"two integer handlers for {name}"
            _INTEGER_HANDLERS[name] = handler
        return handler

    return register


def integer_handlers() -> dict[str, IntegerHandler]:
    """All handlers of integers by ONNX op name."""
    handlers()
    return _INTEGER_HANDLERS


@cache
def handlers() -> dict[str, Handler]:
    """All handlers by ONNX op name; imports every module `handlers_*` of this package once."""
    package = importlib.import_module("tinytrain.frontend")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("handlers_"):
            importlib.import_module(f"tinytrain.frontend.{module.name}")
    return _HANDLERS


def first_output(node: onnx.NodeProto) -> str:
    """The first output that is given: each of a recurrent layer can be left out."""
    return next(str(name) for name in node.output if name)


class Import:
    """What is known while a model is imported: its stored arrays, shapes, and the tensors made so far."""

    def __init__(
        self, file: str, graph: Builder, onnx_graph: onnx.GraphProto,
        arrays: dict[str, Array], shapes: dict[str, Dims], literals: frozenset[str],
    ) -> None:
        self.file = file
        self.graph = graph
        self.onnx_graph = onnx_graph
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in onnx_graph.node:
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(node)
        self.exits = {o.name for o in onnx_graph.output}
        typed = (*onnx_graph.value_info, *onnx_graph.input, *onnx_graph.output)
        self.element_types = {v.name: v.type.tensor_type.elem_type for v in typed}
        self.arrays = arrays
        self.shapes = shapes
        self.literals = literals
        self.ledger = Ledger()
        self.tensors: dict[str, Tensor] = {}
        self.dropout_seed: int | None = None
        self.truncate = 0                                     # steps of time that gradients flow back at most, in recurrent layers; 0: all
        self.running = False                                  # whether the statistics of batch norms follow the samples
        self.updates: dict[Value, Value] = {}                 # what every update replaces by what, beside what is trained
        self.step: Value | None = None                        # number of the training step, for the masks of Dropout
        self.consts: dict[tuple[str, Dims, Dims, Dims, bool], Value] = {}
        self.views: dict[tuple[Value, Dims, Dims], Value] = {}
        self.integers: dict[str, StoredIntegers] = {}         # outputs of DequantizeLinear of what the file stores
        self.integer_consts: dict[str, tuple[object, Value]] = {}  # initializer -> how it was laid out, and its value
        self.reals: dict[tuple[Value, tuple[Op, ...]], Value] = {}
        self.bounds: Mapping[str, tuple[int, int]] = {}       # of integers with fewer bits than their type, by initializer
        self.float_islands: list[str] = []
        self.cut_biases: list[str] = []
        self.notes: list[str] = []                            # for a person, on what the device does not do as the file says

    def has(self, name: str) -> bool:
        """Whether a tensor of that name is stored or has been made."""
        return name in self.arrays or name in self.tensors

    def real(self, tensor: Tensor) -> Tensor:
        """The tensor as fp32: what stands for reals is dequantised, once for all readers."""
        if tensor.value.type.quant is None:
            return tensor
        key = (tensor.value, tensor.then)
        if key not in self.reals:
            value = dequantised(self.graph, tensor.value, name=f"{tensor.value.name}_real")
            for op in tensor.then:
                value = self.graph.emit(op, value)
            self.reals[key] = value
        return Tensor(self.reals[key], tensor.shape, tensor.order)

    def view(self, tensor: Tensor, order: Dims, shape: Dims | None = None) -> Value:
        """The tensor's value with its axes in `order` and under `shape`; moves data only if the order differs in memory."""
        shape = ir_shape(tensor.shape, order) if shape is None else shape
        have, want = lasting(tensor.shape, tensor.order), lasting(tensor.shape, order)
        value = tensor.value
        if have != want:
            value = self._reshape(value, tuple(tensor.shape[a] for a in have))
            perm = tuple(have.index(a) for a in want)
            key = (value, perm, ())
            if key not in self.views:
                self.views[key] = self.graph.emit(Transpose(perm), value, name=f"{tensor.value.name}_t")
            value = self.views[key]
        return self._reshape(value, shape)

    def _reshape(self, value: Value, shape: Dims) -> Value:
        if value.shape == shape:
            return value
        key = (value, (), shape)
        if key not in self.views:
            self.views[key] = self.graph.emit(Reshape(shape), value, name=f"{value.name}_r")
        return self.views[key]


class Call:
    """One ONNX node: typed access to its attributes and operands, and errors that name it.

    Handlers see operands as fp32, those of integers (`raw`) as they are; `placed` are operands at another scale. `result` is
    what the value is called, by default like the first output.
    """

    def __init__(
        self, model: Import, node: onnx.NodeProto, raw: bool = False, placed: Mapping[str, Tensor] | None = None, result: str = ""
    ) -> None:
        import onnx

        self.raw = raw
        self.placed = placed or {}
        self.result = result or first_output(node)
        self.model = model
        self.node = node
        self.op = node.op_type
        self.attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}

    def fail(self, reason: str, hint: str) -> ModelError:
        return ModelError(f"{self.node.name} ({self.op}) in {self.model.file}: {reason}.", hint=hint)

    @property
    def shape(self) -> Dims:
        """ONNX shape of output 0."""
        return self.output_shape(0)

    def output_shape(self, index: int) -> Dims:
        """ONNX shape of an output."""
        return self.model.shapes[self.node.output[index]]

    def wants(self, index: int) -> bool:
        """Whether output `index` is given and somebody reads it."""
        name = self.node.output[index] if index < len(self.node.output) else ""
        return bool(name) and (name in self.model.readers or name in self.model.exits)

    def integer(self, name: str, default: int = 0) -> int:
        return int(self.attributes.get(name, default))

    def number(self, name: str, default: float) -> float:
        number = float(self.attributes.get(name, default))
        if not math.isfinite(number):
            raise self.fail(f"its {name} is {number:g}, expected a finite number", "The file may be damaged: export the model again.")
        return number

    def text(self, name: str, default: str) -> str:
        value: Any = self.attributes.get(name, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    def integers(self, name: str, default: Dims) -> Dims:
        return tuple(int(i) for i in self.attributes.get(name, default))

    def has(self, index: int) -> bool:
        """Whether an optional operand is given."""
        return index < len(self.node.input) and bool(self.node.input[index])

    def is_const(self, index: int) -> bool:
        return self.node.input[index] in self.model.arrays and self.node.input[index] not in self.placed

    def array(self, index: int, what: str) -> Array:
        """A constant operand as it is stored; an error that says what it is if it is computed."""
        if not self.is_const(index):
            raise self.fail(
                f"its {what} is computed by the model ({self.node.input[index]}), expected a constant",
                "Make it an initializer; a value that depends on the input cannot stand here.",
            )
        self.model.ledger.read(self.node.input[index], f"{what} of {self.op}")
        return self.model.arrays[self.node.input[index]]

    def learns(self, index: int) -> None:
        """Note that this operand, if it is a constant, is one that was learned."""
        self.model.ledger.learns(self.node.input[index], (self.node.output[0], index))

    def given(self, index: int) -> str:
        """Why a constant operand of arithmetic is a number of the architecture; "" where it was learned."""
        if not self.operand_shape(index):
            return "a scalar"
        if self.model.arrays[self.node.input[index]].dtype == np.bool_:
            return "a mask"
        return "a literal, no initializer" if self.node.input[index] in self.model.literals else ""

    def scalar(self, index: int, what: str, default: float) -> float:
        """A constant operand of one element, or what it is where there is none."""
        if not self.has(index):
            return default
        array = self.array(index, what)
        if array.size != 1:
            raise self.fail(f"its {what} {self.node.input[index]} has the shape {array.shape}, expected one number", "Make it a scalar.")
        return float(array.reshape(()))

    def operand_shape(self, index: int) -> Dims:
        name = self.node.input[index]
        return tuple(self.model.arrays[name].shape) if self.is_const(index) else (self.placed.get(name) or self.model.tensors[name]).shape

    def tensor(self, index: int = 0, *, integers: bool = False) -> Tensor:
        """A computed operand; a constant is one too, in plain order. Integers that stand for no reals are refused unless `integers`."""
        name = self.node.input[index]
        if self.is_const(index):
            array = self.model.arrays[name]
            shape = tuple(array.shape)
            return Tensor(self.const(index, "operand", given=self.given(index)), shape, plain(shape))
        held = self.placed.get(name) or self.model.tensors[name]
        kind = held.value.type
        if kind.dtype is S32 and kind.quant is None and not integers:
            raise self.fail(f"its operand {name} holds integers, expected float32", "Put a Cast to float in front of it.")
        return held if self.raw else self.model.real(held)

    def const(
        self, index: int, what: str, *, shape: Dims | None = None, perm: Dims | None = None, ir: Dims | None = None,
        trained: bool = True, given: str = "",
    ) -> Value:
        """A stored operand as a CONST value: reshaped to `shape`, transposed by `perm`, reshaped to `ir`.

        It carries its source, and so can be trained, only if it is something that was learned (`trained`); `given` says why it is not.
        """
        if given:
            self.model.ledger.read(self.node.input[index], given)
        array = self.array(index, what)
        name = self.node.input[index]
        if array.dtype == np.bool_:                       # like those that are computed
            array = array.astype(np.float32)
        if array.dtype != np.float32:
            raise self.fail(f"its {what} {name} is of type {array.dtype}, expected float32", "Export the model in float32.")
        if not np.isfinite(array).all():
            raise self.fail(
                f"its {what} {name} holds {array[~np.isfinite(array)][0]:g}, expected finite numbers",
                "Infinity can only say that a Clip or a Pad has no bound: put the largest number that the layer can meet in its place.",
            )
        shape = tuple(array.shape) if shape is None else shape
        perm = plain(shape) if perm is None else perm
        trained = trained and not given
        if trained:
            self.learns(index)
        source = Source(name, tuple(array.shape), shape, perm)
        ir = tuple(shape[a] for a in perm) or (1,) if ir is None else ir
        key = (name, shape, perm, ir, trained)
        if key not in self.model.consts:
            first = next((v for (other, *_), v in self.model.consts.items() if other == name and v.source), None)
            if first is not None and trained:
                return self._laid_out_anew(first, shape, perm, ir)
            self.model.consts[key] = self.model.graph.const(name, source.to_ir(array, ir), source=source if trained else None)
        return self.model.consts[key]

    def _laid_out_anew(self, value: Value, shape: Dims, perm: Dims, ir: Dims) -> Value:
        """A weight that two layers share in different layouts stays one value, so that both train the same numbers."""
        assert value.source is not None
        have = Tensor(value, value.source.shape, value.source.perm)
        if have.shape != shape:
            have = Tensor(self.view(have, plain(have.shape)), shape, plain(shape))
        return self.view(have, perm, ir)

    def view(self, tensor: Tensor, order: Dims, shape: Dims | None = None) -> Value:
        return self.model.view(tensor, order, shape)

    def emit(self, op: Op, *inputs: Value, part: str = "") -> Value:
        """Append a node that is called like the result, or `result_part`."""
        return self.emit_all(op, *inputs, part=part)[0]

    def emit_all(self, op: Op, *inputs: Value, part: str = "") -> tuple[Value, ...]:
        """The same for all outputs of the op."""
        with self.fitting():
            return self.model.graph.emit_all(op, *inputs, name=f"{self.result}_{part}" if part else self.result)

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """An op that does not take what it is given is an error that names the node."""
        try:
            yield
        except ValueError as error:
            raise self.fail(f"{error}", "Change the layer, or leave this part of the model out.") from None
