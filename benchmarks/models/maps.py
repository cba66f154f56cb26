# SPDX-License-Identifier: Apache-2.0
"""Networks of feature maps.

ResNet-8, DS-CNN, MobileNetV1: MLPerf Tiny (arXiv 2106.07597). MobileNetV2: arXiv 1801.04381. ProxylessNAS: arXiv 1812.00332.
MCUNet: arXiv 2007.10319, the kinds of blocks that it is built from, at the size of its fastest model.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from models.net import Net

Block = tuple[int, int, int, int]                         # expansion, channels, stride, kernel


def resnet8() -> onnx.ModelProto:
    net = Net("resnet8", 3, 32, 32)
    net.conv(16)
    net.node("Relu")
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        start, shape = net.at, net.shape
        net.conv(channels, stride=stride)
        net.node("Relu")
        body, made = net.conv(channels), net.shape
        if stride > 1:
            net.at, net.shape = start, shape
            start = net.conv(channels, (1, 1), stride)
        net.node("Add", start, of=body, shape=made)
        net.node("Relu")
    net.pooled()
    net.dense(10)
    return net.model()


def dscnn() -> onnx.ModelProto:
    net = Net("dscnn", 1, 49, 10)
    net.conv(64, (10, 4), 2)
    net.node("Relu")
    for _ in range(4):
        _separable(net, 64, 1)
    net.pooled()
    net.dense(12)
    return net.model()


def mobilenet_v1() -> onnx.ModelProto:
    """A quarter of the channels, 96×96."""
    net = Net("mobilenet_v1", 3, 96, 96)
    net.conv(8, stride=2)
    net.node("Relu")
    layout = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1))
    for channels, stride in layout:
        _separable(net, channels, stride)
    net.pooled()
    net.dense(2)
    return net.model()


def _separable(net: Net, channels: int, stride: int) -> None:
    net.conv(net.shape[0], stride=stride, group=net.shape[0])
    net.node("Relu")
    net.conv(channels, (1, 1))
    net.node("Relu")


def _inverted(name: str, size: int, blocks: Sequence[Block], last: int) -> onnx.ModelProto:
    net = Net(name, 3, size, size)
    net.conv(16, stride=2)
    net.relu6()
    for expansion, channels, stride, kernel in blocks:
        start, shape = net.at, net.shape
        if expansion > 1:
            net.conv(shape[0] * expansion, (1, 1))
            net.relu6()
        net.conv(net.shape[0], (kernel, kernel), stride, group=net.shape[0])
        net.relu6()
        net.conv(channels, (1, 1))
        if net.shape == shape:
            net.node("Add", start)
    if last:
        net.conv(last, (1, 1))
        net.relu6()
    net.pooled()
    net.dense(10)
    return net.model()


def mobilenet_v2() -> onnx.ModelProto:
    """0.35 of the channels, 96×96."""
    rows = ((1, 8, 1, 1), (6, 8, 2, 2), (6, 16, 3, 2), (6, 24, 4, 2), (6, 32, 3, 1), (6, 56, 3, 2), (6, 112, 1, 1))
    return _inverted("mobilenet_v2", 96, [(t, c, s if i == 0 else 1, 3) for t, c, n, s in rows for i in range(n)], 448)


def proxyless() -> onnx.ModelProto:
    """0.3 of the channels, 96×96."""
    blocks = (
        (1, 8, 1, 3), (3, 8, 2, 5), (3, 8, 1, 3), (3, 16, 2, 7), (3, 16, 1, 3), (3, 16, 1, 5), (6, 24, 2, 7), (3, 24, 1, 5), (6, 32, 1, 5),
        (3, 32, 1, 5), (6, 56, 2, 7), (6, 56, 1, 7), (6, 96, 1, 7),
    )
    return _inverted("proxyless", 96, blocks, 384)


def mcunet() -> onnx.ModelProto:
    blocks = (
        (1, 8, 1, 3), (5, 16, 2, 7), (4, 16, 1, 3), (5, 16, 1, 7), (4, 24, 2, 5), (5, 24, 1, 5), (6, 40, 2, 5), (5, 40, 1, 7),
        (5, 48, 1, 5), (4, 48, 1, 7), (6, 96, 2, 7), (5, 96, 1, 3), (6, 160, 1, 3),
    )
    return _inverted("mcunet", 128, blocks, 0)


def cnn_1d() -> onnx.ModelProto:
    """Of a row of three accelerations, as gestures and machines are told by."""
    net = Net("cnn_1d", 3, 128)
    for channels in (16, 32, 32):
        net.conv(channels, (7,), 2, norm=False)
        net.node("Elu", alpha=1.0)
    net.pooled()
    net.dense(6)
    return net.model()
