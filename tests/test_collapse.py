# SPDX-License-Identifier: Apache-2.0
"""Trainings that fail though every number stays finite: told, with what is likely to be wrong; what was there before stays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_runs import run, save_data, save_model, sentence, succeed, tree
from numpy_device import made, on_numpy

import tinytrain as tt
from tinytrain.compiler import Compiled, Options, compile_model
from tinytrain.errors import LearningError
from tinytrain.learn.collapse import Unlearned
from tinytrain.learn.yardstick import Blind
from tinytrain.quantise import lockstep
from tinytrain.quantise.convert import quantise_model
from tinytrain.report.live import Quiet

COUNT = 200


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Compiled]:
    """A float network that was not trained yet, and one of int8 that knows other classes than the data now have."""
    folder = tmp_path_factory.mktemp("models")
    fp32 = made(save_model(folder), folder / "fp32")
    data = save_data(folder / "d.npz", count=COUNT)
    with pytest.MonkeyPatch.context() as patch:
        on_numpy(patch, fp32)
        with tt.open(folder / "fp32").device() as device:
            file = np.load(data)
            device.train(file["x"], (file["y"] + 1) % 10, epochs=2)
            device.save(folder / "trained.onnx")
    converted = quantise_model(folder / "trained.onnx", data, lockstep.Options(), Quiet())
    (folder / "int8.onnx").write_bytes(converted.model.SerializeToString())
    options = {"int8": Options(exact_seconds=0.0), "no-qas": Options(exact_seconds=0.0, qas=False)}
    compiled = {name: compile_model(folder / "int8.onnx", chosen) for name, chosen in options.items()}
    return {"fp32": fp32, **compiled, "trained": compile_model(folder / "trained.onnx", Options(exact_seconds=0.0))}


def project(models: dict[str, Compiled], name: str, folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """With something that an earlier training has left, and data beside it as d.npz."""
    compiled = models[name]
    made(compiled.prepared.path, folder / "out", qas=compiled.options.qas)
    save_data(folder / "d.npz", count=COUNT)
    on_numpy(patch, compiled)
    for file in ("learned.npz", "learned.onnx", "history.json"):
        (folder / "out" / file).write_bytes(b"of an earlier training")
    return folder / "out"


def changed(folder: Path, **arrays: np.ndarray) -> None:
    with np.load(folder / "d.npz") as file:
        np.savez(folder / "d.npz", **{"x": file["x"], "y": file["y"], **arrays})  # type: ignore[arg-type]


def pixels(folder: Path) -> None:
    """Whole numbers from 0 to 255, as an image has them."""
    with np.load(folder / "d.npz") as file:
        x, y = file["x"], file["y"]
    changed(folder, x=np.round(255 * np.clip((x + 3) / 6, 0, 1)).astype(np.uint8), y=y)


def random_labels(folder: Path) -> None:
    changed(folder, y=np.random.default_rng(1).integers(0, 10, COUNT))


def one_class(folder: Path) -> None:
    changed(folder, y=np.zeros(COUNT, np.int64))


def weights(out: Path) -> dict[str, bytes]:
    with np.load(out / "learned.npz") as file:
        return {name: file[name].tobytes() for name in file.files if not name.startswith(("record", "state/"))}


def as_they_are(folder: Path) -> None:
    pass


FAILURES = {
    "raw pixels": ("fp32", pixels, (), ("Values of the samples reach 255.", "--scale 1/255")),
    "rate": ("fp32", as_they_are, ("--lr", 1e6), ("lower learning rate (--lr)",)),
    "rate, int8": ("int8", as_they_are, ("--lr", 1e6), ("are at the ends of their range", "Try a lower learning rate (--lr).")),
    "no QAS": ("no-qas", as_they_are, (), ("updates round to nothing", "Try a higher learning rate (--lr), or `compile` without --no-qas")),
    "small rate": ("int8", as_they_are, ("--lr", 1e-9), ("updates round to nothing", "a higher learning rate")),
    "no change": ("trained", as_they_are, ("--lr", 1e-30), ("0.0% of the", "a higher learning rate")),
    "one class": ("fp32", one_class, (), ("All samples that were looked at are of one class.", "Try samples of all classes, mixed.")),
    "labels by chance": ("fp32", random_labels, (), ("has learned nothing that shows: after epoch 2", "Try more epochs")),
    "all skipped": ("fp32", as_they_are, ("--skip-below", 100), ("180 of 180 samples of the last epoch", "a lower --skip-below.")),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_training_that_fails_says_so_and_replaces_nothing(
    case: str, models: dict[str, Compiled], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, change, options, said = FAILURES[case]
    out = project(models, name, tmp_path, monkeypatch)
    change(tmp_path)
    before = tree(out)
    text = sentence("train", out, "--data", tmp_path / "d.npz", "--epochs", 2, "--force", *options, exit_code=3)
    assert all(part in text for part in said), text
    assert tree(out) == before


@pytest.mark.parametrize("name", ["fp32", "int8", "trained"])
def test_a_training_that_learns_is_kept(
    name: str, models: dict[str, Compiled], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from a file that has one class behind the other: samples are mixed."""
    out = project(models, name, tmp_path, monkeypatch)
    with np.load(tmp_path / "d.npz") as file:
        order = np.argsort(file["y"], kind="stable")
        changed(tmp_path, x=file["x"][order], y=file["y"][order])
    succeed("train", out, "--data", tmp_path / "d.npz", "--epochs", 3, "--force")
    assert json.loads((out / "history.json").read_text())["epochs"][-1]["accuracy"] > 0.5


