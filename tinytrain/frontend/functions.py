# SPDX-License-Identifier: Apache-2.0
"""An op that ONNX defines by others, and that no handler computes, becomes those others: Attention, RotaryEmbedding, losses, Swish, …;
and a Scan or Loop the nodes of its steps.

What depends on constants alone is folded before, so that a body is taken only of what is left. Nodes of the body are called
`<node>/<op>`, so that messages point at the node of the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinytrain.frontend.call import handlers, integer_handlers
from tinytrain.frontend.fold import RANDOM
from tinytrain.frontend.supported import full_name
from tinytrain.frontend.unroll import rename, unrolled, unrolled_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx

    Values = Mapping[str, onnx.ValueInfoProto]

# a body of integers between floats, and one that is a graph for each element of a sequence: nothing that handlers know
LEFT = (*RANDOM, "DynamicQuantizeLinear", "SequenceMap")
APART = "tinytrain.inlined"                               # a domain for a function that is about to be taken apart


def _scan(model: onnx.ModelProto, node: onnx.NodeProto, values: Values) -> list[onnx.NodeProto] | None:
    return unrolled(node, values)


def _loop(model: onnx.ModelProto, node: onnx.NodeProto, values: Values) -> list[onnx.NodeProto] | None:
    return unrolled_loop(node, {t.name: t for t in model.graph.initializer}, model.opset_import)


UNROLLED: dict[str, Callable[[onnx.ModelProto, onnx.NodeProto, Values], list[onnx.NodeProto] | None]] = {"Scan": _scan, "Loop": _loop}


def inline_functions(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model with each such node as the nodes of its body; their shapes must be inferred. None where there is no such node."""
    import onnx

    graph = model.graph
    values = {v.name: v for v in (*graph.input, *graph.value_info, *graph.output) if v.type.tensor_type.elem_type}
    values |= {t.name: onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in graph.initializer}
    bodies = {i: body for i, node in enumerate(graph.node) if (body := _body(model, node, values)) is not None}
    if not bodies:
        return None
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    for i, node in enumerate(graph.node):
        made.graph.node.extend(bodies.get(i, [node]))
    for domain in {node.domain for body in bodies.values() for node in body} - {o.domain for o in made.opset_import} - {"ai.onnx"}:
        made.opset_import.append(onnx.helper.make_opsetid(domain, onnx.defs.onnx_opset_version() if not domain else 1))
    return made


def _body(model: onnx.ModelProto, node: onnx.NodeProto, values: Values) -> list[onnx.NodeProto] | None:
    """What the node becomes, all under its name; None where it stays."""
    if full_name(node) in {*handlers(), *integer_handlers(), *LEFT} or not all(name in values for name in node.input if name):
        return None
    unroll = UNROLLED.get(full_name(node))
    body = unroll(model, node, values) if unroll else _definition(model, node, values)
    if body is None:
        return None
    outside = {*node.output, *node.input}
    rename(body, {name: f"{node.name}/{name}" for inner in body for name in inner.output if name and name not in outside})
    counts: dict[str, int] = {}
    for inner in body:
        counts[inner.op_type] = counts.get(inner.op_type, 0) + 1
        inner.name = f"{node.name}/{inner.op_type}" + (f"_{counts[inner.op_type]}" if counts[inner.op_type] > 1 else "")
    return body


def _definition(model: onnx.ModelProto, node: onnx.NodeProto, values: Values) -> list[onnx.NodeProto] | None:
    """What ONNX defines the node as; None where it is a primitive, or defined for another opset than the model's."""
    import onnx
    from onnx import helper, inliner

    domain = "" if node.domain == "ai.onnx" else node.domain
    version = next((o.version for o in model.opset_import if o.domain in (domain, node.domain)), 0)
    if not onnx.defs.has(node.op_type, version, domain):
        return None
    schema: Any = onnx.defs.get_schema(node.op_type, version, domain)
    content = b""
    if schema.has_function:
        content = schema.get_function_with_opset_version(version)
    elif schema.has_context_dependent_function:
        kinds = [values[name].type if name else onnx.TypeProto() for name in node.input]
        types = [kind.SerializeToString() for kind in kinds]
        content = schema.get_context_dependent_function_with_opset_version(version, node.SerializeToString(), types)
    if not content:
        return None
    function = onnx.FunctionProto.FromString(content)
    function.domain = APART
    called = onnx.NodeProto()
    called.CopyFrom(node)
    called.domain, called.op_type = APART, function.name
    given = {a.name for a in node.attribute}
    called.attribute.extend(a.default_value for name, a in schema.attributes.items() if a.default_value.type and name not in given)
    read = [values[name] for name in dict.fromkeys(node.input) if name]
    graph = helper.make_graph([called], "function", read, [helper.make_empty_tensor_value_info(name) for name in node.output if name])
    opsets = [*function.opset_import, helper.make_opsetid(APART, 1)]
    return list(inliner.inline_local_functions(helper.make_model(graph, functions=[function], opset_imports=opsets)).graph.node)
