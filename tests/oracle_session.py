# SPDX-License-Identifier: Apache-2.0
"""The only place that opens a session of onnxruntime: as an oracle it must give the same numbers on any CPU and under any load.

With its optimisations off, a model between QuantizeLinear and DequantizeLinear is computed in floats. Kernels of integers, which QOperator
models name themselves, add two products of uint8 and int8 in 16 bits and saturate where a CPU has no VNNI; no option avoids that there
(`session.x64quantprecision` is heeded by an optimisation), weights of seven bits do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

INTEGER_KERNELS = ("QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")
SAFE = 64                                                 # 2 · 255 · 64 < 2^15


def session_of(model: onnx.ModelProto) -> Any:
    import onnxruntime

    assert not (wide := beyond_seven_bits(model)), f"{', '.join(wide)}: the result would depend on the CPU; keep weights within ±{SAFE}"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.intra_op_num_threads = 1
    options.log_severity_level = 4                        # what it refuses it raises as well
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def beyond_seven_bits(model: onnx.ModelProto) -> list[str]:
    """Weights of kernels of integers whose sums may saturate."""
    read = {name for node in model.graph.node if node.op_type in INTEGER_KERNELS for name in node.input}
    stored = [i for i in model.graph.initializer if i.name in read and i.data_type == onnx.TensorProto.INT8]
    return [i.name for i in stored if np.abs(numpy_helper.to_array(i).astype(np.int32)).max(initial=0) > SAFE]
