# SPDX-License-Identifier: Apache-2.0
"""Eleven small networks of the kinds that people train on microcontrollers, with seeded weights, as ONNX models with a batch of 1."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from models.maps import cnn_1d, dscnn, mcunet, mobilenet_v1, mobilenet_v2, proxyless, resnet8
from models.sequences import autoencoder, cct2, gru, lstm

MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "resnet8": resnet8, "dscnn": dscnn, "mobilenet_v1": mobilenet_v1, "mobilenet_v2": mobilenet_v2, "proxyless": proxyless,
    "mcunet": mcunet, "cnn_1d": cnn_1d, "autoencoder": autoencoder, "cct2": cct2, "lstm": lstm, "gru": gru,
}
LOSSES = {"autoencoder": "mse"}                           # of all others: ce
