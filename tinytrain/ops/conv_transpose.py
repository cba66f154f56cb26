# SPDX-License-Identifier: Apache-2.0
"""conv_transpose2d: y[i,j,c] = Σ over the taps with h·sh + r·dh − pt = i and w·sw + s·dw − pl = j, Σ_k x[h,w,k] · w[k,r,s,c]

It is the gradient of a convolution for its input, so its own gradients are that convolution, and its gradient for the weight:

dx = conv2d(dy, w)          dw = conv2d_grad_w(x, dy)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Example, Wanted, f32
from tinytrain.ir.types import F32, Value
from tinytrain.ops.activation import Relu
from tinytrain.ops.conv import Conv2d, Conv2dGradW, Conv2dGradX
from tinytrain.ops.depthwise import DepthwiseConv2d, DepthwiseConv2dGradW, DepthwiseConv2dGradX
from tinytrain.ops.elementwise import Add
from tinytrain.ops.windowed import Pad


@dataclass(frozen=True)
class ConvTranspose2d(Conv2dGradX):
    """x (H', W', K), w (K, R, S, C/group) -> y of `shape` (H, W, C). ONNX ConvTranspose."""

    name = "conv_transpose2d"
    parameters: ClassVar[dict[int, str]] = {1: "weight"}
    differentiable = True
    kernels = tuple(dataclasses.replace(k, macro=k.macro or Conv2dGradX.name) for k in Conv2dGradX.kernels if k.dtypes == (F32,))

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x, w), dy = inputs, grads[0]
        assert dy is not None
        return (
            g.emit(Conv2d(*self.window), dy, w, name=f"d_{x.name}") if wanted[0] else None,
            g.emit(Conv2dGradW(*self.window, kernel=w.shape[1:3]), x, dy, name=f"d_{w.name}") if wanted[1] else None,
        )


@dataclass(frozen=True)
class DepthwiseConvTranspose2d(DepthwiseConv2dGradX):
    """x (H', W', C), w (R, S, C) -> y of `shape` (H, W, C). ONNX ConvTranspose with as many groups as input and output channels."""

    name = "depthwise_conv_transpose2d"
    parameters: ClassVar[dict[int, str]] = {1: "weight"}
    differentiable = True
    # its weight is in one piece: none is packed
    kernels = tuple(
        dataclasses.replace(k, macro=k.macro or DepthwiseConv2dGradX.name)
        for k in DepthwiseConv2dGradX.kernels if k.dtypes == (F32,) and not k.spare
    )

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x, w), dy = inputs, grads[0]
        assert dy is not None
        same = (self.stride, self.pad, self.dilation)
        return (
            g.emit(DepthwiseConv2d(*same), dy, w, name=f"d_{x.name}") if wanted[0] else None,
            g.emit(DepthwiseConv2dGradW(*same, kernel=w.shape[:2]), x, dy, name=f"d_{w.name}") if wanted[1] else None,
        )


ConvTranspose2d.examples = (
    Example(ConvTranspose2d(shape=(3, 3, 2)), f32((1, 1, 3), (3, 3, 3, 2))),
    Example(ConvTranspose2d((2, 2), Pad(1, 1, 0, 0), shape=(7, 9, 17)), f32((3, 4, 3), (3, 3, 3, 17))),
    Example(ConvTranspose2d((3, 1), Pad(0, 1, 1, 0), (1, 2), group=2, shape=(8, 6, 6)), f32((3, 3, 4), (4, 3, 3, 3))),
    Example(ConvTranspose2d((2, 1), shape=(9, 1, 4), then=(Add(), Relu())), f32((4, 1, 5), (5, 3, 1, 4), (4,))),
)
DepthwiseConvTranspose2d.examples = (
    Example(DepthwiseConvTranspose2d((2, 2), shape=(6, 8, 5)), f32((3, 4, 5), (2, 2, 5))),
    Example(DepthwiseConvTranspose2d((2, 1), shape=(6, 5, 3)), f32((3, 4, 3), (2, 2, 3))),
    Example(DepthwiseConvTranspose2d(pad=Pad(1, 1, 1, 1), shape=(4, 3, 6)), f32((4, 3, 6), (3, 3, 6))),
    Example(DepthwiseConvTranspose2d((1, 2), Pad(1, 0, 1, 1), shape=(4, 7, 17)), f32((4, 3, 17), (3, 3, 17))),
)
