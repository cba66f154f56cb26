# SPDX-License-Identifier: Apache-2.0
"""A Scan over a known number of steps as the nodes of all its steps, one behind the other: Gather takes what a step reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import onnx

MOST_NODES = 4096                                         # of all steps: beyond, a loop is no small network


def unrolled(scan: onnx.NodeProto, values: Mapping[str, onnx.ValueInfoProto]) -> list[onnx.NodeProto] | None:
    """The nodes; None where the number of steps is not known, or large."""
    from onnx import helper, numpy_helper

    attributes: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in scan.attribute}
    body, count = attributes["body"], attributes["num_scan_inputs"]
    states = len(scan.input) - count
    scanned, made = list(scan.input[states:]), list(body.output[states:])
    in_axes, in_turned = attributes.get("scan_input_axes", [0] * count), attributes.get("scan_input_directions", [0] * count)
    out_axes, out_turned = (attributes.get(f"scan_output_{what}", [0] * len(made)) for what in ("axes", "directions"))
    steps = _size(values[scanned[0]], in_axes[0])
    if not steps or steps * len(body.node) > MOST_NODES or not all(scan.output) or len(scan.output) < len(body.output):
        return None
    nodes = [
        helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in body.initializer
    ]
    held = dict(zip((v.name for v in body.input), scan.input[:states], strict=False))
    parts: list[list[str]] = [[] for _ in made]
    for step in range(steps):
        names = dict(held)
        for value, whole, axis, turned in zip(body.input[states:], scanned, in_axes, in_turned, strict=True):
            names[value.name] = f"{value.name}/{step}"
            index = numpy_helper.from_array(np.array(steps - 1 - step if turned else step, np.int64))
            nodes.append(helper.make_node("Constant", [], [f"{value.name}/{step}/at"], value=index))
            nodes.append(helper.make_node("Gather", [whole, f"{value.name}/{step}/at"], [names[value.name]], axis=axis))
        names |= {name: f"{name}/{step}" for node in body.node for name in node.output if name}
        for node in body.node:
            copied = type(node)()
            copied.CopyFrom(node)
            nodes.append(copied)
            rename([copied], names)
        held = {value.name: names.get(out.name, out.name) for value, out in zip(body.input[:states], body.output, strict=False)}
        for part, out in zip(parts, made, strict=True):
            part.append(names.get(out.name, out.name))
    for value, name in zip(body.input[:states], scan.output, strict=False):
        nodes.append(helper.make_node("Identity", [held[value.name]], [name]))
    for part, name, axis, turned in zip(parts, scan.output[states:], out_axes, out_turned, strict=True):
        nodes.append(helper.make_node("Constant", [], [f"{name}/axis"], value=numpy_helper.from_array(np.array([axis], np.int64))))
        wide = [f"{name}/{step}" for step in range(steps)]
        nodes += [helper.make_node("Unsqueeze", [one, f"{name}/axis"], [as_row]) for one, as_row in zip(part, wide, strict=True)]
        nodes.append(helper.make_node("Concat", wide[::-1] if turned else wide, [name], axis=axis))
    return nodes


def _size(value: onnx.ValueInfoProto, axis: int) -> int:
    """0 where it is not known."""
    dims = value.type.tensor_type.shape.dim
    return int(dims[axis].dim_value) if -len(dims) <= axis < len(dims) else 0


def rename(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """Tensors that nodes read and make, inside their subgraphs too, which read what is around them by name: in place."""
    for node in nodes:
        for inner in with_nested(node):
            for held in (inner.input, inner.output):
                held[:] = [names.get(name, name) for name in held]
        for subgraph in (a.g for a in node.attribute if a.HasField("g")):
            for output in subgraph.output:
                output.name = names.get(output.name, output.name)


def with_nested(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """The node and those of its subgraphs."""
    yield node
    for graph in (a.g for a in node.attribute if a.HasField("g")):
        for inner in graph.node:
            yield from with_nested(inner)
