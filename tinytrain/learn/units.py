# SPDX-License-Identifier: Apache-2.0
"""Units of a network that give the same whatever the sample: dead ReLUs, and what integers hold at an end of their range.

The learned model is run on the host by onnx's evaluator; the device is asked for its weights only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tinytrain.device.project import Project
from tinytrain.ir.types import Array
from tinytrain.learn.export import MANY_MACS, MOST_MACS, runs
from tinytrain.learn.weights import parameters
from tinytrain.onnx_graph import LAYERS

if TYPE_CHECKING:
    import onnx

    from tinytrain.device.session import Session

SAMPLES = 16
MANY = 0.9                                                # of the units of a layer
ENDS = ("Relu", "Clip", "DequantizeLinear")               # what shows that a unit is dead


def dead_units(project: Project, session: Session, samples: Array) -> list[tuple[str, int, int]]:
    """(layer, units of it that give the same for all of some samples, its units) of layers where they are many, the emptiest first.

    None of a model that takes long. Raises ModelError where it cannot be exported.
    """
    macs = project.manifest.macs
    if macs > MOST_MACS:
        return []
    model = project.with_weights(parameters(project, session)[0])
    behind = _behind_layers(model)
    few = samples[: SAMPLES if macs < MANY_MACS else 2]
    if not behind or len(few) < 2:
        return []
    from onnx import TensorProto, helper

    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in behind.values())
    try:
        rows = runs(model, project.manifest.input, few)
    except Exception:                                     # whatever an evaluator without some operator raises
        return []
    found = []
    for layer, arrays in zip(behind, zip(*rows, strict=True), strict=True):
        maps = np.stack(arrays)[:, 0] if np.ndim(arrays[0]) > 1 else np.stack(arrays)
        same = np.ptp(maps, axis=0).reshape(maps.shape[1], -1).max(axis=1) == 0
        if same.mean() >= MANY:
            found.append((layer, int(same.sum()), len(same)))
    return sorted(found, key=lambda one: -one[1] / one[2])


def _behind_layers(model: onnx.ModelProto) -> dict[str, str]:
    """Layer → the first array behind it that is cut off at an end."""
    stored = {tensor.name for tensor in model.graph.initializer}
    layer_of: dict[str, str] = {}
    found: dict[str, str] = {}
    for node in model.graph.node:
        if not node.input or node.input[0] in stored:
            continue
        layer = node.name or node.output[0] if node.op_type in LAYERS else layer_of.get(node.input[0])
        if layer is None:
            continue
        layer_of.update(dict.fromkeys(node.output, layer))
        if node.op_type in ENDS:
            found.setdefault(layer, node.output[0])
    return found
