# SPDX-License-Identifier: Apache-2.0
"""Small untrained models to try things on: what the examples, the benchmarks and the quickstart start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tinytrain.errors import ModelError

if TYPE_CHECKING:
    import onnx

_TEXTS = {
    "mlp": """<ir_version: 8, opset_import: ["" : 17]>
        mlp (float[1, 64] x) => (float[1, 10] y) {
            a = Gemm <transB = 1> (x, fc1_weight, fc1_bias)
            b = Relu (a)
            c = Gemm <transB = 1> (b, fc2_weight, fc2_bias)
            d = Relu (c)
            y = Gemm <transB = 1> (d, fc3_weight, fc3_bias)
        }""",
    "cnn": """<ir_version: 8, opset_import: ["" : 17]>
        cnn (float[1, 1, 8, 8] x) => (float[1, 10] y) {
            a = Conv <pads = [1, 1, 1, 1]> (x, conv1_weight, conv1_bias)
            b = Relu (a)
            c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (b, conv2_weight, conv2_bias)
            d = Relu (c)
            e = Flatten (d)
            y = Gemm <transB = 1> (e, fc_weight, fc_bias)
        }""",
    "gesture": """<ir_version: 8, opset_import: ["" : 17]>
        gesture (float[1, 3, 32] x) => (float[1, 4] y) {
            a = Conv <strides = [2]> (x, conv1_weight, conv1_bias)
            b = Relu (a)
            c = Conv <strides = [2]> (b, conv2_weight, conv2_bias)
            d = Relu (c)
            e = Flatten (d)
            y = Gemm <transB = 1> (e, fc_weight, fc_bias)
        }""",
}

_WEIGHTS: dict[str, dict[str, tuple[int, ...]]] = {
    "mlp": {"fc1": (32, 64), "fc2": (16, 32), "fc3": (10, 16)},
    "cnn": {"conv1": (8, 1, 3, 3), "conv2": (16, 8, 3, 3), "fc": (10, 256)},
    "gesture": {"conv1": (8, 3, 5), "conv2": (8, 8, 5), "fc": (4, 40)},
}

NAMES = tuple(_TEXTS)


def model(name: str, seed: int = 0) -> onnx.ModelProto:
    """A model by name with seeded weights, normal with variance 2 / fan-in (He et al., arXiv 1502.01852); biases are zero.

    `mlp`: 64-32-16-10 with ReLU. `cnn`: 1x8x8, conv 3x3x8, conv 3x3x16 with stride 2, dense 10. `gesture`: 32 samples of
    an accelerometer's three axes, two convolutions of 5 samples with stride 2, dense 4. Raises ModelError for another name.
    """
    from onnx import numpy_helper, parser

    if name not in _TEXTS:
        raise ModelError(f"There is no built-in model {name!r}; there are {', '.join(NAMES)}.")
    made = parser.parse_model(_TEXTS[name])
    rng = np.random.default_rng(seed)
    for layer, shape in _WEIGHTS[name].items():
        weight = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        made.graph.initializer.append(numpy_helper.from_array(weight, f"{layer}_weight"))
        made.graph.initializer.append(numpy_helper.from_array(np.zeros(shape[0], np.float32), f"{layer}_bias"))
    for node in made.graph.node:
        node.name = node.input[1].removesuffix("_weight") if len(node.input) > 1 else f"{node.op_type.lower()}_{node.output[0]}"
    return made
