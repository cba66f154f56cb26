# SPDX-License-Identifier: Apache-2.0
"""From a prepared ONNX model to our forward graph, node by node.

Each ONNX op has one handler (`handlers_*.py`), found by its name. Feature maps become channels-last and weights K, R, S, C here
and nowhere else; the batch of one is dropped; weights carry the way back to their ONNX initializer.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from tinytrain.errors import ModelError
from tinytrain.frontend.call import Call, Import, Made, first_output, handlers, integer_handlers
from tinytrain.frontend.layout import Dims, Tensor, channels_last, ir_shape, plain
from tinytrain.frontend.prepare import MODEL, Prepared
from tinytrain.frontend.quantised import INTEGER_TYPES, quantised_entry, store_integers
from tinytrain.frontend.shapes import known_shapes
from tinytrain.frontend.supported import check_ops
from tinytrain.frontend.trainable import QUANTISING, Constants, settle
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import LEARNING_RATE, Graph
from tinytrain.ir.types import Array, Role, TensorType, Value
from tinytrain.ir.verify import verify
from tinytrain.ops.dropout import Advance
from tinytrain.reading import reading

if TYPE_CHECKING:
    import onnx

# the first of these on the way from the input says whether a sample is a feature map
SPATIAL = {"Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization"}
REARRANGING = {
    "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "MatMul", "Gemm", "ReduceMean", "Softmax", "LogSoftmax", "GRU", "LSTM",
    "RNN",
}
FLOAT = 1                                                 # element type of ONNX
SHOWN_REFUSALS = 8                                        # beside the first
NOT_COMPUTING = QUANTISING | {"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"}


@dataclass(frozen=True, eq=False)
class Imported:
    """The forward graph and how its samples relate to ONNX.

    `sample_ir = sample_onnx.transpose(input_perm)`, both without the batch axis; `output_perm` likewise. The ONNX shapes include
    the batch where there is one. `params` maps the initializers that can be trained to their values; `constants` knows the others too.
    `float_islands` are the ONNX nodes of a quantised model that are computed in fp32, `cut_biases` those whose bias lost what int32 has no
    room for and no output shows; `notes` are lines for a person on what became of the file.
    """

    graph: Graph
    input_perm: Dims
    output_perm: Dims
    onnx_input_shape: Dims
    onnx_output_shape: Dims
    params: dict[str, Value]
    constants: Constants
    float_islands: tuple[str, ...] = ()
    cut_biases: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def import_model(prepared: Prepared, *, dropout: bool = False, seed: int = 1, truncate: int = 0) -> Imported:
    """Import the model; `dropout` keeps its Dropout ops for training, with masks drawn from `seed`. Raises ModelError.

    In recurrent layers gradients flow back within `truncate` steps of time, 0: through all.
    """
    with reading(prepared.path, MODEL, ModelError):
        return _imported(prepared, dropout, seed, truncate)


def _imported(prepared: Prepared, dropout: bool, seed: int, truncate: int) -> Imported:
    from onnx import numpy_helper

    file = str(prepared.path)
    onnx_graph = prepared.model.graph
    check_ops(onnx_graph, file)
    arrays: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in onnx_graph.initializer}
    shapes = known_shapes(onnx_graph)
    entry, exit_ = _ends(onnx_graph, arrays, file)
    model = Import(file, Builder(prepared.name), onnx_graph, arrays, shapes, prepared.literals)
    model.bounds = prepared.bounds
    for name in (LEARNING_RATE, "target", "loss"):
        model.graph.unique(name)                          # the training step gives these names
    model.dropout_seed = seed if dropout else None
    model.truncate = truncate
    onnx_input = shapes[entry]
    order = channels_last(onnx_input) if len(onnx_input) in (3, 4) and _feeds_spatial(onnx_graph, entry) else plain(onnx_input)
    given = Tensor(model.graph.input(entry, ir_shape(onnx_input, order)), onnx_input, order)
    model.tensors[entry] = quantised_entry(model, entry, given)
    quantised = any(node.op_type in QUANTISING for node in onnx_graph.node)
    refusals: list[ModelError] = []
    for node in onnx_graph.node:
        try:
            integers = _import_node(model, node)
        except ModelError as error:
            refusals.append(error)
            if not _go_on(model, node):
                break
            continue
        if not integers and quantised and node.op_type not in NOT_COMPUTING:
            model.float_islands.append(node.name)
    if refusals:
        raise _together(refusals)
    if exit_ not in model.tensors:
        raise ModelError(f"{file}: output {exit_} does not depend on the input; expected a model that computes something.",
                         hint="Export the part of the model that starts at its input.")
    model.graph.origin = model.graph.nodes[-1].origin if model.graph.nodes else ""
    result = model.real(model.tensors[exit_])
    output = model.view(result, result.order)
    model.graph.origin = "dropout"
    updates = {model.step: model.graph.emit(Advance(), model.step)} if model.step is not None else {}
    graph = verify(model.graph.graph([output], updates), "import")
    graph, constants = settle(graph, onnx_graph.node, arrays, model.integers, model.ledger)
    params = {v.source.initializer: v for v in graph.stored(Role.CONST) if v.source is not None}
    notes = (*prepared.notes, *model.notes)
    perms = _sample_perm(onnx_input, order), _sample_perm(result.shape, result.order)
    islands, cut = tuple(model.float_islands), tuple(model.cut_biases)
    return Imported(graph, *perms, onnx_input, result.shape, params, constants, islands, cut, notes)


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


def _go_on(model: Import, node: onnx.NodeProto) -> bool:
    """Take the results of a refused node as given, where they are float32, so that what is refused behind it is said as well."""
    names = [name for name in node.output if name]
    if any(name not in model.shapes or model.element_types.get(name) != FLOAT for name in names):
        return False
    for name in names:
        shape = model.shapes[name]
        model.tensors[name] = Tensor(model.graph.value(name, TensorType(ir_shape(shape, plain(shape)))), shape, plain(shape))
    return True


def _together(refusals: list[ModelError]) -> ModelError:
    """One refusal, with the sentences of the others below its advice."""
    first, *more = refusals
    lines = [f"Refused too: {' '.join(error.sentences)}" for error in more[:SHOWN_REFUSALS]]
    if len(more) > SHOWN_REFUSALS:
        lines.append(f"And {len(more) - SHOWN_REFUSALS} more.")
    return ModelError(*first.sentences, hint="\n".join([first.hint or "", *lines])) if more else first


def _ends(graph: onnx.GraphProto, arrays: dict[str, Array], file: str) -> tuple[str, str]:
    """Names of the one input and the one output."""
    inputs = [i for i in graph.input if i.name not in arrays]
    for kind, found in (("input", inputs), ("output", list(graph.output))):
        if len(found) != 1:
            names = ", ".join(v.name for v in found) or "none"
            raise ModelError(
                f"{file} has {len(found)} {kind}s ({names}); expected exactly one.", hint=f"Export the part of the model with one {kind}."
            )
    if inputs[0].type.tensor_type.elem_type not in (FLOAT, *INTEGER_TYPES):
        raise ModelError(
            f"{file}: input {inputs[0].name} holds integers; expected float32, or int8 or uint8 that a DequantizeLinear reads.",
            hint="Use the float32 version of the model.",
        )
    entry, exit_ = inputs[0].name, graph.output[0].name
    if entry == exit_:
        raise ModelError(f"{file}: its output {exit_} is its input; expected a model that computes something.", hint="Export it again.")
    return entry, exit_


def _feeds_spatial(graph: onnx.GraphProto, name: str) -> bool:
    """Whether the first op that minds the layout, on the way from the input, wants a feature map."""
    reached = {name}
    for node in graph.node:
        if reached & set(node.input):
            if node.op_type in SPATIAL:
                return True
            if node.op_type in REARRANGING:
                return False
            reached.update(node.output)
    return False


def _sample_perm(shape: Dims, order: Dims) -> Dims:
    """The order of the axes without the batch, which a Squeeze, or a Reshape to more rows, may have taken away."""
    if shape and shape[0] == 1:
        return tuple(a - 1 for a in order if a != 0)
    return order

