# SPDX-License-Identifier: Apache-2.0
"""`compile --emit-graph`: what the firmware computes, as ONNX for viewers such as Netron, and as text.

Ops are the device's own, with its layouts (rows, columns, channels), so that none of them is in ONNX's domain: `tinytrain` up to the loss,
`tinytrain.gradient` behind it. The file is for eyes; no runtime knows these ops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinytrain.compiler import Compiled
from tinytrain.emit.select import Kernels
from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.op import Op
from tinytrain.ir.text import graph_text, op_text
from tinytrain.ir.types import Role, Value
from tinytrain.planner import Plan

if TYPE_CHECKING:
    import onnx

DOMAIN, GRADIENT = "tinytrain", "tinytrain.gradient"
_IR, _OPSET = 8, 17


def graph_files(compiled: Compiled) -> dict[str, bytes]:
    """`graph/train.onnx` and `.txt`, and more where there are more schemes; those of the inference where nothing is trained."""
    kernels = compiled.tuning.kernels(compiled.program)
    entries = compiled.plan.entries
    names = [name for name in entries if name.startswith(("train", "apply"))] or ["infer"]
    files: dict[str, bytes] = {}
    for name in names:
        model = graph_model(entries[name], kernels, f"{compiled.program.name} {name}")
        files[f"graph/{name}.onnx"] = model.SerializeToString(deterministic=True)
        files[f"graph/{name}.txt"] = graph_text(entries[name].graph).encode()
    return files


def graph_model(plan: Plan, kernels: Kernels, name: str) -> onnx.ModelProto:
    """One entry, in the order in which it runs; stored values are initializers, and what replaces them are outputs."""
    from onnx import helper, numpy_helper

    graph, names = plan.graph, _names(plan.graph)
    forward = graph.needed(graph.outputs[:1]) if graph.updates else {*graph.nodes}
    nodes = []
    for position, node in enumerate(graph.nodes):
        made = helper.make_node(
            node.op.name, [names[v] for v in node.inputs], [names[v] for v in node.outputs], name=f"{position} {node.origin}".rstrip(),
            domain=DOMAIN if node in forward else GRADIENT, doc_string=_kernel(node, plan, kernels),
        )
        made.attribute.extend(helper.make_attribute(key, value) for key, value in _attributes(node.op))
        nodes.append(made)
    outputs = dict.fromkeys((*graph.outputs, *graph.updates.values()))
    stored = [v for v in graph.values() if v.role in (Role.CONST, Role.PARAM, Role.STATE) and v.data is not None]
    made = helper.make_graph(
        nodes, name, [_info(v, names) for v in graph.inputs], [_info(v, names) for v in outputs],
        [numpy_helper.from_array(np.ascontiguousarray(v.data), names[v]) for v in stored],
        value_info=[_info(v, names) for v in graph.values() if v not in outputs and v not in graph.inputs and v not in stored],
    )
    imports = [helper.make_opsetid("", _OPSET), helper.make_opsetid(DOMAIN, 1), helper.make_opsetid(GRADIENT, 1)]
    return helper.make_model(made, producer_name="tinytrain", ir_version=_IR, opset_imports=imports)


def _names(graph: Graph) -> dict[Value, str]:
    """Each value's own name, with a number where several are called so."""
    names: dict[Value, str] = {}
    taken: set[str] = set()
    for v in graph.values():
        name, number = v.name, 2
        while name in taken:
            name, number = f"{v.name}/{number}", number + 1
        taken.add(name)
        names[v] = name
    return names


def _kernel(node: Node, plan: Plan, kernels: Kernels) -> str:
    return "no code: a view" if node.op.view else f"kernel {kernels.select(node, spare=plan.room(node)).choice}"


def _attributes(op: Op) -> Iterator[tuple[str, Any]]:
    """As ONNX can say them; what it cannot is text."""
    for key, value in op.attributes().items():
        several = isinstance(value, (list, tuple))
        items: Sequence[Any] = value if several else [value]
        if any(isinstance(item, Op) for item in items):
            yield key, [op_text(item) if isinstance(item, Op) else str(item) for item in items]
        elif items and any(all(isinstance(item, kind) for item in items) for kind in (int, float)):
            numbers = [int(item) if isinstance(item, bool) else item for item in items]
            yield key, numbers if several else numbers[0]
        else:
            yield key, str(value)


def _info(v: Value, names: dict[Value, str]) -> onnx.ValueInfoProto:
    from onnx import helper

    return helper.make_tensor_value_info(names[v], helper.np_dtype_to_tensor_dtype(np.dtype(v.type.dtype.np)), list(v.type.shape))
