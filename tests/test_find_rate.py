# SPDX-License-Identifier: Apache-2.0
"""What samples decide: the learning rate, and the weights of classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_runs import run, save_data, save_model, sentence, succeed

import tinytrain as tt
from tinytrain.errors import DataError, TinytrainError, ToolError
from tinytrain.learn.find_rate import RateCurve, RateSearch, Trial


def curve(*losses: float | None, before: float = 2.0, held: int = 50) -> RateCurve:
    return RateCurve(before, before, tuple(Trial(10.0**i, loss, None) for i, loss in enumerate(losses)), 10, held)


@pytest.mark.parametrize(("found", "rate", "doubt"), [
    (curve(1.9, 1.0, 0.2, 0.05, None), 100.0, None),
    (curve(1.9, 1.0, 0.5, 0.05, 1.0), 1000.0, None),
    (curve(0.2, 0.1, 0.15), 1.0, "the smallest rate is good enough"),
    (curve(1.9, 1.0, 0.2), 100.0, "the largest rate is the best"),
    (curve(1.9, 1.0, 0.2, 0.05, None, held=1), 100.0, "1 samples decide, which may be chance: give more, 150 in all"),
])
def test_the_smallest_rate_that_is_nearly_as_good_is_suggested(found: RateCurve, rate: float, doubt: str | None) -> None:
    """Nine tenths of what the loss of the best one falls by are enough: right below the rate that breaks down nobody is safe."""
    assert found.suggestion == rate
    assert (found.doubt or "").startswith(doubt or "") and (found.doubt is None) == (doubt is None)


def test_rates_are_evenly_spread() -> None:
    assert RateSearch(1e-3, 0.1).rates == [0.001, 0.0032, 0.01, 0.032, 0.1]
    assert RateSearch(0.01, 0.01).rates == [0.01]
    with pytest.raises(TinytrainError, match=r"--from 1 lies above --to 0\.1"):
        RateSearch(1.0, 0.1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model; beside it d.npz, 100 samples to learn from."""
    folder = tmp_path_factory.mktemp("rates")
    save_data(folder / "d.npz", count=100)
    return save_model(folder)


def test_a_rate_that_suits_is_found(model: Path, tmp_path: Path) -> None:
    """Twice the same; larger rates are left out behind one that breaks down; `compile --lr auto` takes it, and so does Python."""
    pytest.importorskip("matplotlib")
    data, call = model.parent / "d.npz", ("lr", model, "--data", model.parent / "d.npz", "--steps", 100, "--from", 1e-3)
    text = succeed(*call, "--plot", tmp_path / "curve.png")
    rows = [line.split() for line in text.splitlines() if line[:1].isdigit()]
    assert text == succeed(*call, "--plot", tmp_path / "curve.png")
    assert f"suggested  --lr {next(row[0] for row in rows if row[-1] == '<')}" in text
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    said = json.loads(run(*call, "--json").stdout)
    assert said["schema"] == "tinytrain/lr/1" and len(said["trials"]) == len(rows)
    falls = [trial["loss"] is not None and trial["loss"] < said["start"] for trial in said["trials"]]
    assert all(falls[falls.index(True) : -1]), "what breaks down is the last"
    text = succeed("compile", model, "--data", data, "--lr", "auto", "--schedule", "step", "--schedule-steps", 500, "--no-build", "-o",
                   tmp_path / "out")
    rate = json.loads((tmp_path / "out" / "manifest.json").read_text())["optimiser"]["learning_rate"]
    assert f"rate       {rate:g} suits" in text
    assert tt.load(model).find_rate(data).suggestion == rate
    assert tt.load(model).compile(calibration=data, lr="auto").project.manifest.learning_rate == rate


