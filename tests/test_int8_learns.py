# SPDX-License-Identifier: Apache-2.0
"""An int8 network learns what the fp32 network does, with each optimiser at the tool's defaults and at fp32's learning rate."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tinytrain import zoo
from tinytrain.compiler import Gradients, Options, load_forward, lowered
from tinytrain.gradient.train_step import build_program
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.graph import Graph
from tinytrain.ir.types import Array
from tinytrain.quantise.convert import quantise_model
from tinytrain.quantise.lockstep import Options as QuantiseOptions
from tinytrain.report.live import Quiet
from tinytrain.schemes.scheme import resolve
from tinytrain.verify.reference import ReferenceModel

OPTIMISERS = {
    "sgd": Optimiser(0.01),
    "momentum": Optimiser(0.003, 0.9),
    "nesterov": Optimiser(0.003, 0.9, nesterov=True),
    "momentum_int8": Optimiser(0.003, 0.9, int8_momentum=True),
    "nesterov_int8": Optimiser(0.003, 0.9, nesterov=True, int8_momentum=True),
    "decay": Optimiser(0.003, 0.9, weight_decay=1e-3),
    "adam": Optimiser(0.003, kind="adam"),
    "adam_sums": Optimiser(0.006, kind="adamw", accumulate=4, weight_decay=1e-3),
}


def samples(count: int, seed: int) -> tuple[Array, Array]:
    """Ten classes around seeded centres."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 10, count).astype(np.int32)
    centres = np.random.default_rng(0).normal(0, 1, (10, 64))
    return (centres[y] + rng.normal(0, 1.0, (count, 64))).astype(np.float32), y


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Graph]:
    """The built-in MLP, untrained, in fp32 and in int8."""
    folder = tmp_path_factory.mktemp("learns")
    onnx.save(zoo.model("mlp"), folder / "fp32.onnx")
    np.savez(folder / "data.npz", x=samples(100, 1)[0])
    onnx.save(quantise_model(folder / "fp32.onnx", folder / "data.npz", QuantiseOptions(), Quiet()).model, folder / "int8.onnx")
    return {kind: load_forward(folder / f"{kind}.onnx", Options())[2] for kind in ("fp32", "int8")}


def accuracy(network: Graph, optimiser: Optimiser, grad: Gradients = "fp32") -> float:
    """On samples that were not seen, after 250 that were."""
    options = Options(optimiser=optimiser, grad=grad)
    model = ReferenceModel(lowered(build_program(network, "ce", resolve("full", network), options.rule), options))
    for x, y in zip(*samples(250, 2), strict=True):
        model.train_step(x, np.array([y]))
    return float(np.mean([model.infer(x).argmax() == y for x, y in zip(*samples(100, 3), strict=True)]))


@pytest.mark.parametrize("name", OPTIMISERS)
def test_like_fp32(name: str, networks: dict[str, Graph]) -> None:
    real, stored = (accuracy(network, OPTIMISERS[name]) for network in networks.values())
    assert real >= 0.9, "the task is too hard: the test shows nothing"
    assert stored >= real - 0.06


@pytest.mark.parametrize(("name", "grad"), [
    ("momentum", "fp16"), ("adam", "fp16"), ("sgd", "int8"), ("momentum_int8", "int8"), ("nesterov_int8", "int8"),
])
def test_other_gradients_too(name: str, grad: Gradients, networks: dict[str, Graph]) -> None:
    assert accuracy(networks["int8"], OPTIMISERS[name], grad) >= 0.9
