# SPDX-License-Identifier: Apache-2.0
"""The shapes of the inputs: one sample, every axis known. And a model that was exported for N samples made one for a single sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.errors import ModelError

if TYPE_CHECKING:
    import onnx

Dims = tuple[int, ...]
SHAPE_KEPT = ("GroupNormalization", "MeanVarianceNormalization")   # ops without a shape rule, whose body no rule gets through
VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def fix_shapes(model: onnx.ModelProto, path: Path, shapes: Mapping[str, Dims]) -> int:
    """Close every open axis of the inputs; the shapes of all other values are to be inferred anew.

    Returns the batch: 1, or what the file has fixed where `shapes` asks for 1; `one_sample` is then still to be called.
    """
    inputs = _inputs(model, path, shapes)
    batches = {value.name: _fix_shape(value, path, shapes.get(value.name)) for value in inputs}
    if len(set(batches.values())) > 1:
        found = ", ".join(f"{name} {batch}" for name, batch in batches.items())
        message = f"{path}: its inputs have different batches ({found}); expected the same for all."
        raise ModelError(message, hint="Export it with a batch of 1.")
    return next(iter(batches.values()))


def _fix_shape(value: onnx.ValueInfoProto, path: Path, chosen: Dims | None) -> int:
    """Close the open axes of one input; returns its batch."""
    kind = value.type.tensor_type
    if value.type.WhichOneof("value") != "tensor_type":
        message = f"{path}: input {value.name} is no tensor; expected one of float32."
        raise ModelError(message, hint="Export the part of the model that takes tensors.")
    # what is negative is open too: exporters write -1
    found = [d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else _open(d) for d in kind.shape.dim]
    if kind.HasField("shape") and not found:
        raise _no_batch(path, value.name, found)
    want = _own(path, value.name, found) if chosen is None else _chosen(path, value.name, found, chosen, kind.HasField("shape"))
    batch = found[0] if found and isinstance(found[0], int) and found[0] > 1 else 1
    del kind.shape.dim[:]
    for d in (batch, *want[1:]):
        kind.shape.dim.add().dim_value = d
    return batch


def forget_shapes(model: onnx.ModelProto) -> None:
    """All but that of the input, also where it is an output."""
    inputs = {value.name: value for value in model.graph.input}
    for output in model.graph.output:
        if output.name in inputs:
            output.CopyFrom(inputs[output.name])
        elif output.type.WhichOneof("value") == "tensor_type":
            output.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]


def inferred_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with all shapes, strictly: raises what the library raises. Functions that it stumbles over keep the shape of operand 0."""
    import onnx

    stand_ins = onnx.ModelProto()
    stand_ins.CopyFrom(model)
    for node in stand_ins.graph.node:
        if node.op_type in SHAPE_KEPT:
            node.CopyFrom(onnx.helper.make_node("Identity", node.input[:1], node.output[:1], node.name))
    inferred = onnx.shape_inference.infer_shapes(stand_ins, check_type=True, strict_mode=True, data_prop=True)
    for made, node in zip(inferred.graph.node, model.graph.node, strict=True):
        made.CopyFrom(node)
    return inferred


def known_shapes(graph: onnx.GraphProto) -> dict[str, Dims]:
    """Static shapes by tensor name."""
    found: dict[str, Dims] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
            found[value.name] = tuple(d.dim_value for d in kind.shape.dim)
    return found


def _inputs(model: onnx.ModelProto, path: Path, shapes: Mapping[str, Dims]) -> list[onnx.ValueInfoProto]:
    inputs: list[onnx.ValueInfoProto] = list(model.graph.input)
    names: list[str] = [i.name for i in inputs]
    for name in shapes:
        if name not in names:
            raise ModelError(
                f"{path} has no input {name}; its inputs are {', '.join(names) or 'none'}.",
                hint=f"Write --shape {names[0]}=1,..." if names else "Leave out --shape.",
            )
    if not inputs:
        raise ModelError(f"{path} has no input; expected one at least.", hint="Export the part of the model that takes samples.")
    return inputs


def _open(dim: onnx.TensorShapeProto.Dimension) -> str:
    return str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?"


def _chosen(path: Path, name: str, found: Sequence[int | str], want: Dims, ranked: bool) -> Dims:
    """The shape that the user gives, where it fits that of the file."""
    fixed = [want[i] if i == 0 or isinstance(d, str) else d for i, d in enumerate(found[: len(want)])]
    fits = not ranked or (len(want) == len(found) and fixed == list(want))
    if not fits or any(d < 1 for d in want):
        raise ModelError(
            f"{path}: --shape {name}={_comma(want)} does not fit the model, whose input is ({_comma(found)}).",
            hint="Give one positive number for each dimension; only open ones and the batch may be chosen.",
        )
    if want[0] != 1:
        raise ModelError(
            f"{path}: --shape {name}={_comma(want)} asks for a batch of {want[0]}; expected a batch of 1.",
            hint=f"Write --shape {name}={_comma([1, *want[1:]])}",
        )
    return want


