# SPDX-License-Identifier: Apache-2.0
"""Outputs of a model beside those that it computes: constants, its inputs, and what another output gives already. They are copied.

A constant is stored once and copied like everything that is given; a device fills one record, whatever its parts come from.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.frontend.call import Import
from tinytrain.frontend.layout import Tensor, ir_shape, plain
from tinytrain.ops.elementwise import Broadcast

_INT32 = np.iinfo(np.int32)


def given_back(model: Import, inputs: Collection[str], exits: Sequence[str]) -> list[Tensor]:
    """A tensor for each output, none the same value as another or as an input. Raises ModelError where nothing is computed."""
    lost = [name for name in exits if name not in model.tensors or name in inputs]
    if len(lost) == len(exits):
        why = "is its input" if lost[0] in inputs else "does not depend on the input"
        raise ModelError(f"{model.file}: output {lost[0]} {why}; expected a model that computes something.",
                         hint="Export the part of the model that starts at its input.")
    made: list[Tensor] = []
    for name in exits:
        tensor = model.real(model.tensors[name]) if name in model.tensors else _constant(model, name)
        if name in lost or any(tensor.value is other.value for other in made):
            copied = model.graph.emit(Broadcast(tensor.value.shape), tensor.value, name=name)
            tensor = Tensor(copied, tensor.shape, tensor.order)
        made.append(tensor)
    return made


def _constant(model: Import, name: str) -> Tensor:
    array = model.arrays[name]
    if not array.size:
        raise ModelError(f"{model.file}: output {name} is constant and has no elements.", hint="Leave this output out of the model.")
    if array.dtype != np.float32 and (array.dtype.kind not in "iub" or not _INT32.min <= array.min() <= array.max() <= _INT32.max):
        raise ModelError(f"{model.file}: output {name} is constant and holds {array.dtype}; expected float32, or what int32 has room for.",
                         hint="Leave this output out of the model: it is the same for every sample.")
    model.ledger.read(name, "an output")
    shape = tuple(array.shape)
    stored = array if array.dtype == np.float32 else array.astype(np.int32)
    return Tensor(model.graph.const(name, stored.reshape(ir_shape(shape, plain(shape)))), shape, plain(shape))
