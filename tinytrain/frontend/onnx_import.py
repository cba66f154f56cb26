# SPDX-License-Identifier: Apache-2.0
"""From a prepared ONNX model to our forward graph, node by node.

Each ONNX op has one handler (`handlers_*.py`), found by its name. Feature maps become channels-last and weights K, R, S, C here
and nowhere else; the batch of one is dropped; weights carry the way back to their ONNX initializer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.frontend.call import Call, Import, Made, first_output, handlers, integer_handlers
from tinytrain.frontend.exits import given_back
from tinytrain.frontend.layout import Tensor, ir_shape, plain
from tinytrain.frontend.patterns import joined
from tinytrain.frontend.ports import INT32, INT64, TAKEN, Port, ends, input_order, sample_perm
from tinytrain.frontend.prepare import MODEL, Prepared
from tinytrain.frontend.quantised import INTEGER_TYPES, quantised_entry, store_integers
from tinytrain.frontend.shapes import known_shapes
from tinytrain.frontend.supported import full_name, known_ops, strange_ops
from tinytrain.frontend.tabulate import tabulated
from tinytrain.frontend.trainable import QUANTISING, Constants, settle
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import LEARNING_RATE, LOSS_SCALE, Graph
from tinytrain.ir.types import F32, S32, Array, Role, TensorType, Value
from tinytrain.ir.verify import verify
from tinytrain.onnx_graph import FOUR_BITS, stored_array
from tinytrain.ops.dropout import Advance
from tinytrain.ops.record import record
from tinytrain.reading import reading

if TYPE_CHECKING:
    import onnx

SHOWN_REFUSALS = 8                                        # beside the first
NOT_COMPUTING = QUANTISING | {"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"}


@dataclass(frozen=True, eq=False)
class Imported:
    """The forward graph, and how what it reads and gives relates to ONNX.

    A graph has one input: where the model has several, that is a record of them (`ops/record.py`), in the order of `inputs`. `params` maps
    the initializers that can be trained to their values; `constants` knows the others too. `float_islands` are the ONNX nodes of a
    quantised model that are computed in fp32, `cut_biases` those whose bias lost what int32 has no room for and no output shows; `notes`
    are lines for a person on what became of the file.
    """

    graph: Graph
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    params: dict[str, Value]
    constants: Constants
    float_islands: tuple[str, ...] = ()
    cut_biases: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def input(self) -> Port:
        """The one input. Raises ModelError where there are several: callers are for models with one."""
        return _only(self.inputs, "input", self.graph.name)

    @property
    def output(self) -> Port:
        """The one output, likewise."""
        return _only(self.outputs, "output", self.graph.name)


def _only(ports: Sequence[Port], kind: str, model: str) -> Port:
    if len(ports) > 1:
        names = ", ".join(port.name for port in ports)
        message = f"{model} has {len(ports)} {kind}s ({names}); expected one here."
        raise ModelError(message, hint=f"Export the part of the model with one {kind}.")
    return ports[0]


def import_model(
    prepared: Prepared, *, dropout: bool = False, seed: int = 1, truncate: int = 0, running: bool = False
) -> Imported:
    """Import the model; `dropout` keeps its Dropout ops for training, with masks drawn from `seed`. Raises ModelError.

    In recurrent layers gradients flow back within `truncate` steps of time, 0: through all. Where statistics are `running`, those of batch
    norms follow the samples that train.
    """
    with reading(prepared.path, MODEL, ModelError):
        return _imported(prepared, dropout, seed, truncate, running)


def _imported(prepared: Prepared, dropout: bool, seed: int, truncate: int, running: bool) -> Imported:
    file = str(prepared.path)
    onnx_graph = prepared.model.graph
    refusals = [*strange_ops(onnx_graph, file), *prepared.refusals]
    arrays: dict[str, Array] = {t.name: stored_array(t) for t in onnx_graph.initializer}
    if refusals:                                          # what is of a wrong type has been said
        arrays = {name: a.astype(np.float32) if a.dtype.kind not in "iub" else a for name, a in arrays.items()}
    shapes = known_shapes(onnx_graph)
    try:
        inputs, exits = ends(onnx_graph, arrays, file)
    except ModelError as error:
        raise (refusals or [error])[0] from None
    model = Import(file, Builder(prepared.name), onnx_graph, arrays, shapes, prepared.literals)
    four = {t.name: FOUR_BITS[t.data_type] for t in onnx_graph.initializer if t.data_type in FOUR_BITS}
    model.bounds = {**four, **prepared.bounds}
    for name in (LEARNING_RATE, LOSS_SCALE, "target", "loss"):
        model.graph.unique(name)                          # the training step gives these names
    model.dropout_seed = seed if dropout else None
    model.truncate = truncate
    model.running = running
    given = _given(model, inputs)
    quantised = any(node.op_type in QUANTISING for node in onnx_graph.node)
    known = known_ops(onnx_graph)
    nodes, numbers = joined(onnx_graph, arrays, shapes)
    for name in numbers:
        model.ledger.read(name, "a number of an op")
    for node in nodes:
        if full_name(node) not in known or (refusals and not all(model.has(name) for name in node.input if name)):
            _stand_in(model, node)                        # what it lacks follows from a refusal, and is none of its own
            continue
        try:
            integers = _import_node(model, node)
        except ModelError as error:
            refusals.append(error)
            _stand_in(model, node)
            continue
        if not integers and quantised and node.op_type not in NOT_COMPUTING:
            model.float_islands.append(node.name)
    if refusals:
        raise _together(refusals)
    model.graph.origin = model.graph.nodes[-1].origin if model.graph.nodes else ""
    results = given_back(model, [port.name for port in given], exits)
    stored = [name for name in exits if model.element_types.get(name) in INTEGER_TYPES]
    model.notes += [f"output {name} is given as the real numbers that its integers stand for" for name in stored]
    outputs = [model.view(result, result.order) for result in results]
    model.graph.origin = "dropout"
    if model.step is not None:
        model.updates[model.step] = model.graph.emit(Advance(), model.step)
    graph = verify(model.graph.graph(outputs, model.updates).replace(results=tuple(exits)), "import")
    graph, constants = settle(graph, onnx_graph.node, arrays, model.integers, model.ledger)
    graph, tables = tabulated(graph)
    params = {v.source.initializer: v for v in graph.stored(Role.CONST) if v.source is not None}
    notes = (*prepared.notes, *model.notes)
    made = tuple(Port(n, t.shape, sample_perm(t.shape, t.order), v.type) for n, t, v in zip(exits, results, graph.outputs, strict=True))
    islands, cut = tuple(name for name in model.float_islands if name not in tables), tuple(model.cut_biases)
    return Imported(graph, given, made, params, constants, islands, cut, notes)


def _given(model: Import, inputs: Sequence[onnx.ValueInfoProto]) -> tuple[Port, ...]:
    """Make the graph's input, and a tensor of each of the model's."""
    ports, orders = [], []
    for value in inputs:
        shape = model.shapes[value.name]
        orders.append(order := input_order(model.onnx_graph, value.name, shape))
        kind = TensorType(ir_shape(shape, order), TAKEN[value.type.tensor_type.elem_type])
        ports.append(Port(value.name, shape, sample_perm(shape, order), kind))
    whole, parts = record(model.graph, "sample", [(port.name, port.type) for port in ports])
    model.graph.inputs = [whole]
    for port, part, order in zip(ports, parts, orders, strict=True):
        model.tensors[port.name] = quantised_entry(model, port.name, Tensor(part, port.onnx_shape, order))
    return tuple(ports)


def _import_node(model: Import, node: onnx.NodeProto) -> bool:
    """Import one node; whether it became integers."""
    call = Call(model, node)
    if first_output(node) not in model.shapes:
        raise call.fail(
            "the shape of its output cannot be inferred, expected shapes that are known when compiling",
            "Fix the input's shape with --shape, or export the model with static shapes.",
        )
    model.graph.origin = node.name
    if node.op_type == "DequantizeLinear" and call.is_const(0):
        store_integers(call)
        return True
    made: Made | None = None
    if node.op_type in integer_handlers() and any(t.value.type.quant for t in (model.tensors[n] for n in node.input if n in model.tensors)):
        made = integer_handlers()[node.op_type](Call(model, node, raw=True))
    made_of_integers = made is not None
    if made is None and node.op_type not in handlers():
        raise call.fail(
            f"{node.op_type} is supported between int8 tensors only, and here an operand or its result is float32",
            "Quantise this layer too, with QuantizeLinear in front of it and behind.",
        )
    made = made or handlers()[node.op_type](call)
    tensors = made if isinstance(made, tuple) else (made,)
    for index, (name, tensor) in enumerate(zip_longest(node.output, tensors[: len(node.output)])):
        if tensor is not None and name:
            want = call.output_shape(index)
            assert tensor.shape == want, f"{node.name}: {name} imported as {tensor.shape}, ONNX says {want}"
            model.tensors[name] = tensor
        elif tensor is None and call.wants(index):
            raise call.fail(f"its output {name} is used, which is not supported", "Export the model without that output.")
    return made_of_integers


def _stand_in(model: Import, node: onnx.NodeProto) -> None:
    """Take the results of a node that is not imported as given, where they are tensors of known shapes: so what is refused behind it
    is said as well. What depends on others is not looked at.
    """
    for name in node.output:
        kind = model.element_types.get(name, 0)
        if name and name in model.shapes and kind:
            shape = model.shapes[name]
            value = model.graph.value(name, TensorType(ir_shape(shape, plain(shape)), S32 if kind in (INT32, INT64) else F32))
            model.tensors[name] = Tensor(value, shape, plain(shape))


def _together(refusals: list[ModelError]) -> ModelError:
    """One refusal, with the sentences of the others below its advice."""
    first, *more = refusals
    lines = [f"Refused too: {' '.join(error.sentences)}" for error in more[:SHOWN_REFUSALS]]
    if len(more) > SHOWN_REFUSALS:
        lines.append(f"And {len(more) - SHOWN_REFUSALS} more.")
    return ModelError(*first.sentences, hint="\n".join([first.hint or "", *lines])) if more else first
