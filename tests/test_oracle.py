# SPDX-License-Identifier: Apache-2.0
"""Gradients of whole models against TVM Relax, which shares no code with tinytrain: importer, rules and kernels are all its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import ModelMaker
from oracle_models import CASES, compare, drawn, off_kinks, trainable
from test_benchmarks import load

from tinytrain.ir.op import Declined
from tinytrain.verify.oracle import tvm_gradients

pytest.importorskip("tvm", reason="needs the extra tvm")
benchmarks = load("models_train")
LARGE = ("resnet8", "mobilenet_v1", "mobilenet_v2", "proxyless", "mcunet")


@pytest.mark.parametrize(("make", "loss"), CASES, ids=[f"{make.__name__}-{loss}" for make, loss in CASES])
def test_gradients_equal_those_of_tvm(make: Callable[[], ModelMaker], loss: str, tmp_path: Path) -> None:
    maker = make()
    model = maker.model()
    names = compare(tvm_gradients, model, loss, *drawn(model, loss, maker.rng), tmp_path)
    assert names >= trainable(model), f"not trainable: {trainable(model) - names}"


@pytest.mark.parametrize(("name", "shape", "loss"), [
    ("mlperf_kws_dscnn_bn", (1, 1, 49, 10), "ce"),
    ("mlperf_ad_fcae_bn", (1, 640), "mse"),
    pytest.param("mlperf_ic_resnet8_bn", (1, 3, 32, 32), "ce"),
    pytest.param("mlperf_vww_mbv1_025_bn", (1, 3, 96, 96), "ce", marks=pytest.mark.long),
])
def test_gradients_of_published_models(name: str, shape: tuple[int, ...], loss: str, shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "models" / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"needs {path.name}")
    rng = np.random.default_rng(7)
    x = rng.normal(size=shape)
    target = np.array([1]) if loss == "ce" else rng.normal(size=shape[1])
    assert compare(tvm_gradients, onnx.load(path), loss, x, target, tmp_path)


@pytest.mark.parametrize("name", ["dscnn", "autoencoder", *(pytest.param(name, marks=pytest.mark.long) for name in LARGE)])
def test_gradients_of_benchmark_models(name: str, tmp_path: Path) -> None:
    rng, loss = np.random.default_rng(3), benchmarks.LOSSES.get(name, "ce")
    model = off_kinks(benchmarks.MODELS[name](), rng)
    assert compare(tvm_gradients, model, loss, *drawn(model, loss, rng), tmp_path) >= trainable(model)


@pytest.mark.parametrize("name", ["cnn_1d", "cct2", "lstm", "gru"])
def test_benchmark_models_that_tvm_declines(name: str) -> None:
    model = benchmarks.MODELS[name]()
    assert isinstance(tvm_gradients(model, "ce", *drawn(model, "ce", np.random.default_rng(3)), {}), Declined)


DECLINED: list[tuple[str, dict[str, Any], str]] = [
    ("Conv", {"kernel_shape": [3, 3], "dilations": [2, 2]}, "dilated"),
    ("Conv", {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"}, "SAME"),
    ("MaxPool", {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"}, "SAME"),
]


@pytest.mark.parametrize(("op", "attributes", "word"), DECLINED, ids=[f"{op}-{word}" for op, _, word in DECLINED])
def test_what_tvm_cannot_is_declined_by_name(op: str, attributes: dict[str, Any], word: str) -> None:
    maker = ModelMaker(1, 2, 8, 8)
    out = maker.node(op, *([maker.weight(2, 2, 3, 3)] if op == "Conv" else []), **attributes)
    maker.node("GlobalAveragePool")
    maker.node("Flatten")
    answer = tvm_gradients(maker.model(), "mse", np.zeros((1, 2, 8, 8)), np.zeros(2), {})
    assert isinstance(answer, Declined)
    assert f"n_{out} ({op})" in answer.why and word in answer.why
