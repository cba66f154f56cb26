# SPDX-License-Identifier: Apache-2.0
"""An op that ONNX defines by others, and that no handler computes, becomes those others: Attention, RotaryEmbedding, losses, Swish, …

What depends on constants alone is folded before, so that a body is taken only of what is left. Nodes of the body are called
`<node>/<op>`, so that messages point at the node of the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinytrain.frontend.call import handlers, integer_handlers
from tinytrain.frontend.fold import RANDOM
from tinytrain.frontend.supported import full_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx

# a body of integers between floats, and one that is a graph for each element of a sequence: nothing that handlers know
LEFT = (*RANDOM, "DynamicQuantizeLinear", "SequenceMap")
APART = "tinytrain.inlined"                               # a domain for a function that is about to be taken apart


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


def _body(model: onnx.ModelProto, node: onnx.NodeProto, values: Mapping[str, onnx.ValueInfoProto]) -> list[onnx.NodeProto] | None:
    """What ONNX defines the node as; None where a handler computes it, where it is a primitive, or of another opset than the model's."""
    import onnx
    from onnx import helper, inliner

    domain = "" if node.domain == "ai.onnx" else node.domain
    version = next((o.version for o in model.opset_import if o.domain in (domain, node.domain)), 0)
    known = {*handlers(), *integer_handlers(), *LEFT}
    if full_name(node) in known or not onnx.defs.has(node.op_type, version, domain) or not all(n in values for n in node.input if n):
        return None
    schema: Any = onnx.defs.get_schema(node.op_type, version, domain)
    kinds = [values[name].type if name else onnx.TypeProto() for name in node.input]
    if schema.has_function:
        content = schema.get_function_with_opset_version(version)
    elif schema.has_context_dependent_function:
        content = schema.get_context_dependent_function_with_opset_version(
            version, node.SerializeToString(), [kind.SerializeToString() for kind in kinds]
        )
    else:
        return None
    if not content:                                       # it is defined for other opsets
        return None
    function = onnx.FunctionProto.FromString(content)
    function.domain = APART
    called = onnx.NodeProto()
    called.CopyFrom(node)
    called.domain, called.op_type = APART, function.name
    given = {a.name for a in node.attribute}
    defaults = [a.default_value for name, a in schema.attributes.items() if a.default_value.type and name not in given]
    called.attribute.extend(defaults)
    outputs = [name for name in node.output if name]
    read = [values[name] for name in dict.fromkeys(node.input) if name]
    graph = helper.make_graph([called], "function", read, [helper.make_empty_tensor_value_info(name) for name in outputs])
    opsets = [*function.opset_import, helper.make_opsetid(APART, 1)]
    body = inliner.inline_local_functions(helper.make_model(graph, functions=[function], opset_imports=opsets)).graph.node
    outside = {*outputs, *node.input}
    renamed = {name: f"{node.name}/{name}" for inner in body for name in inner.output if name and name not in outside}
    counts: dict[str, int] = {}
    for inner in body:
        counts[inner.op_type] = counts.get(inner.op_type, 0) + 1
        inner.name = f"{node.name}/{inner.op_type}" + (f"_{counts[inner.op_type]}" if counts[inner.op_type] > 1 else "")
        for nested in _with_nested(inner):
            for names in (nested.input, nested.output):
                names[:] = [renamed.get(name, name) for name in names]
        for subgraph in (a.g for a in inner.attribute if a.HasField("g")):
            for output in subgraph.output:
                output.name = renamed.get(output.name, output.name)
    return list(body)


def _with_nested(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """The node and those of its subgraphs, which read what is around them by name."""
    yield node
    for graph in (a.g for a in node.attribute if a.HasField("g")):
        for inner in graph.node:
            yield from _with_nested(inner)