def test_classes_that_arrive_one_by_one_are_told_or_shown_by_validation_samples(
    models: dict[str, Compiled], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples of one class show nothing; those of all classes that validate do, until the others are forgotten."""
    out = project(models, "fp32", tmp_path, monkeypatch)
    all_of = tmp_path / "d.npz"
    succeed("train", out, "--data", all_of, "--force")
    with np.load(all_of) as file:
        for label in range(3):
            of = file["y"] == label
            np.savez(tmp_path / f"{label}.npz", x=file["x"][of], y=file["y"][of])
    call = ("--resume", "--changed", "--validation", all_of)
    succeed("train", out, "--data", tmp_path / "0.npz", *call, "--epochs", 2, "--lr", 1e-4)
    kept = weights(out)
    text = sentence("train", out, "--data", tmp_path / "1.npz", *call, "--epochs", 4, "--lr", 1, "--schedule", "constant", exit_code=3)
    assert "All samples that were looked at are of one class." in text
    assert kept == weights(out), "what was kept is of before they were forgotten"


def test_a_model_that_told_samples_apart_goes_back_to_what_it_knew(
    models: dict[str, Compiled], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From Python: one that never did keeps what it has learned so far, so that training epoch by epoch comes to something."""
    out = project(models, "fp32", tmp_path, monkeypatch)
    with np.load(tmp_path / "d.npz") as file:
        x, y = file["x"], file["y"]
    with tt.open(out).device() as device:
        start = device.weights()
        for _ in range(40):
            try:
                device.train(x, y, lr=1e-4, seed=1)
            except Unlearned:
                assert any((device.weights()[name] != array).any() for name, array in start.items())
            else:
                break
        good = device.weights()
        with pytest.raises(LearningError, match="same answer to all"):
            device.train(x, y, lr=0.2)
        assert all(np.array_equal(array, good[name]) for name, array in device.weights().items())


def test_few_samples_tell_nothing(models: dict[str, Compiled], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = project(models, "fp32", tmp_path, monkeypatch)
    random_labels(tmp_path)
    succeed("train", out, "--data", tmp_path / "d.npz", "--force", "--limit", 25)


def test_json_says_what_people_read(models: dict[str, Compiled], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = project(models, "fp32", tmp_path, monkeypatch)
    pixels(tmp_path)
    result = run("train", out, "--data", tmp_path / "d.npz", "--force", "--json", "--lr", 0.03)
    said = json.loads(result.stdout)
    assert result.exit_code == 3 and said["schema"] == "tinytrain/error/1" and "Values of the samples reach 255." in said["details"]


@pytest.mark.parametrize(("blind", "loss", "right", "shown"), [
    (Blind(2.3, 2.28, 50, 7), 2.3, 7, False), (Blind(2.3, 2.28, 50, 7), 2.3, 12, False), (Blind(2.3, 2.28, 50, 7), 11.0, 20, True),
    (Blind(2.3, 2.28, 50, 7), 1.9, 7, True), (Blind(2.3, 1e-5, 50, 50), 1e-9, 50, False),
    (Blind(0.7, 0.2, 100, 95), 0.19, 95, False), (Blind(0.7, 0.2, 100, 95), 0.15, 95, True),     # a rare class
    (Blind(1.0, 0.5, 50, None), 0.5, None, False), (Blind(1.0, 0.5, 50, None), 0.48, None, True),
])
def test_what_shows_that_a_model_looks_at_samples(blind: Blind, loss: float, right: int | None, shown: bool) -> None:
    assert blind.exceeded(loss, right) is shown


def test_dead_units_are_those_of_a_layer(models: dict[str, Compiled], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Biases far below zero, before training begins: nothing comes through, and nothing goes back."""
    out = project(models, "trained", tmp_path, monkeypatch)
    with tt.open(out).device() as device:
        weights = device.session.get_params()
        device.session.set_params({name: array - 1e3 if "bias" in name and "fc1" in name else array for name, array in weights.items()})
        with np.load(tmp_path / "d.npz") as file, pytest.raises(Unlearned) as told:
            device.train(file["x"], file["y"], lr=1e-6)
    assert any("32 of 32 units of fc1 give the same for all samples." in line for line in told.value.details), told.value.details
