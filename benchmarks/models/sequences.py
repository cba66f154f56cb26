# SPDX-License-Identifier: Apache-2.0
"""Networks of rows and sequences.

Autoencoder: MLPerf Tiny (arXiv 2106.07597). CCT-2, a compact convolutional transformer: arXiv 2104.05704. LSTM and GRU: spotters of
keywords in the 49 × 10 coefficients of DS-CNN (Hello Edge, arXiv 1711.07128).
"""

from __future__ import annotations

import numpy as np
import onnx

from models.net import Net


def autoencoder() -> onnx.ModelProto:
    net = Net("autoencoder", 640)
    for width in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        net.dense(width)
        net.norm()
        net.node("Relu")
    net.dense(640)
    return net.model()


def cct2() -> onnx.ModelProto:
    """Two encoders of two heads over 64 tokens of 64 channels, pooled by what a layer says of each."""
    net = Net("cct2", 3, 32, 32)
    tokens, width, heads = 64, 64, 2
    for channels in (32, width):
        net.conv(channels, norm=False)
        net.node("Relu")
        halved = (channels, *(size // 2 for size in net.shape[1:]))
        net.node("MaxPool", shape=halved, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    net.node("Reshape", net.integers(1, width, tokens), shape=(width, tokens))
    net.node("Transpose", shape=(tokens, width), perm=[0, 2, 1])
    net.node("Add", net.store((0.02 * net.rng.standard_normal((1, tokens, width))).astype(np.float32)))
    for _ in range(2):
        start = net.at
        _layer_norm(net)
        _attention(net, heads)
        middle = net.node("Add", start)
        _layer_norm(net)
        _linear(net, width)
        net.node("Gelu")
        _linear(net, width)
        net.node("Add", middle)
    rows = _layer_norm(net)
    _linear(net, 1)
    net.node("Softmax", axis=1)
    net.node("Transpose", shape=(1, tokens), perm=[0, 2, 1])
    net.node("MatMul", rows, shape=(1, width))
    net.node("Reshape", net.integers(1, width), shape=(width,))
    net.dense(10)
    return net.model()


def _layer_norm(net: Net) -> str:
    width = net.shape[-1]
    return net.node("LayerNormalization", net.ones(width), net.zeros(width), axis=-1)


def _linear(net: Net, outputs: int) -> str:
    inputs = net.shape[-1]
    net.node("MatMul", net.weight(inputs, outputs, fan_in=2 * inputs), shape=(*net.shape[:-1], outputs))
    return net.node("Add", net.zeros(outputs))


def _attention(net: Net, heads: int) -> str:
    """As PyTorch writes it: heads are an axis, and Q is divided by the root of their width."""
    (tokens, width), start = net.shape, net.at
    parts = []
    for turned in (False, True, False):
        net.at, net.shape = start, (tokens, width)
        _linear(net, width)
        net.node("Reshape", net.integers(1, tokens, heads, width // heads))
        parts.append(net.node("Transpose", perm=[0, 2, 3, 1] if turned else [0, 2, 1, 3]))
    q, k, v = parts
    net.node("Mul", net.number((width // heads) ** -0.5), of=q)
    net.node("MatMul", k)
    net.node("Softmax", axis=-1)
    net.node("MatMul", v)
    net.node("Transpose", perm=[0, 2, 1, 3])
    net.node("Reshape", net.integers(1, tokens, width), shape=(tokens, width))
    return _linear(net, width)


def lstm() -> onnx.ModelProto:
    return _spotter("lstm", "LSTM", 4, 32)


def gru() -> onnx.ModelProto:
    return _spotter("gru", "GRU", 3, 32)


def _spotter(name: str, op: str, gates: int, hidden: int) -> onnx.ModelProto:
    """The last step of a recurrent layer, and a classifier."""
    net = Net(name, 49, 10)
    net.node("Transpose", perm=[1, 0, 2])
    w, r = net.weight(1, gates * hidden, 10, fan_in=10), net.weight(1, gates * hidden, hidden, fan_in=2 * hidden)
    bias = net.store(np.zeros((1, 2 * gates * hidden), np.float32))
    net.nodes.append(onnx.helper.make_node(op, [net.at, w, r, bias], ["", "last"], "recurrent", hidden_size=hidden))
    net.at = "last"
    net.node("Reshape", net.integers(1, hidden), shape=(hidden,))
    net.dense(12)
    return net.model()
