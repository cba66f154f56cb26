# SPDX-License-Identifier: Apache-2.0
"""What was valid ONNX once, or is nearly so, as today's: nodes in order, stored tensors no inputs, an opset that handlers know."""

from __future__ import annotations

import graphlib
from pathlib import Path
from typing import TYPE_CHECKING

from tinytrain.errors import ModelError
from tinytrain.reading import first_line

if TYPE_CHECKING:
    import onnx

OLDEST_OPSET = 13
OLDEST_CONVERTED = 6                                      # as PyTorch once wrote; `make conformance` has cases of it
NUMPY_BROADCASTING = 7                                    # until then an operand was laid along an axis that the node names
# op -> an attribute that it has from an opset on, and what it meant before
IMPLIED = {"RoiAlign": (16, "coordinate_transformation_mode", "output_half_pixel")}
OLDEST_IR = 4                                             # until then each stored tensor had to be an input as well


def sort_nodes(model: onnx.ModelProto, path: Path) -> None:
    """Each node behind those that it reads, in place; nodes that are in order stay where they are. Raises ModelError for a circle."""
    nodes = list(model.graph.node)
    makers = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    needs = {i: {makers[name] for name in _reads(node) if name in makers} for i, node in enumerate(nodes)}
    if all(before < i for i, wanted in needs.items() for before in wanted):
        return
    sorter = graphlib.TopologicalSorter(needs)
    order: list[int] = []
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        circle = " → ".join(nodes[i].name or nodes[i].op_type for i in reversed(error.args[1]))
        raise ModelError(
            f"{path}: its nodes {circle} wait for each other in a circle; expected a graph that runs from input to output.",
            hint="Export the model again; a recurrence must be unrolled.",
        ) from None
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order += ready
        sorter.done(*ready)
    del model.graph.node[:]
    model.graph.node.extend(nodes[i] for i in order)


def _reads(node: onnx.NodeProto) -> set[str]:
    """The names that a node reads, inside its subgraphs too."""
    graphs = [g for a in node.attribute for g in ([a.g] if a.HasField("g") else []) + list(a.graphs)]
    inner = {name for graph in graphs for nested in graph.node for name in _reads(nested)}
    return {name for name in node.input if name} | inner | {o.name for graph in graphs for o in graph.output}


def settle_constants(model: onnx.ModelProto) -> None:
    """What the file stores is a constant, also where it is an input that a caller could replace: in place."""
    stored = {t.name for t in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    if 0 < model.ir_version < OLDEST_IR:
        model.ir_version = OLDEST_IR


def opset_of(model: onnx.ModelProto, path: Path) -> int:
    """The version of the default domain; raises ModelError for one that cannot be read or converted."""
    import onnx

    newest = onnx.defs.onnx_opset_version()
    version: int | None = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), None)
    if version is not None and OLDEST_CONVERTED <= version <= newest:
        return version
    found = "no ONNX opset" if version is None else f"opset {version}"
    hint = (
        f"Export the model again with opset {OLDEST_OPSET} or newer." if version is None or version < OLDEST_CONVERTED
        else "Export the model with an older opset, or install a newer onnx."
    )
    raise ModelError(f"{path} uses {found}; opset {OLDEST_CONVERTED} to {newest} is supported.", hint=hint)


def convert(model: onnx.ModelProto, path: Path) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model in an opset that handlers know, and a note where that is another one. Names stay; shapes must be inferred anew."""
    import onnx
    from onnx import version_converter

    version = opset_of(model, path)
    if version >= OLDEST_OPSET:
        _spell_out(model.graph, version)
        return model, ()
    for node in model.graph.node:
        if any(a.HasField("g") or a.graphs for a in node.attribute):
            raise _not_converted(f"{node.name} ({node.op_type}) in {path}", version, "it has a graph inside")
    model.ir_version = max(model.ir_version, onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", OLDEST_OPSET)]))
    if version < NUMPY_BROADCASTING:
        _lay_slopes(model)
    try:
        made = version_converter.convert_version(onnx.shape_inference.infer_shapes(model), OLDEST_OPSET)
        onnx.checker.check_model(made)
    except Exception as why:                              # what the converter cannot do it says by exceptions of any kind
        raise _not_converted(str(path), version, first_line(why)) from why
    names = {output: node.name for node in model.graph.node for output in node.output}
    kept = {node.name for node in made.graph.node}
    for node in made.graph.node:
        if not node.name and names.get(node.output[0], "") not in kept:
            node.name = names[node.output[0]]             # of another op in its place
    _spell_out(made.graph, version)
    return made, (f"converted from opset {version} to {OLDEST_OPSET}",)


def _spell_out(graph: onnx.GraphProto, version: int) -> None:
    """What an op of that opset means by itself, as the attribute that says so today: in place."""
    from onnx import helper

    for node in graph.node:
        since, name, value = IMPLIED.get(node.op_type, (0, "", ""))
        if version < since:
            node.attribute.append(helper.make_attribute(name, value))


def _lay_slopes(model: onnx.ModelProto) -> None:
    """A stored slope of each channel along that axis, in place: the library leaves that undone."""
    import onnx

    shapes = {v.name: len(v.type.tensor_type.shape.dim) for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    shapes.update((v.name, len(v.type.tensor_type.shape.dim)) for v in model.graph.input)
    stored = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        slope = stored.get(node.input[1]) if node.op_type == "PRelu" else None
        if slope is not None and len(slope.dims) == 1 and slope.dims[0] > 1:
            slope.dims.extend([1] * (shapes.get(node.input[0], 2) - 2))


def _not_converted(where: str, version: int, why: str) -> ModelError:
    return ModelError(
        f"{where}: opset {version} cannot be converted to {OLDEST_OPSET} ({why}); expected opset {OLDEST_OPSET}, or a model that converts.",
        hint=f"Export the model again with opset {OLDEST_OPSET} or newer.",
    )
