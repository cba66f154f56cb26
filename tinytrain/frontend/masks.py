# SPDX-License-Identifier: Apache-2.0
"""A mask of −∞ in front of a Softmax becomes one of the lowest finite number: whatever is added to it, its exponential is 0.

Only where each row keeps something, as of one that is masked as a whole a Softmax makes no numbers, or where a Where behind the Softmax
takes such rows away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

PASSING = ("Add", "Where", "Identity", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Expand", "Cast", "Dropout")


def bound_masks(graph: onnx.GraphProto) -> None:
    """In place."""
    from onnx import numpy_helper

    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    exits = {output.name for output in graph.output}

    def softmaxes(name: str) -> list[onnx.NodeProto]:
        """Those that all that reads it ends in; none where some of it ends elsewhere."""
        found: list[onnx.NodeProto] = []
        for node in readers.get(name, []):
            behind = [node] if node.op_type == "Softmax" else softmaxes(node.output[0]) if node.op_type in PASSING else []
            if not behind:
                return []
            found += behind
        return [] if name in exits else found

    for tensor in graph.initializer:
        if tensor.data_type != tensor.FLOAT or not (behind := softmaxes(tensor.name)):
            continue
        array = numpy_helper.to_array(tensor)
        masked = np.isneginf(array)
        settled = all({reader.op_type for reader in readers.get(node.output[0], [])} == {"Where"} for node in behind)
        if masked.any() and (array.size == 1 or settled or not masked.all(axis=-1).any()):
            bounded = np.where(masked, np.finfo(np.float32).min, array)
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(bounded, np.float32), tensor.name))
