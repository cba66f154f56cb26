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
    "denoiser": """<ir_version: 8, opset_import: ["" : 17]>
        denoiser (float[1, 1, 8, 8] x) => (float[1, 10] y) {
            a1 = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, conv1_weight, conv1_bias)
            b1 = Relu (a1)
            c1 = Flatten (b1)
            d1 = Gemm <transB = 1> (c1, scores1_weight, scores1_bias)
            z1 = Softmax <axis = -1> (d1)
            a2 = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, conv2_weight, conv2_bias)
            b2 = Relu (a2)
            c2 = Flatten (b2)
            d2 = Gemm <transB = 1> (c2, image2_weight, image2_bias)
            e2 = Gemm <transB = 1> (z1, label2_weight, label2_bias)
            f2 = Add (d2, e2)
            g2 = Relu (f2)
            h2 = Gemm <transB = 1> (g2, scores2_weight, scores2_bias)
            z2 = Softmax <axis = -1> (h2)
            a3 = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, conv3_weight, conv3_bias)
            b3 = Relu (a3)
            c3 = Flatten (b3)
            d3 = Gemm <transB = 1> (c3, image3_weight, image3_bias)
            e3 = Gemm <transB = 1> (z2, label3_weight, label3_bias)
            f3 = Add (d3, e3)
            g3 = Relu (f3)
            y = Gemm <transB = 1> (g3, scores3_weight, scores3_bias)
        }""",
}

_WEIGHTS: dict[str, dict[str, tuple[int, ...]]] = {
    "mlp": {"fc1": (32, 64), "fc2": (16, 32), "fc3": (10, 16)},
    "cnn": {"conv1": (8, 1, 3, 3), "conv2": (16, 8, 3, 3), "fc": (10, 256)},
    "gesture": {"conv1": (8, 3, 5), "conv2": (8, 8, 5), "fc": (4, 40)},
    "denoiser": {
        "conv1": (8, 1, 3, 3), "scores1": (10, 128),
        "conv2": (8, 1, 3, 3), "image2": (32, 128), "label2": (32, 10), "scores2": (10, 32),
        "conv3": (8, 1, 3, 3), "image3": (32, 128), "label3": (32, 10), "scores3": (10, 32),
    },
}

NAMES = tuple(_TEXTS)


def model(name: str, seed: int = 0) -> onnx.ModelProto:
    """A model by name with seeded weights, normal with variance 2 / fan-in (He et al., arXiv 1502.01852); biases are zero.

    `mlp`: 64-32-16-10 with ReLU. `cnn`: 1x8x8, conv 3x3x8, conv 3x3x16 with stride 2, dense 10. `gesture`: 32 samples of
    an accelerometer's three axes, two convolutions of 5 samples with stride 2, dense 4. `denoiser`: 1x8x8, three blocks, each
    reads the sample and class probabilities of the one before, as `--method noprop` trains them. Raises ModelError for another name.
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
