# SPDX-License-Identifier: Apache-2.0
"""Gradients of an ONNX model in float64 by TVM Relax: they share neither importer, nor rules, nor kernels with tinytrain.

TVM (package `apache-tvm`, extra `tvm`) has no rule for some ops. A piecewise linear activation is rewritten into ReLUs first:

    max(x, l) = l + relu(x − l)        min(x, h) = h − relu(h − x)        leaky_relu(x) = relu(x) − α·relu(−x)

Where that does not help, the answer is why; central differences (checks.py) then have to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tinytrain.errors import ToolError
from tinytrain.ir.op import Declined, no
from tinytrain.ir.types import Array
from tinytrain.onnx_graph import stored_array

if TYPE_CHECKING:
    import onnx

# What Relax 0.27 cannot differentiate, or imports in a form that it cannot.
_NO_RULE = {"Pad", "Squeeze", "Slice", "Min", "Max", "ConvTranspose", "Gelu", "Expand"}
_POOLS = {"MaxPool", "AveragePool", "LpPool"}
_SOFTMAX = {"Softmax", "LogSoftmax"}
_FINAL_ACTIVATIONS: dict[str, set[str]] = {"ce": _SOFTMAX, "ce-soft": _SOFTMAX, "bce": {"Sigmoid"}, "mse": set()}


def tvm_gradients(
    model: onnx.ModelProto, loss: str, x: Array, target: Array, params: Mapping[str, Array]
) -> tuple[float, dict[str, Array]] | Declined:
    """(loss, initializer → d loss / d initializer), float64, in the ONNX layout; or why TVM cannot tell.

    `loss` is the key of the command line; a final activation that it contains is left out of the model, as tinytrain does. `x` has the
    shape of the model's input with batch 1, `target` is a class label or has the shape of the output. `params` are the initializers
    that are asked for with their present values. Batch normalisation uses its stored statistics.
    """
    try:
        import tvm
        from tvm import relax
        from tvm.relax.frontend.onnx import from_onnx
        from tvm.relax.training.utils import AppendLoss
    except ImportError as error:
        raise ToolError(f"The oracle needs TVM, which cannot be imported: {error}.", hint="Install tinytrain[tvm].") from error

    if loss not in _FINAL_ACTIVATIONS:
        return no(f"TVM has no loss {loss}")
    prepared = _prepared(model, loss, params)
    if isinstance(prepared, Declined):
        return prepared
    double, names = prepared
    try:
        module, detached = relax.frontend.detach_params(from_onnx(double, keep_params_in_input=True, dtype_dict="float64"))
        values = [p.numpy() for p in detached["main"]]
        module = relax.transform.ConvertToDataflow(1)(module)
        module = AppendLoss("main", _loss_function(relax, loss, module["main"].ret_ty), 1, "loss")(module)
        module = relax.transform.DecomposeOpsForInference("loss")(module)
        module = relax.transform.CanonicalizeBindings()(module)
        asked = [v for v in module["loss"].params if v.name in names]
        module = relax.transform.Gradient("loss", require_grads=asked)(module)
        program = tvm.compile(relax.transform.LegalizeOps()(module), target="llvm")
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:  # TVM's own are all RuntimeErrors
        lines = [line for line in str(error).splitlines() if line.strip()]
        return no(f"TVM cannot differentiate {model.graph.name}: {lines[-1].strip() if lines else type(error).__name__}")
    machine = relax.VirtualMachine(program, tvm.cpu())
    output_shape = [int(n) for n in module["loss"].params[-1].ty.shape]
    given = [np.asarray(x, np.float64).reshape([int(n) for n in module["loss"].params[0].ty.shape]), *values, _dense(target, output_shape)]
    total, grads = machine["loss_adjoint"](*(tvm.runtime.tensor(np.ascontiguousarray(a)) for a in given))
    return float(total.numpy()), {names[v.name]: g.numpy() for v, g in zip(asked, grads, strict=True)}


def _dense(target: Array, shape: list[int]) -> Array:
    """A class label as a distribution; anything else as it is."""
    target = np.asarray(target)
    if target.dtype.kind not in "iu":
        return target.astype(np.float64).reshape(shape)
    spread = np.zeros(shape)
    spread.reshape(-1)[int(target.reshape(-1)[0])] = 1.0
    return spread


def _loss_function(relax: Any, loss: str, kind: Any) -> Any:
    """The loss as a Relax function of (output, target), both of one type."""
    op = relax.op
    output, target = relax.Var("output", kind), relax.Var("wanted", kind)
    builder = relax.BlockBuilder()
    with builder.function("loss", [output, target]):
        with builder.dataflow():
            if loss == "mse":
                total = op.mean(op.multiply(op.subtract(output, target), op.subtract(output, target)))
            elif loss == "bce":
                one = relax.const(1.0, "float64")
                p = builder.emit(op.sigmoid(output))
                hit = op.multiply(target, op.log(p))
                miss = op.multiply(op.subtract(one, target), op.log(op.subtract(one, p)))
                total = op.negative(op.mean(op.add(hit, miss)))
            else:
                total = op.negative(op.sum(op.multiply(op.nn.log_softmax(output, axis=-1), target)))
            made = builder.emit_output(builder.normalize(total))
        builder.emit_func_output(made)
    return builder.get()["loss"]


def _prepared(model: onnx.ModelProto, loss: str, params: Mapping[str, Array]) -> tuple[onnx.ModelProto, dict[str, str]] | Declined:
    """The model in double with batch 1 and only ReLUs for piecewise linear activations; and its parameter names → those of `params`."""
    from onnx import NodeProto, TensorProto, helper, numpy_helper, shape_inference

    graph = model.graph
    nodes = list(graph.node)
    output = graph.output[0].name
    if len(nodes) > 1 and nodes[-1].op_type in _FINAL_ACTIVATIONS[loss]:
        output = nodes.pop().input[0]
    stored = {t.name: stored_array(t) for t in graph.initializer}
    names = {t.name: f"parameter_{i}" for i, t in enumerate(graph.initializer) if stored[t.name].dtype.kind == "f"}
    constants = [n for n in nodes if n.op_type == "Constant" and n.attribute[0].name == "value"]
    stored |= {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in constants}

    # what is no float is structure (shapes, axes): a constant, lest it become an argument
    kept = [_constant(name, array) for name, array in stored.items() if name not in names]
    for node in nodes:
        if why := _refusal(node, stored):
            return no(f"{node.name or node.output[0]} ({node.op_type}): {why}")
        if node not in constants:
            for new in _rewritten(node, stored):
                copy = NodeProto()
                copy.CopyFrom(new)
                copy.input[:] = [names.get(name, name) for name in copy.input]
                kept.append(copy)
    tensors = [numpy_helper.from_array(np.asarray(params.get(name, stored[name]), np.float64), new) for name, new in names.items()]
    inputs = [v for v in graph.input if v.name not in stored]
    shapes = [[d.dim_value or 1 for d in v.type.tensor_type.shape.dim] for v in inputs]
    whole = helper.make_graph(
        kept, "oracle",
        [helper.make_tensor_value_info(v.name, TensorProto.DOUBLE, shape) for v, shape in zip(inputs, shapes, strict=True)],
        [helper.make_tensor_value_info(output, TensorProto.DOUBLE, None)], tensors,
    )
    double = helper.make_model(whole, opset_imports=model.opset_import, ir_version=model.ir_version)
    return shape_inference.infer_shapes(double), {new: name for name, new in names.items() if name in params}


def _constant(name: str, array: Array) -> onnx.NodeProto:
    from onnx import helper, numpy_helper

    wide = array.astype(np.float64) if array.dtype.kind == "f" else array
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(wide, name))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _refusal(node: onnx.NodeProto, stored: Mapping[str, Array]) -> str | None:
    """Why TVM cannot differentiate this node, where that is known beforehand."""
    attributes = _attributes(node)
    if node.op_type in _NO_RULE:
        return "TVM has no gradient for it"
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return "TVM has no gradient for SAME padding"
    if any(d != 1 for d in attributes.get("dilations", ())):
        return "TVM has no gradient for a dilated window"
    if node.op_type == "Conv" and node.input[1] in stored and stored[node.input[1]].ndim != 4:
        return "TVM has a gradient for 2-D convolution only"
    if node.op_type in _POOLS and len(attributes.get("kernel_shape", (0, 0))) != 2:
        return "TVM has a gradient for 2-D pooling only"
    if node.op_type == "Clip" and any(name and name not in stored for name in node.input[1:]):
        return "its bounds are not constants"
    return None


def _rewritten(node: onnx.NodeProto, stored: Mapping[str, Array]) -> list[onnx.NodeProto]:
    """The node, or what stands for it in terms of ReLU; Dropout does nothing outside of training."""
    from onnx import helper

    if node.op_type == "Clip":
        return _clip(node, stored)
    if node.op_type == "LeakyRelu":
        return _leaky_relu(node)
    if node.op_type == "Dropout":
        return [helper.make_node("Identity", node.input[:1], node.output[:1])]
    return [node]


def _clip(node: onnx.NodeProto, stored: Mapping[str, Array]) -> list[onnx.NodeProto]:
    """max(x, l) = l + relu(x − l), then min(y, h) = h − relu(h − y)."""
    from onnx import helper

    bounds = [float(stored[name].reshape(-1)[0]) if name else None for name in [*node.input[1:3], "", ""][:2]]
    out = node.output[0]
    at, made = node.input[0], []
    for side, bound in zip(("low", "high"), bounds, strict=True):
        if bound is None:
            continue
        here = f"{out}_{side}"
        operands = [at, f"{here}_bound"] if side == "low" else [f"{here}_bound", at]
        made += [
            _constant(f"{here}_bound", np.array(bound)),
            helper.make_node("Sub", operands, [f"{here}_past"]),
            helper.make_node("Relu", [f"{here}_past"], [f"{here}_cut"]),
            helper.make_node("Add" if side == "low" else "Sub", [f"{here}_bound", f"{here}_cut"], [here]),
        ]
        at = here
    return [*made, helper.make_node("Identity", [at], [out])]


def _leaky_relu(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """relu(x) − α·relu(−x)."""
    from onnx import helper

    x, out = node.input[0], node.output[0]
    alpha = float(_attributes(node).get("alpha", 0.01))
    return [
        _constant(f"{out}_alpha", np.array(alpha)),
        helper.make_node("Relu", [x], [f"{out}_up"]),
        helper.make_node("Neg", [x], [f"{out}_turned"]),
        helper.make_node("Relu", [f"{out}_turned"], [f"{out}_down"]),
        helper.make_node("Mul", [f"{out}_down", f"{out}_alpha"], [f"{out}_scaled"]),
        helper.make_node("Sub", [f"{out}_up", f"{out}_scaled"], [out]),
    ]
