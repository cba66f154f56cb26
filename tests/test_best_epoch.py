# SPDX-License-Identifier: Apache-2.0
"""The best epoch by the validation samples is what a training leaves, the last one is beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_runs import sentence, succeed, tree
from numpy_device import momentum_model, numpy_project, on_numpy

import tinytrain as tt
from tinytrain.compiler import Compiled
from tinytrain.errors import LearningError
from tinytrain.learn.state import Epoch

COURSE = ("--epochs", 4, "--lr", 0.02, "--schedule", "constant")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return momentum_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def out(compiled: Compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose second epoch counts as the best."""
    monkeypatch.setattr(Epoch, "better", lambda epoch, best: epoch.epoch == 2)
    return numpy_project(compiled, tmp_path, monkeypatch)


def weights(path: Path) -> dict[str, bytes]:
    with np.load(path) as file:
        return {name: file[name].tobytes() for name in file.files if name != "record.json"}


def epoch(number: int, accuracy: float | None, loss: float | None) -> Epoch:
    return Epoch(number, 1.0, accuracy, loss, 10, 1.0)


@pytest.mark.parametrize(("new", "old", "better"), [
    (epoch(2, 0.9, 0.5), epoch(1, 0.8, 0.4), True),
    (epoch(2, 0.8, 0.3), epoch(1, 0.9, 0.4), False),
    (epoch(2, 0.9, 0.3), epoch(1, 0.9, 0.4), True),
    (epoch(2, 0.9, 0.4), epoch(1, 0.9, 0.4), False),
    (epoch(2, None, 0.3), epoch(1, None, 0.4), True),
    (epoch(2, None, 0.5), epoch(1, None, 0.4), False),
    (epoch(2, None, None), epoch(1, None, None), True),
])
def test_accuracy_counts_and_then_loss(new: Epoch, old: Epoch, better: bool) -> None:
    """Without samples to measure by, the last epoch is the best."""
    assert new.better(old) is better


def test_the_best_is_kept_and_the_last_beside_it(out: Path) -> None:
    succeed("train", out, "--data", out.parent / "d.npz", *COURSE[2:], "--epochs", 2)
    second = weights(out / "learned.npz")
    assert not (out / "last.npz").exists()
    text = succeed("train", out, "--data", out.parent / "d.npz", *COURSE, "--force")
    assert "best       epoch 2: the device has its weights, last.npz those of the last\n" in text
    assert f"npz        {out / 'last.npz'}\n" in text
    assert weights(out / "learned.npz") == second != weights(out / "last.npz")
    record = json.loads((out / "history.json").read_text())
    assert record["best"] == 2 and len(record["epochs"]) == 4
    assert "has history.json, learned.npz, learned.onnx, last.npz of an earlier" in sentence("train", out, "--data", out.parent / "d.npz")
    succeed("push", out, out / "last.npz")
    assert not (out / "last.npz").exists(), "what was pushed is what a training would go on from"


def test_the_device_has_the_best(out: Path) -> None:
    """Kept or not, resumed or not; other validation samples begin a comparison of their own."""
    with tt.open(out).device() as device:
        history = device.train(out.parent / "d.npz", epochs=4, holdout=0.2)
        assert history.best is history[1]
        best = device.weights()
    with tt.open(out).device() as device:
        device.train(out.parent / "d.npz", epochs=4, holdout=0.2, keep=True)
        assert all(np.array_equal(best[name], array) for name, array in device.weights().items())
    with tt.open(out).device() as device:
        resumed = device.train(out.parent / "d.npz", epochs=4, holdout=0.2, keep=True, resume=True)
        assert resumed.best is resumed[1]
        assert all(np.array_equal(best[name], array) for name, array in device.weights().items())
        other = device.train(out.parent / "d.npz", epochs=5, holdout=0.3, keep=True, resume=True, changed=True)
        assert other.best is other[4]
        assert not (out / "last.npz").exists()


def test_other_samples_take_nothing_away_before_they_have_taught_something(out: Path) -> None:
    """With --changed the best epoch stays what it is where nothing more is asked for, and where training fails."""
    succeed("train", out, "--data", out.parent / "d.npz", *COURSE)
    kept = tree(out)
    more = ("train", out, "--data", out.parent / "d.npz", *COURSE, "--resume", "--changed", "--limit", 15)
    assert "--epochs 4 asks for no more" in succeed(*more)
    assert weights(out / "learned.npz") != weights(out / "last.npz") and tree(out).keys() == kept.keys()
    kept = tree(out)
    assert "is dropped" in sentence(*more, "--epochs", 6, "--lr", 1e6, exit_code=3)
    assert tree(out) == kept
    with tt.open(out).device() as device:
        with pytest.raises(LearningError):
            device.train(out.parent / "d.npz", epochs=6, lr=1e6, limit=15, keep=True, resume=True, changed=True)
        left = device.weights()
    assert all(array.tobytes() == weights(out / "learned.npz")[name] for name, array in left.items())


def test_without_validation_samples_the_last_is_kept(out: Path, compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    on_numpy(monkeypatch, compiled)
    assert "best " not in succeed("train", out, "--data", out.parent / "d.npz", *COURSE, "--holdout", 0)
    assert json.loads((out / "history.json").read_text())["best"] == 4
