# SPDX-License-Identifier: Apache-2.0
"""What tf2onnx writes of small Keras networks compiles, computes and learns on the device as the network does in TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import RATE, Trace, compiled_from, learns_as

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tf2onnx = pytest.importorskip("tf2onnx", reason="needs the extra exporters")
tf = pytest.importorskip("tensorflow", reason="needs the extra exporters")
keras = pytest.importorskip("keras", reason="needs the extra exporters")
layers = keras.layers
STEPS = 4
# Written as loops where they are no LSTM: what the first step makes of a state of zeros is stored, and trained beside that.
RECURRENT = ("gru", "rnn", "lstm", "lstms")


def chain(*shape: int) -> Callable[..., Any]:
    return lambda *inner: keras.Sequential([layers.Input(shape), *inner])


def encoder() -> Any:
    x = layers.Input((4, 12))
    y = layers.Add()([x, layers.MultiHeadAttention(2, 6)(z := layers.LayerNormalization()(x), z)])
    y = layers.Add()([y, layers.Dense(12, "relu")(layers.LayerNormalization()(y))])
    return keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling1D()(y)))


NETWORKS: dict[str, tuple[Callable[[], Any], str]] = {
    "mlp": (lambda: chain(10)(layers.Dense(16, "relu"), layers.Dropout(0.2), layers.Dense(3, "softmax")), "ce"),
    "cnn": (lambda: chain(8, 8, 2)(
        layers.Conv2D(6, 3, padding="same"), layers.ReLU(), layers.MaxPooling2D(), layers.DepthwiseConv2D(3, strides=2, padding="same"),
        layers.ReLU(6.0), layers.Conv2D(8, 1, activation="silu"), layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax"),
    ), "ce"),
    "flat": (lambda: chain(8, 8, 2)(
        layers.Conv2D(4, 3, strides=2, padding="same", activation="elu"), layers.AveragePooling2D(2), layers.Flatten(), layers.Dense(3),
    ), "ce"),
    "row": (lambda: chain(20, 3)(
        layers.Conv1D(8, 5, activation="relu"), layers.MaxPooling1D(), layers.Conv1D(4, 3, padding="causal"),
        layers.GlobalAveragePooling1D(), layers.Dense(3, "softmax"),
    ), "ce"),
    "lstm": (lambda: chain(7, 6)(layers.LSTM(5), layers.Dense(3, "softmax")), "ce"),
    "lstms": (lambda: chain(4, 6)(layers.Bidirectional(layers.LSTM(5, return_sequences=True)), layers.LSTM(4), layers.Dense(3)), "ce"),
    "gru": (lambda: chain(5, 6)(layers.GRU(4), layers.Dense(3, "softmax")), "ce"),
    "rnn": (lambda: chain(4, 6)(layers.SimpleRNN(5, return_sequences=True), layers.Flatten(), layers.Dense(3)), "ce"),
    "decoder": (lambda: chain(4, 4, 2)(
        layers.Conv2DTranspose(4, 3, strides=2, padding="same"), layers.LeakyReLU(negative_slope=0.1), layers.UpSampling2D(),
        layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
    ), "mse"),
    "encoder": (encoder, "ce"),
}


def made(name: str) -> tuple[Any, str]:
    keras.utils.set_random_seed(1)
    make, loss = NETWORKS[name]
    model = make()
    rng = np.random.default_rng(1)
    model.set_weights([w + 0.1 * rng.random(w.shape).astype(np.float32) for w in model.get_weights()])
    return model, loss


def exported(model: Any, path: Path, opset: int, batch: int | None) -> Path:
    called = tf.function(lambda x: model(x, training=False))
    given = tf.TensorSpec((batch, *model.inputs[0].shape[1:]), tf.float32, name="x")
    tf2onnx.convert.from_function(called, input_signature=[given], opset=opset, output_path=str(path))
    return path


def learned(model: Any, loss: str, two_biases: bool) -> Trace:
    """By plain descent; ONNX has two of the bias of an LSTM, and both learn."""
    rng = np.random.default_rng(2)
    ends = model.layers[-1].activation is keras.activations.softmax
    samples = [(rng.normal(size=(1, *model.inputs[0].shape[1:])).astype(np.float32),) for _ in range(STEPS)]
    before = model(samples[0][0]).numpy()
    targets = [(np.array(rng.integers(3)) if loss == "ce" else rng.random(before.shape).astype(np.float32),) for _ in samples]
    losses = []
    for (x,), (target,) in zip(samples, targets, strict=True):
        with tf.GradientTape() as tape:
            y = model(x, training=False)
            if loss == "ce":
                total = keras.losses.sparse_categorical_crossentropy(target[None], y, from_logits=not ends)[0]
            else:
                total = tf.reduce_mean((y - target) ** 2)
        for weight, grad in zip(model.trainable_variables, tape.gradient(total, model.trainable_variables), strict=True):
            twice = two_biases and "lstm" in weight.path and len(weight.shape) == 1
            weight.assign_sub(RATE * (1 + twice) * grad)
        losses.append(float(total))
    return Trace(samples, targets, (before,), losses, (model(samples[0][0]).numpy(),))


@pytest.mark.parametrize(("opset", "batch"), [(13, None), (17, 1), (18, None)])
@pytest.mark.parametrize("name", NETWORKS)
def test_learns_as_in_tensorflow(name: str, opset: int, batch: int | None, tmp_path: Path) -> None:
    model, loss = made(name)
    compiled = compiled_from(exported(model, tmp_path / "model.onnx", opset, batch), loss)
    two_biases = any(n.op.name == "lstm" for n in compiled.program.entries["infer"].nodes)
    looped = name in RECURRENT and not two_biases
    assert looped or all(one.decided for one in compiled.frozen)
    if name in ("cnn", "flat", "row"):                    # channels are last in both
        assert not [n for n in compiled.program.entries["train"].nodes if n.op.name == "transpose"]
    learns_as(compiled, learned(model, loss, two_biases), tmp_path, exactly=not looped)
