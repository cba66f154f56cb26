# SPDX-License-Identifier: Apache-2.0
"""Handler of local response normalisation: its sums are a convolution of rows, of one channel, with weights that nobody learned."""

from __future__ import annotations

import math

import numpy as np

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.layout import Tensor
from tinytrain.ops.conv import Conv2d
from tinytrain.ops.elementwise import Add, Mul
from tinytrain.ops.power import Power
from tinytrain.ops.windowed import Pad


@handles("LRN")
def local_response(call: Call) -> Tensor:
    """x/(bias + α/size·Σ x²)^β, the sum over `size` channels around each."""
    x, size, beta = call.tensor(), call.integer("size"), call.number("beta", 0.75)
    if size < 1:
        raise call.fail(f"its size is {size}, expected 1 or more", "Check its attributes.")
    order = (*(a for a in range(len(x.shape)) if a != 1), 1)
    rows = call.view(x, order, (math.prod(x.shape) // x.shape[1], x.shape[1], 1))
    weights = np.full((1, 1, size, 1), call.number("alpha", 1e-4) / size, np.float32)
    taps, before = call.model.graph.const(f"{call.result}_window", weights), (size - 1) // 2
    near = call.emit(Conv2d(pad=Pad(0, before, 0, size - 1 - before)), call.emit(Mul(), rows, rows, part="squares"), taps, part="sum")
    bias = call.model.graph.const(f"{call.result}_bias", np.full(1, call.number("bias", 1.0), np.float32))
    factor = call.emit(Power(-beta), call.emit(Add(), near, bias, part="sum"), part="factor")
    return Tensor(call.emit(Mul(), rows, factor), x.shape, order)