def test_the_least_rate_is_compared_with_the_one_that_is_found(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with the rate that is compiled by default, which nobody gave."""
    found = curve(1.9, 1.0, 0.2, 0.05, None)              # suggests 100
    monkeypatch.setattr("tinytrain.api.model.found_rate", lambda *_: found)
    course = {"lr": "auto", "schedule": "cosine", "schedule_steps": 50}
    build = tt.load(model).compile(calibration=model.parent / "d.npz", lr_min=20.0, **course)  # type: ignore[arg-type]
    assert build.project.manifest.learning_rate == 100
    with pytest.raises(TinytrainError, match=r"--lr-min 200 lies above --lr 100; expected that or less\."):
        tt.load(model).compile(calibration=model.parent / "d.npz", lr_min=200.0, **course)  # type: ignore[arg-type]


def test_weights_that_balance_classes(model: Path, tmp_path: Path) -> None:
    """n/(C·n_c): as many of each class weigh 1; of int8 models too, which are calibrated by the same samples."""
    x, y = np.zeros((110, 64), np.float32), np.append(np.arange(100) % 10, [0] * 10)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    text = succeed("compile", model, "--data", tmp_path / "d.npz", "--class-weights", "balanced", "--no-build", "-o", tmp_path / "out")
    assert "weights    0.55, 1.1, 1.1" in text
    options = json.loads((tmp_path / "out" / "manifest.json").read_text())["loss_options"]
    assert options == {"class_weights": [0.55, *[1.1] * 9]}
    x = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    quantised = tt.load(model).compile(dtype="int8", calibration=(x, y), class_weights="balanced", loss="focal")
    assert quantised.compiled.options.loss_options["class_weights"] == (0.55, *[1.1] * 9)
    for more in ({"scheme": "last:auto"}, {"scheme": "full", "method": "lowrank:auto"}):     # what these come to depends on the weights
        made = tt.load(model).compile("mps2-an386", calibration=(x, y), class_weights="balanced", **more)   # type: ignore[arg-type]
        assert made.compiled.options.loss_options["class_weights"] == (0.55, *[1.1] * 9)
    with pytest.raises(DataError, match=r"data has no sample of class 9, whose weight is to be found"):
        tt.load(model).compile(calibration=(x[:9], y[:9]), class_weights="balanced")


@pytest.mark.parametrize(("call", "said"), [
    (("compile", "--lr", "auto", "-o", "out"), "--lr auto is found by samples, and there are none.\nGive --data."),
    (("compile", "--class-weights", "balanced", "-o", "out"), "--class-weights balanced is found by samples, and there are none."),
    (("compile", "--lr", "auto", "--data", "d.npz", "--fp16-tolerance", 0.1, "-o", "out"), "--fp16-tolerance has no effect with --dtype"),
    (("compile", "--lr", "fast", "-o", "out"), "'fast' is not a valid"),
    (("contribution", "--data", "d.npz", "--lr", "auto", "-o", "out"), "--lr auto is found by samples; expected a number here."),
    (("lr", "--data", "d.npz", "--from", 1, "--to", 0.1), "--from 1 lies above --to 0.1"),
    (("lr", "--data", "d.npz", "--lr", 0.1), "No such option '--lr'."),
    (("lr", "--data", "d.npz", "--schedule", "step"), "No such option '--schedule'."),
    (("lr", "--data", "d.npz", "--accumulate", 200), "There are 100 samples to find a learning rate by; expected 400 at least."),
])
def test_what_cannot_be_found(call: tuple[object, ...], said: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    assert said in sentence(call[0], model, *call[1:])


def test_the_steps_are_those_that_were_made(model: Path) -> None:
    """Whole epochs of the 80 samples that are not held back."""
    assert tt.load(model).find_rate(model.parent / "d.npz", search=RateSearch(0.01, 0.01, steps=300)).steps == 320


def test_a_loss_without_labels_tells_nothing(model: Path, tmp_path: Path) -> None:
    """It falls furthest where all samples are said to be of one class."""
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).normal(size=(100, 64)))
    for call in (("lr", model), ("compile", model, "--lr", "auto", "-o", tmp_path / "out")):
        said = sentence(*call, "--data", tmp_path / "d.npz", "--loss", "entropy")
        assert "--loss entropy is least where a network says one class of all samples: it tells no rate from another." in said


def test_methods_have_rates_too(model: Path) -> None:
    """But one that chooses among schemes, for which one is asked for."""
    call = ("lr", model, "--data", model.parent / "d.npz", "--steps", 80, "--from", 0.01, "--to", 0.032)
    assert "suggested  --lr" in succeed(*call, "--method", "lowrank:auto", "--budget", "100K")
    assert "--method green chooses among several schemes as it learns" in sentence(*call, "--method", "green")
    assert "no effect without --scheme last:auto|spread:auto or --method lowrank:auto." in sentence(*call, "--budget", "100K")


def test_what_a_picture_lacks_is_said_before_the_work(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ToolError("--plot needs matplotlib, which is not installed.")

    monkeypatch.setattr("tinytrain.report.plot.figure", missing)
    monkeypatch.setattr(tt.Model, "find_rate", lambda *_, **__: pytest.fail("it trained first"))
    assert "--plot needs matplotlib" in sentence("lr", model, "--data", model.parent / "d.npz", "--plot", tmp_path / "c.png")


def test_no_rate_helps(model: Path, tmp_path: Path) -> None:
    """Labels that have nothing to do with samples: the loss is never below that of saying the same to all."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=rng.normal(size=(100, 64)), y=rng.integers(0, 10, 100))
    text = sentence("lr", model, "--data", tmp_path / "d.npz", "--from", 0.01, "--steps", 80, exit_code=3)
    assert "At no rate from 0.01 to 1 does the loss of 20 samples fall in 80 steps: it is " in text
