# SPDX-License-Identifier: Apache-2.0
"""Small PyTorch networks of the kinds that people bring, and both of PyTorch's ways to export them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Network:
    """`inputs` are shapes without the batch; `loss` is as on the command line, with a target of a class or of the output's shape."""

    make: Callable[[], nn.Module]
    inputs: Shapes
    loss: str = "ce"
    classes: int = 0                                      # of integer inputs: numbers below it
    opset: int = 13                                       # PyTorch exports it from this one on
    apart: bool = False                                   # the newer exporter stores what it computes of a bias beside that


class Residual(nn.Module):
    """A block of MobileNetV3: depthwise, squeezed and excited, added to what it reads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide = nn.Sequential(nn.Conv2d(width, 2 * width, 1, bias=False), nn.BatchNorm2d(2 * width), nn.Hardswish())
        self.deep = nn.Sequential(nn.Conv2d(2 * width, 2 * width, 5, padding=2, groups=2 * width), nn.BatchNorm2d(2 * width), nn.SiLU())
        squeezed = (nn.AdaptiveAvgPool2d(1), nn.Conv2d(2 * width, 4, 1), nn.ReLU(), nn.Conv2d(4, 2 * width, 1), nn.Hardsigmoid())
        self.excite = nn.Sequential(*squeezed)
        self.narrow = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.deep(self.wide(x))
        return x + self.narrow(y * self.excite(y))


class Tokens(nn.Module):
    """Patches as tokens, places added, encoders, a mean over tokens, a classifier."""

    def __init__(self, *encoders: nn.Module) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 12, 4, stride=4)
        self.places = nn.Parameter(0.1 * torch.randn(1, 4, 12))
        self.encoders = nn.Sequential(*encoders)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.places
        return self.head(self.encoders(tokens).mean(1))


class Attention(nn.Module):
    """As published transformers write it: one layer for queries, keys and values, which are split; scaled products of them."""

    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.before, self.all, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        three = self.all(self.before(x)).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = three.unbind(0)
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            mixed = (q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(-1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.mlp(x)


class Last(nn.Module):
    """A recurrent layer, and a classifier of its last step."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Words(nn.Module):
    """Numbers of words, embedded; a recurrent layer's final state."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer, self.head = nn.Embedding(11, 6), nn.GRU(6, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.layer(self.table(words))[1][-1])


class Two(nn.Module):
    """A picture and a vector give a class and a box."""

    def __init__(self) -> None:
        super().__init__()
        self.eye, self.arm = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten()), nn.Linear(5, 7)
        self.label, self.box = nn.Linear(71, 3), nn.Linear(71, 4)

    def forward(self, image: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat([self.eye(image), torch.tanh(self.arm(state))], 1)
        return self.label(joined), self.box(joined)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1),
        nn.BatchNorm2d(8), nn.ReLU6(), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(8 * 4, 3),
    )


def mobile() -> nn.Module:
    first = (nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.Hardswish())
    return nn.Sequential(*first, Residual(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


def encoder() -> nn.Module:
    return Tokens(nn.TransformerEncoderLayer(12, 2, 20, activation="gelu", batch_first=True))


def attention() -> nn.Module:
    return Tokens(Attention(12, 2, fused=True), Attention(12, 3, fused=True))


def products() -> nn.Module:
    return Tokens(Attention(12, 2, fused=False))


def lstm() -> nn.Module:
    return Last(nn.LSTM(6, 5, batch_first=True), 5)


def lstms() -> nn.Module:
    return Last(nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True), 10)


def gru() -> nn.Module:
    return Last(nn.GRU(6, 5, batch_first=True), 5)


def rnn() -> nn.Module:
    return Last(nn.RNN(6, 5, batch_first=True), 5)


def autoencoder() -> nn.Module:
    down = (nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.Softplus())
    up = (nn.ConvTranspose2d(6, 4, 2, stride=2), nn.SELU(), nn.Upsample(scale_factor=2), nn.Conv2d(4, 1, 3, padding=1), nn.Sigmoid())
    return nn.Sequential(*down, *up)


def upsampler() -> nn.Module:
    up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ELU(), up, nn.ConvTranspose2d(4, 1, 3, stride=2, padding=1, output_padding=1))


def row() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 8, 5, stride=2), nn.GroupNorm(2, 8), nn.PReLU(8), nn.Conv1d(8, 8, 3, padding=2, dilation=2, groups=4),
        nn.InstanceNorm1d(8, affine=True), nn.Mish(), nn.MaxPool1d(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 3),
        nn.LogSoftmax(-1),
    )


NETWORKS = {
    "mlp": Network(mlp, ((10,),)), "cnn": Network(cnn, ((2, 8, 8),)), "mobile": Network(mobile, ((3, 8, 8),)),
    "encoder": Network(encoder, ((1, 8, 8),), opset=14), "attention": Network(attention, ((1, 8, 8),), opset=14),
    "products": Network(products, ((1, 8, 8),)),
    "lstm": Network(lstm, ((7, 6),)), "lstms": Network(lstms, ((4, 6),)), "gru": Network(gru, ((7, 6),)),
    "rnn": Network(rnn, ((4, 6),), apart=True),
    "autoencoder": Network(autoencoder, ((1, 8, 8),), "mse"), "upsampler": Network(upsampler, ((2, 4, 5),), "mse"),
    "row": Network(row, ((3, 25),)), "words": Network(Words, ((6,),), classes=11), "two": Network(Two, ((1, 6, 6), (5,)), "ce,mse"),
}


def fused(model: nn.Module) -> nn.Module:
    """As both exporters write it: batch norms are part of the convolutions in front of them."""
    for block in model.modules():
        named = list(block.named_children()) if isinstance(block, nn.Sequential) else []
        for (name, conv), (behind, norm) in pairwise(named):
            if isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d):
                setattr(block, name, fuse_conv_bn_eval(conv, norm).requires_grad_())
                setattr(block, behind, nn.Identity())
    return model


def pretrained(model: nn.Module) -> nn.Module:
    """As if it had learned: no two tensors are equal, and none is zeros that an exporter leaves out."""
    for tensor in (*model.parameters(), *(buffer for buffer in model.buffers() if buffer.is_floating_point())):
        tensor.data += 0.1 * torch.rand(tensor.shape)
    return model


def examples(network: Network, batch: int) -> tuple[Tensor, ...]:
    if network.classes:
        return tuple(torch.randint(network.classes, (batch, *shape)) for shape in network.inputs)
    return tuple(torch.randn(batch, *shape) for shape in network.inputs)


def export(network: Network, model: nn.Module, path: Path, opset: int, *, dynamo: bool, dynamic: bool) -> None:
    """The model as a file, with a batch that is open or 1."""
    given = examples(network, 2 if dynamic else 1)
    inputs = [f"x{i}" for i in range(len(given))]
    options: dict[str, Any] = {"opset_version": opset, "dynamo": dynamo, "input_names": inputs}
    if len(network.loss.split(",")) > 1:
        options["output_names"] = [f"y{i}" for i in range(len(network.loss.split(",")))]
    if dynamic and dynamo:
        batch = torch.export.Dim("batch", min=1, max=64)
        options["dynamic_shapes"] = tuple({0: batch} for _ in given)
    elif dynamic:
        options["dynamic_axes"] = {name: {0: "batch"} for name in inputs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, given, path, **options)
