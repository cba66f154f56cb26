# SPDX-License-Identifier: Apache-2.0
"""Gradients of whole models against PyTorch in float64, those of benchmarks/models among them; each tensor that is trained is compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_models import ModelMaker
from oracle_models import CASES, compare, drawn, trainable
from test_benchmarks import load

from tinytrain.frontend.prepare import prepare

pytest.importorskip("torch", reason="needs the extra torch")
from torch_oracle import torch_gradients

benchmarks = load("models_train")
RTOL = 1e-6                                               # of the largest entry of a gradient, in float64
RTOL_SINGLE = 1e-4                                        # in float32, as devices compute


@pytest.mark.parametrize(("make", "loss"), CASES, ids=[f"{make.__name__}-{loss}" for make, loss in CASES])
def test_gradients_of_small_models(make: Callable[[], ModelMaker], loss: str, tmp_path: Path) -> None:
    maker = make()
    model = maker.model()
    assert compare(torch_gradients, model, loss, *drawn(model, loss, maker.rng), tmp_path, rtol=RTOL) >= trainable(model)


@pytest.mark.parametrize("folded", [False, True], ids=["as-stored", "norms-folded"])
@pytest.mark.parametrize("name", benchmarks.MODELS)
def test_gradients_of_benchmark_models(name: str, folded: bool, tmp_path: Path) -> None:
    """As the file stores it, and as it is compiled: batch norms are part of the convolutions in front of them."""
    model, loss = benchmarks.MODELS[name](), benchmarks.LOSSES.get(name, "ce")
    if folded:
        onnx.save(model, tmp_path / "stored.onnx")
        model = prepare(tmp_path / "stored.onnx").model
    x, target = drawn(model, loss, np.random.default_rng(3))
    for dtype, rtol, least in ((np.float64, RTOL, 1e-6), (np.float32, RTOL_SINGLE, 1e-2)):
        assert compare(torch_gradients, model, loss, x, target, tmp_path, dtype, rtol, least) >= trainable(model)
