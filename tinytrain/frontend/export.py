# SPDX-License-Identifier: Apache-2.0
"""Learned weights back into an ONNX model: the prepared model with new initializers, in ONNX layout and of the types they had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.ir.types import Array

if TYPE_CHECKING:
    import onnx


def export(prepared: onnx.ModelProto, values: Mapping[str, Array], where: str) -> onnx.ModelProto:
    """A copy of a prepared model with the given initializers replaced; it passes onnx.checker. Raises ModelError naming `where`."""
    import onnx
    from onnx import numpy_helper

    model = onnx.ModelProto()
    model.CopyFrom(prepared)
    tensors = {t.name: t for t in model.graph.initializer}
    for name, array in values.items():
        if name not in tensors:
            raise ModelError(f"{where} has no initializer {name}; expected one of {', '.join(sorted(tensors))}.")
        shape = tuple(tensors[name].dims)
        if tuple(array.shape) != shape:
            raise ModelError(f"{where}: initializer {name} has the shape {shape}, the learned array {tuple(array.shape)}.")
        if not np.isfinite(array).all():
            raise ModelError(
                f"{where}: the learned initializer {name} holds NaN or infinite values; expected finite weights.",
                hint="Train with a lower learning rate.",
            )
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensors[name].data_type)
        if dtype.kind in "iu":
            # a weight that is stored with a zero point can be learned past the end of its type
            array = np.clip(array, np.iinfo(dtype).min, np.iinfo(dtype).max)
        tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array, dtype=dtype), name))
    onnx.checker.check_model(model)
    return model