def _own(path: Path, name: str, found: Sequence[int | str]) -> Dims:
    """The shape that the file gives, where only the batch is open."""
    if any(isinstance(d, str) for d in found[1:]) or not found:
        example = _comma([1, *(d if isinstance(d, int) else 32 for d in found[1:])] if found else [1, 3, 32, 32])
        raise ModelError(
            f"{path}: input {name} has the dynamic shape ({_comma(found)}); every dimension but the batch must be known when compiling.",
            hint=f"Fix it with --shape {name}={example}",
        )
    rest = tuple(d for d in found[1:] if isinstance(d, int))
    if 0 in rest:
        raise ModelError(
            f"{path}: input {name} has the shape ({_comma(found)}) with an empty axis; expected at least one element in each.",
            hint="Export it with that axis dynamic, or as long as it is.",
        )
    if isinstance(found[0], int) and found[0] != 1:
        if not rest:
            raise _no_batch(path, name, found)
        raise ModelError(
            f"{path}: input {name} has the shape ({_comma(found)}); expected a batch of 1 (or a dynamic one) in front.",
            hint=f"If its first axis is the batch, try --shape {name}={_comma([1, *rest])}; if it has none, export the model with one.",
        )
    return (1, *rest)


def _no_batch(path: Path, name: str, found: Sequence[int | str]) -> ModelError:
    return ModelError(
        f"{path}: input {name} has the shape ({_comma(found)}) without a batch axis; expected a batch of 1 (or a dynamic one) in front.",
        hint=f"Export the model for samples of the shape ({_comma([1, *found])}).",
    )


def _comma(dims: Sequence[int | str]) -> str:
    return ",".join(map(str, dims))


def one_sample(model: onnx.ModelProto, path: Path, batch: int) -> onnx.ModelProto:
    """A model of which every shape is known, made for `batch` samples, as one for a single sample; of that all shapes are known too.

    Reshapes to a stored shape that holds the batch follow. Raises ModelError where something else holds it.
    """
    import onnx

    if batch == 1:
        return model
    change = _OneSample(model, path, batch)
    for axis in change.axes:
        axis.dim_value = 1
    while True:
        forget_shapes(model)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        if not change.repaired(known_shapes(inferred.graph)):
            return inferred


class _OneSample:
    """Where the batch lies in each tensor that has one, as (axis, inner): `inner` neighbouring indices of that axis belong to a sample.

    That is told by comparing shapes for N samples with those for one: a single axis is N times longer. Views say it themselves.
    """

    def __init__(self, model: onnx.ModelProto, path: Path, batch: int) -> None:
        self.graph = model.graph
        self.path = path
        self.batch = batch
        self.before = known_shapes(model.graph)
        self.axes = [value.type.tensor_type.shape.dim[0] for value in model.graph.input]
        self.stored = {t.name for t in model.graph.initializer}
        self.read = {name for node in model.graph.node for name in node.input} | {o.name for o in model.graph.output}

    def repaired(self, after: Mapping[str, Dims]) -> bool:
        """Whether one more Reshape was given the shape for one sample; shapes must then be inferred anew."""
        places = {value.name: (0, 1) for value in self.graph.input}
        for node in self.graph.node:
            source = next((name for name in node.input if name in places), None)
            for name in self.read.intersection(node.output) if source else ():
                assert source is not None
                axis, inner = places[source]
                place = self._viewed(source, name, axis, inner) if node.op_type in VIEWS else self._compared(name, after, inner)
                if place is None:
                    raise self._held(node)
                places[name] = place
                want = tuple(d // self.batch if axis == place[0] else d for axis, d in enumerate(self.before[name]))
                if after.get(name) == want:
                    continue
                if node.op_type != "Reshape" or node.input[1] not in self.stored:
                    raise self._held(node)
                self._reshape(node, want)
                return True
        return False

    def _compared(self, name: str, after: Mapping[str, Dims], inner: int) -> tuple[int, int] | None:
        """Of a result other than a view; of its axis each sample has one index, or as many as it had of the operand's."""
        old, new = self.before.get(name, ()), after.get(name, ())
        if len(old) != len(new):
            return None
        changed = [axis for axis in range(len(old)) if old[axis] != new[axis]]
        if len(changed) != 1 or old[changed[0]] != self.batch * new[changed[0]]:
            return None
        return changed[0], 1 if new[changed[0]] == 1 else inner

    def _viewed(self, source: str, name: str, axis: int, inner: int) -> tuple[int, int] | None:
        """Of a view: the batch counts what it counted, so as many elements as before stand outside of it."""
        shape = self.before[source]
        outer = math.prod(shape[:axis]) * (shape[axis] // (self.batch * inner))
        for at, size in enumerate(self.before.get(name, ())):
            if size % (outer * self.batch) == 0:
                return at, size // (outer * self.batch)
            if outer % size:
                return None
            outer //= size
        return None

    def _reshape(self, node: onnx.NodeProto, shape: Dims) -> None:
        from onnx import numpy_helper

        name = f"{node.output[0]}_shape"
        while name in self.stored:
            name += "_"
        self.stored.add(name)
        self.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), name))
        node.input[1] = name

    def _held(self, node: onnx.NodeProto) -> ModelError:
        return ModelError(
            f"{node.name} ({node.op_type}) in {self.path}: it holds the batch of {self.batch} that the model was exported with; "
            "expected one that follows the input.",
            hint="Export the model with a batch of 1.",
        )
