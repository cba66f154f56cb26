# SPDX-License-Identifier: Apache-2.0
"""Learned weights back into an ONNX model: the prepared model with new initializers, in ONNX layout and of the types they had.

Two things a model's own format cannot hold. Reals that were trained as fp32 where integers are stored: they take the place of their
DequantizeLinear. Integers that were trained past the end of their type, as they can be where its zero point is off the middle: that moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.ir.types import Array
from tinytrain.onnx_graph import FOUR_BITS, stored_array, stored_tensor

if TYPE_CHECKING:
    import onnx


def export(prepared: onnx.ModelProto, values: Mapping[str, Array], where: str) -> onnx.ModelProto:
    """A copy of a prepared model with the given initializers replaced; it passes onnx.checker. Raises ModelError naming `where`."""
    import onnx

    export = _Export(prepared, where)
    for name, array in values.items():
        export.put(name, array)
    onnx.checker.check_model(export.model)
    return export.model


def changed_forms(prepared: onnx.ModelProto, learned: onnx.ModelProto) -> list[str]:
    """What an exported model stores in another form than the prepared one, a sentence each."""
    before, after = ({node.output[0]: node for node in model.graph.node} for model in (prepared, learned))
    found = [f"{node.input[0]} as the float32 {name} that was trained" for name, node in before.items() if name not in after]
    moved = [node for name, node in after.items() if name in before and list(node.input) != list(before[name].input)]
    return found + [f"{node.input[0]} with its zero point in the middle of its type" for node in moved]


class _Export:
    def __init__(self, prepared: onnx.ModelProto, where: str) -> None:
        import onnx

        self.where = where
        self.model = onnx.ModelProto()
        self.model.CopyFrom(prepared)
        self.graph = self.model.graph
        self.tensors = {t.name: t for t in self.graph.initializer}
        self.dequantised = {
            node.output[0]: node for node in self.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in self.tensors
        }

    def put(self, name: str, array: Array) -> None:
        """The learned array in place of what is stored, or of what a DequantizeLinear makes of it."""
        if not np.isfinite(array).all():
            raise ModelError(
                f"{self.where}: the learned initializer {name} holds NaN or infinite values; expected finite weights.",
                hint="Train with a lower learning rate.",
            )
        if name in self.dequantised:
            self._put_reals(self.dequantised.pop(name), array)
        elif name in self.tensors:
            self._put_stored(name, array)
        else:
            raise ModelError(f"{self.where} has no initializer {name}; expected one of {', '.join(sorted(self.tensors))}.")

    def _put_stored(self, name: str, array: Array) -> None:

        self._check_shape(name, name, array)
        kind = self.tensors[name].data_type
        dtype = stored_array(self.tensors[name]).dtype
        if dtype.kind in "iu" and kind not in FOUR_BITS:
            limits = np.iinfo(dtype)
            if array.min(initial=0) < limits.min or array.max(initial=0) > limits.max:
                array = self._centred(name, array, dtype)
        self._store(name, array, dtype, kind)

    def _centred(self, name: str, array: Array, dtype: np.dtype[np.generic]) -> Array:
        """The same numbers about the middle of their type, where whatever an int8 weight can learn has room."""
        import onnx
        from onnx import numpy_helper

        limits = np.iinfo(dtype)  # type: ignore[type-var]
        middle = (int(limits.min) + int(limits.max) + 1) // 2
        readers = [node for node in self.dequantised.values() if node.input[0] == name]
        old: set[int] = set()
        for node in readers:
            zero = numpy_helper.to_array(self.tensors[node.input[2]]) if len(node.input) > 2 else np.zeros(1, dtype)
            old.update(int(number) for number in zero.reshape(-1))
            shape = tuple(self.tensors[node.input[1]].dims)
            moved = f"{node.output[0]}_zero_point"
            while moved in self.tensors:
                moved += "_"
            self._store(moved, np.full(shape, middle), dtype)
            del node.input[2:]
            node.input.append(moved)
        shifted = array.astype(np.int64) - next(iter(old), 0) + middle
        if len(old) != 1 or shifted.min() < limits.min or shifted.max() > limits.max:
            kind = onnx.helper.np_dtype_to_tensor_dtype(dtype)
            what = onnx.TensorProto.DataType.Name(kind).lower()
            raise ModelError(
                f"{self.where}: the learned {name} reaches from {array.min()} to {array.max()}, which {what} cannot hold.",
                hint="Train with a lower learning rate, or quantise its weights about zero.",
            )
        return shifted

    def _put_reals(self, node: onnx.NodeProto, array: Array) -> None:
        self._check_shape(node.output[0], node.input[0], array)
        self.graph.node.remove(node)
        self._store(node.output[0], array, np.dtype(np.float32))
        kept = [info for info in self.graph.value_info if info.name != node.output[0]]
        del self.graph.value_info[:]
        self.graph.value_info.extend(kept)
        read = {name for other in self.graph.node for name in other.input} | {output.name for output in self.graph.output}
        for name in {*node.input} - read - {""}:
            self.graph.initializer.remove(self.tensors.pop(name))

    def _check_shape(self, name: str, stored: str, array: Array) -> None:
        shape = tuple(self.tensors[stored].dims)
        if tuple(array.shape) != shape:
            raise ModelError(f"{self.where}: initializer {name} has the shape {shape}, the learned array {tuple(array.shape)}.")

    def _store(self, name: str, array: Array, dtype: np.dtype[np.generic], kind: int = 0) -> None:
        tensor = stored_tensor(name, np.asarray(array, dtype=dtype), kind)
        if name not in self.tensors:
            self.tensors[name] = self.graph.initializer.add()
        self.tensors[name].CopyFrom(tensor)
