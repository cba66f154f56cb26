# SPDX-License-Identifier: Apache-2.0
"""Losses with their options: value and gradient against float64 written from the papers, and what does not fit is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import sentence, succeed
from onnx_models import ModelMaker
from quant_models import int8_dense

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model, describe, write
from tinytrain.device.manifest import Manifest
from tinytrain.device.project import Project
from tinytrain.errors import ModelError, OutputError
from tinytrain.gradient.objective import losses
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.builder import Builder
from tinytrain.ir.types import Array, Role
from tinytrain.ops.dense import Dense
from tinytrain.verify.checks import GRADIENT_RTOL, check_graph

N, AT = 4, 2
WEIGHTS = (0.5, 1.0, 3.0, 0.0)


def log_softmax(z: Array) -> Array:
    return np.asarray(z - z.max() - np.log(np.exp(z - z.max()).sum()))


def smoothed(z: Array, t: Array) -> float:
    """As torch.nn.functional.cross_entropy of one sample, not divided by the weights."""
    log_p, w = log_softmax(z), np.array(WEIGHTS)
    return float(-0.9 * w[AT] * log_p[AT] - 0.1 / N * (w * log_p).sum())


# key, its options, target, loss of (output, target)
CASES: dict[str, tuple[str, dict[str, Any], Array, Callable[[Array, Array], float]]] = {
    "smoothing": ("ce", {"label_smoothing": 0.2}, np.array([AT]),
                  lambda z, t: float(-0.8 * log_softmax(z)[AT] - 0.05 * log_softmax(z).sum())),
    "weights": ("ce", {"class_weights": WEIGHTS}, np.array([AT]), lambda z, t: float(-3 * log_softmax(z)[AT])),
    "both": ("ce", {"label_smoothing": 0.1, "class_weights": WEIGHTS}, np.array([AT]), smoothed),
    "temperature": ("ce-soft", {"temperature": 4.0}, np.array([0.1, 0.2, 0.3, 0.4]),
                    lambda z, t: float(-16 * (t * log_softmax(z / 4)).sum())),
    "focal": ("focal", {"focal_gamma": 1.5}, np.array([AT]),
              lambda z, t: float(-((1 - np.exp(log_softmax(z)[AT])) ** 1.5) * log_softmax(z)[AT])),
    "focal weights": ("focal", {"class_weights": WEIGHTS}, np.array([AT]),
                      lambda z, t: float(-3 * (1 - np.exp(log_softmax(z)[AT])) ** 2 * log_softmax(z)[AT])),
    "huber": ("huber", {"huber_delta": 0.5}, np.array([0.1, 2.0, -3.0, 0.4]),
              lambda y, t: float(np.mean([0.5 * d * d if d <= 0.5 else 0.5 * (d - 0.25) for d in np.abs(y - t)]))),
    "l1": ("l1", {}, np.array([0.1, 2.0, -3.0, 0.4]), lambda y, t: float(np.abs(y - t).mean())),
}


def compiled(folder: Path, name: str, **options: Any) -> Compiled:
    key, chosen, _, _ = CASES[name]
    maker = ModelMaker(1, 3)
    maker.dense(N, 3)
    (folder / "small.onnx").write_bytes(maker.model().SerializeToString())
    return compile_model(folder / "small.onnx", Options(**{"loss": key, "loss_options": chosen, "exact_seconds": 0.0, **options}))


@pytest.mark.parametrize("name", CASES)
def test_loss_and_step_equal_float64(name: str, tmp_path: Path) -> None:
    """On the host twin, the step against central differences of the formula."""
    _, _, target, loss = CASES[name]
    write(compiled(tmp_path, name, optimiser=Optimiser(0.5)), tmp_path / "project")
    x = np.array([0.3, -1.2, 0.7], np.float32)
    t = target.astype(np.float32 if target.dtype.kind == "f" else np.int32)
    with Project.open(tmp_path / "project").session() as session:
        before = {key: array.astype(float) for key, array in session.get_params().items()}
        w, b = before["w0"].reshape(N, 3), before["w1"].ravel()
        assert session.evaluate(x, t)[0] == pytest.approx(loss(w @ x + b, target), rel=1e-5)
        assert session.train_step(x, t).loss == pytest.approx(loss(w @ x + b, target), rel=1e-5)
        moved = session.get_params()["w1"].ravel() - b
    slopes = [(loss(w @ x + b + d, target) - loss(w @ x + b - d, target)) / 2e-5 for d in 1e-5 * np.eye(N)]
    np.testing.assert_allclose(moved, -0.5 * np.array(slopes), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_gradient_of_a_model(name: str) -> None:
    key, chosen, target, _ = CASES[name]
    rng = np.random.default_rng(3)
    g = Builder("model")
    x = g.input("x", (6,))
    w = g.const("w", rng.normal(size=(N, 6)).astype(np.float32), Role.PARAM)
    loss_op, logits = losses()[key].of(**chosen), g.emit(Dense(), x, w)
    kind = loss_op.target_type(logits.type)
    loss = loss_op.emit(g, logits, g.input("target", kind.shape, kind.dtype))
    (error,) = check_graph(g.graph([loss]), loss, [w], [rng.normal(size=6), target], samples=None)
    assert error.relative <= GRADIENT_RTOL, error


@pytest.mark.parametrize("name", CASES)
def test_the_loss_by_itself_is_that_of_its_graph(name: str) -> None:
    """What tells training that got worse asks the loss directly."""
    key, chosen, target, loss = CASES[name]
    y = np.array([0.5, -1.0, 2.0, 0.1])
    assert float(losses()[key].of(**chosen).reference(y, target)[0][0]) == pytest.approx(loss(y, target))


def test_focal_keeps_its_precision_where_the_class_is_known(tmp_path: Path) -> None:
    """1 − p is 1e-9: what of it a difference would leave is nothing."""
    op = losses()["focal"].of(focal_gamma=1.0)
    z, label = np.array([20.72326583694641, 0.0]), np.array([0])
    (exact, _, slope), (single, _, found) = (op.reference(z.astype(kind), label) for kind in (np.float64, np.float32))
    assert slope[0] == pytest.approx(2e-9, rel=1e-4)
    assert found[0] == pytest.approx(slope[0], rel=0.6) and single[0] <= 1e-15 + exact[0]


def test_class_weights_must_fit_the_classes(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"loss ce does not fit the output of shape \(4,\): there are 2 class weights for 4 scores"):
        compiled(tmp_path, "weights", loss_options={"class_weights": (1.0, 2.0)})


@pytest.mark.parametrize(("options", "said"), [
    (("--loss", "mse", "--label-smoothing", 0.1), "--label-smoothing is that of --loss ce; expected none with --loss mse."),
    (("--huber-delta", 2), "--huber-delta is that of --loss huber; expected none with --loss ce."),
    (("--loss", "mse", "--class-weights", "1,2"), "--class-weights is that of --loss ce and focal; expected none with --loss mse."),
    (("--loss", "ce", "--temperature", 2), "--temperature is that of --loss ce-soft; expected none with --loss ce."),
    (("--loss", "none", "--focal-gamma", 2), "--focal-gamma has no effect with --loss none."),
    (("--label-smoothing", 1), "1.0 is not in the range"),
    (("--class-weights", "1,x"), "--class-weights 1,x: expected one number for each class, as 1,0.5,2: 0 to 1,000,000, and not all 0."),
    (("--class-weights", "1,nan"), "--class-weights 1,nan: expected one number"),
    (("--class-weights", "0,0"), "--class-weights 0,0: expected"),
])
def test_options_that_do_not_fit(options: tuple[object, ...], said: str) -> None:
    assert said in sentence("compile", "model.onnx", "-o", "out", *options)


def test_int8_gradients_name_what_they_cannot_do(tmp_path: Path) -> None:
    path = int8_dense(tmp_path)
    for loss, chosen, said in (("ce", {"label_smoothing": 0.1}, "label smoothing and class weights are"), ("focal", {}, "focal loss is")):
        with pytest.raises(ModelError, match=f"{said} computed in fp32"):
            compile_model(path, Options(loss=loss, loss_options=dict(chosen), grad="int8"))


def test_damaged_options_in_a_manifest(tmp_path: Path) -> None:
    described = describe(compiled(tmp_path, "both"))
    for damaged in ({"label_smoothing": "much"}, {"class_weights": [1, None]}, 7):
        with pytest.raises(OutputError, match=r"loss_options.* expected "):
            Manifest.of({**described, "loss_options": damaged}, tmp_path)


def test_the_command_line_from_options_to_training(tmp_path: Path) -> None:
    """Compile, train, go on; and not with another loss."""
    (tmp_path / "mlp.onnx").write_bytes(zoo.model("mlp").SerializeToString())
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 40)
    np.savez(tmp_path / "data.npz", x=(rng.normal(size=(40, 64)) + 0.3 * y[:, None]).astype(np.float32), y=y)
    train = ("train", tmp_path / "p", "--data", tmp_path / "data.npz")
    options = ("--label-smoothing", 0.1, "--class-weights", ",".join(["1"] * 9 + ["2"]), "--optimiser", "adamw", "--weight-decay", 0.01,
               "--clip-norm", 5, "--schedule", "cosine", "--schedule-steps", 100, "--warmup", 10, "--rate", "fc1=0.5", "--lr", 0.005)
    succeed("compile", tmp_path / "mlp.onnx", "-o", tmp_path / "p", *options)
    succeed(*train)
    succeed(*train, "--epochs", 2, "--resume")
    before = Manifest.read(tmp_path / "p" / "manifest.json")
    assert before.loss_options == {"label_smoothing": 0.1, "class_weights": (1.0,) * 9 + (2.0,)}
    assert np.load(tmp_path / "p" / "learned.npz")["state/update_count"] == 2 * 36, "the schedule goes on where it was"
    other = compile_model(tmp_path / "mlp.onnx", Options(loss="ce", exact_seconds=0.0))
    assert Manifest.of(describe(other), tmp_path).chosen != before.chosen
