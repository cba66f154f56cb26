# SPDX-License-Identifier: Apache-2.0
"""A Scan or Loop over a known number of steps as the nodes of all its steps, one behind the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinytrain.frontend.loop import steps_of
from tinytrain.ir.types import Array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import onnx

MOST_NODES = 4096                                         # of all steps: beyond, a loop is no small network


def unrolled(scan: onnx.NodeProto, values: Mapping[str, onnx.ValueInfoProto]) -> list[onnx.NodeProto] | None:
    """The nodes, of which Gather takes what a step reads; None where the number of steps is not known, or large."""
    from onnx import helper

    attributes: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in scan.attribute}
    body, count = attributes["body"], attributes["num_scan_inputs"]
    states = len(scan.input) - count
    scanned, made = list(scan.input[states:]), list(body.output[states:])
    in_axes, in_turned = attributes.get("scan_input_axes", [0] * count), attributes.get("scan_input_directions", [0] * count)
    out_axes, out_turned = (attributes.get(f"scan_output_{what}", [0] * len(made)) for what in ("axes", "directions"))
    steps = _size(values[scanned[0]], in_axes[0])
    if not steps or steps * len(body.node) > MOST_NODES or not all(scan.output) or len(scan.output) < len(body.output):
        return None

    def given(step: int) -> tuple[list[onnx.NodeProto], dict[str, str]]:
        made, names = [], {}
        for value, whole, axis, turned in zip(body.input[states:], scanned, in_axes, in_turned, strict=True):
            names[value.name], at = f"{value.name}/{step}", f"{value.name}/{step}/at"
            made.append(_constant(at, np.array(steps - 1 - step if turned else step, np.int64)))
            made.append(helper.make_node("Gather", [whole, at], [names[value.name]], axis=axis))
        return made, names

    held = dict(zip((v.name for v in body.input), scan.input[:states], strict=False))
    stacked = list(zip(scan.output[states:], out_axes, out_turned, strict=True))
    return _repeated(body, steps, held, list(body.output), given, scan.output[:states], stacked)


def unrolled_loop(
    loop: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto], opsets: Iterable[onnx.OperatorSetIdProto]
) -> list[onnx.NodeProto] | None:
    """The same of a Loop that runs for a number of steps that depends on constants alone."""
    body: onnx.GraphProto = next(a.g for a in loop.attribute if a.name == "body")
    steps = steps_of(loop, body, stored, opsets, MOST_NODES // max(len(body.node), 1))
    if not steps:
        return None

    def given(step: int) -> tuple[list[onnx.NodeProto], dict[str, str]]:
        number, going = (f"{value.name}/{step}" for value in body.input[:2])
        return [_constant(number, np.array(step, np.int64)), _constant(going, np.array(True))], dict(
            zip((value.name for value in body.input[:2]), (number, going), strict=True)
        )

    held = {value.name: name for value, name in zip(body.input[2:], loop.input[2:], strict=True)}
    stacked = [(name, 0, 0) for name in loop.output[len(held):]]
    return _repeated(body, steps, held, list(body.output[1:]), given, loop.output[: len(held)], stacked)


def _constant(name: str, array: Array) -> onnx.NodeProto:
    from onnx import helper, numpy_helper

    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))


def _repeated(
    body: onnx.GraphProto, steps: int, held: dict[str, str], made: Sequence[onnx.ValueInfoProto],
    given: Callable[[int], tuple[list[onnx.NodeProto], dict[str, str]]], last: Sequence[str], stacked: Sequence[tuple[str, int, int]],
) -> list[onnx.NodeProto]:
    """The body for each step: it reads what is `held`, body input → tensor, and what is `given` in the step, and makes first what is held
    then, `last` in the end; then what is `stacked`: (name, axis, from the last step on).
    """
    from onnx import helper

    nodes = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in body.initializer]
    states = list(held)
    once, moving = _same_in_all(body, [state for state, out in zip(states, made, strict=False) if out.name == state])
    nodes += _copied(once, held)
    parts: list[list[str]] = [[] for _ in stacked]
    for step in range(steps):
        inputs, names = given(step)
        nodes += inputs
        names |= held | {name: f"{name}/{step}" for node in moving for name in node.output if name}
        nodes += _copied(moving, names)
        held = {state: names.get(out.name, out.name) for state, out in zip(states, made, strict=False)}
        for part, out in zip(parts, made[len(states):], strict=True):
            part.append(names.get(out.name, out.name))
    nodes += [helper.make_node("Identity", [held[state]], [name]) for state, name in zip(states, last, strict=True) if name]
    for part, (name, axis, turned) in zip(parts, stacked, strict=True):
        if name:
            nodes.append(_constant(f"{name}/axis", np.array([axis], np.int64)))
            wide = [f"{name}/{step}" for step in range(steps)]
            nodes += [helper.make_node("Unsqueeze", [one, f"{name}/axis"], [as_row]) for one, as_row in zip(part, wide, strict=True)]
            nodes.append(helper.make_node("Concat", wide[::-1] if turned else wide, [name], axis=axis))
    return nodes


def _same_in_all(body: onnx.GraphProto, kept: Iterable[str]) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """The nodes that compute the same in each step, and the others; `kept` are inputs that no step changes.

    What is made of a weight must be made once: folded in each step, it would be as many weights.
    """
    changing = {value.name for value in body.input} - set(kept)
    once, moving = [], []
    for node in body.node:
        if changing.intersection(name for inner in with_nested(node) for name in inner.input):
            changing.update(node.output)
            moving.append(node)
        else:
            once.append(node)
    return once, moving


def _copied(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> list[onnx.NodeProto]:
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    rename(copies, names)
    return copies


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
