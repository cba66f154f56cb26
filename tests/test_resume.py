# SPDX-License-Identifier: Apache-2.0
"""What training leaves on disk: one state that counts, whatever ends it; what goes on with it; what never takes its place."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import run, save_data, save_text, sentence, succeed, tree
from numpy_device import made, momentum_model, numpy_project, on_numpy

import tinytrain
from tinytrain.compiler import Compiled
from tinytrain.data.dataset import Dataset
from tinytrain.gradient.update import Optimiser
from tinytrain.learn.forecast import duration, forecast_seconds, time_text
from tinytrain.learn.state import Epoch, npz
from tinytrain.learn.yardstick import Blind, Measure, Yardstick

OPTIONS = ("--lr", 0.005, "--holdout", 0.2)


class Killed(BaseException):
    """In place of kill -9."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return momentum_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def out(compiled: Compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return numpy_project(compiled, tmp_path, monkeypatch)


def call(out: Path, *more: object) -> tuple[object, ...]:
    return ("train", out, "--data", out.parent / "d.npz", *OPTIONS, *more)


WEIGHTS = ("learned.npz", "last.npz")
LEFT = (*WEIGHTS, "learned.onnx", "history.json")


def outcome(out: Path) -> tuple[list[dict[str, bytes]], bytes, list[dict[str, Any]]]:
    """Weights and state of the best epoch, and of the last where it is another, learned.onnx, and the epochs without their times."""
    states = []
    for name in WEIGHTS:
        if (out / name).exists():
            with np.load(out / name) as file:
                states.append({key: file[key].tobytes() for key in file.files})
    records = [json.loads(arrays.pop("record.json")) for arrays in states]
    assert json.loads((out / "history.json").read_text()) == records[-1]
    assert records[-1]["best"] == len(records[0]["epochs"]) and (len(records) == 1) == (records[0] == records[-1])
    epochs = [{key: value for key, value in epoch.items() if key != "seconds"} for epoch in records[-1]["epochs"]]
    return states, (out / "learned.onnx").read_bytes(), epochs


@pytest.mark.parametrize("better", [(), (2,), (3,), (2, 3)], ids=["first", "second", "first, last", "last"])
def test_killed_between_any_two_writes(better: tuple[int, ...], out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most the running epoch is lost, none is trained twice, and what is made from the state catches up with it: whichever is best."""
    monkeypatch.setattr(Epoch, "better", lambda epoch, best: epoch.epoch in better)
    succeed(*call(out, "--epochs", 3))
    whole = outcome(out)
    assert [epoch["epoch"] for epoch in whole[2]] == [1, 2, 3]
    assert (out / "last.npz").exists() == (3 not in better)
    replace = os.replace
    for stop in range(6 + 1 + len(better)):
        for name in LEFT:
            (out / name).unlink(missing_ok=True)
        done: list[str] = []

        def replacing(source: str, target: Path, stop: int = stop, done: list[str] = done) -> None:
            if len(done) == stop:
                raise Killed
            done.append(target.name)
            replace(source, target)

        monkeypatch.setattr(os, "replace", replacing)
        with pytest.raises(Killed), tinytrain.open(out).device() as device:
            device.train(out.parent / "d.npz", epochs=3, lr=0.005, holdout=0.2, keep=True)
        monkeypatch.setattr(os, "replace", replace)
        finished = sum(map(done.count, WEIGHTS))
        text = succeed(*call(out, "--epochs", 3, "--resume"))
        assert sum(line.startswith("epoch ") and "before training" not in line for line in text.splitlines()) == 3 - finished
        assert outcome(out) == whole, f"killed before write {stop + 1}, behind {done}"
    text = succeed(*call(out, "--epochs", 2, "--resume"))
    assert "trained    3 epochs already; --epochs 2 asks for no more" in text and outcome(out) == whole


DIFFERENT = {
    "seed": (("--seed", 1), "with --seed 0; found --seed 1."),
    "holdout": (("--holdout", 0.3), "with --holdout 0.2; found --holdout 0.3."),
    "lr": (("--lr", 0.002), "with --lr 0.005; found --lr 0.002."),
    "limit": (("--limit", 15), "with --limit none, samples of --data "),
    "balanced": (("--balanced",), "with --balanced none; found --balanced True."),
    "skip-below": (("--skip-below", 0.5), "with --skip-below 0.0; found --skip-below 0.5."),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_resuming_another_training_is_refused(case: str, out: Path) -> None:
    more, said = DIFFERENT[case]
    succeed(*call(out))
    before = tree(out)
    text = sentence(*call(out, "--resume", "--epochs", 2, *more))
    assert f"{out / 'learned.npz'} was trained {said}" in text and "--resume --changed" in text
    assert tree(out) == before
    assert "epoch 2/2" in succeed(*call(out, "--resume", "--changed", "--epochs", 2, *more))
    assert "epoch 3/3" in succeed(*call(out, "--resume", "--epochs", 3, *more)), "the new settings are those of the record now"


def test_patience_stops_where_it_would_have_without_a_resume(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Epoch 2 is the best: two more are waited for, whether training was interrupted between them or not; more patience goes on."""
    monkeypatch.setattr(Epoch, "better", lambda epoch, best: epoch.epoch == 2)
    stopped = "stopped    2 epochs without a better one: --patience 2\n"
    text = succeed(*call(out, "--epochs", 9, "--patience", 2))
    assert stopped in text and "epoch 4/9" in text and "epoch 5/9" not in text
    whole = outcome(out)
    assert stopped in succeed(*call(out, "--epochs", 9, "--patience", 2, "--resume")) and outcome(out) == whole
    assert "epoch 5/9" in succeed(*call(out, "--epochs", 9, "--patience", 3, "--resume"))
    interrupted = save = tinytrain.learn.training.checkpoint

    def killed(*given: Any) -> None:
        save(*given)
        if len(given[-1].epochs) == 3:
            raise Killed

    monkeypatch.setattr("tinytrain.learn.training.checkpoint", killed)
    with pytest.raises(Killed):
        run(*call(out, "--epochs", 9, "--patience", 2, "--force"))
    monkeypatch.setattr("tinytrain.learn.training.checkpoint", interrupted)
    assert stopped in succeed(*call(out, "--epochs", 9, "--patience", 2, "--resume")) and outcome(out) == whole


def test_patience_needs_something_to_wait_for(out: Path) -> None:
    before = tree(out)
    text = sentence("train", out, "--data", out.parent / "d.npz", "--holdout", 0, "--patience", 2)
    assert "--patience 2 needs samples that say which epoch is better; found neither --validation nor --holdout." in text
    assert tree(out) == before


def test_resuming_with_other_data_or_validation_is_refused(out: Path) -> None:
    succeed(*call(out))
    other = save_data(out.parent / "other.npz", count=21)
    assert "was trained with samples of --data " in sentence(*call(out, "--resume", "--data", other))
    text = sentence("train", out, "--data", out.parent / "d.npz", "--lr", 0.005, "--resume", "--validation", other)
    assert "with samples of --validation none, --holdout 0.2; found samples of --validation " in text and ", --holdout none." in text
    assert "--changed has no effect without --resume." in sentence(*call(out, "--changed"))


def test_an_earlier_training_is_not_replaced_unasked(out: Path) -> None:
    """What is wrong with the data is said first; nothing is begun."""
    succeed(*call(out))
    before = tree(out)
    assert f"{out} has history.json, learned.npz, learned.onnx of an earlier training; nothing was trained." in sentence(*call(out))
    (out / "learned.npz").unlink()
    assert f"{out} has history.json, learned.onnx of an earlier" in sentence(*call(out))
    assert "does not exist" in sentence("train", out, "--data", out.parent / "none.npz")
    assert "--force has no effect with --resume." in sentence(*call(out, "--force", "--resume"))
    succeed(*call(out, "--force"))
    assert tree(out).keys() == before.keys()


def test_how_long_it_will_take_is_said_where_that_matters(out: Path) -> None:
    project = tinytrain.open(out).project
    assert project.manifest.work > 2
    assert forecast_seconds(project, 0.25, 0.25, 2, 100, 10) == 2 * 110 * 0.25
    assert forecast_seconds(project, 0.25, 0.25, 2, 100, 10, 50) == 2 * 160 * 0.25, "a rate that is set is a question of its own"
    assert forecast_seconds(project, 0.25, 0.0, 1, 100, 0) == 25 * project.manifest.work
    assert time_text(project, 2.0, 3, 100) is None and time_text(project, None, 3, 100) is None
    assert time_text(project, 600, 3, 100) == "time       about 10 min: 3 epochs of 100 steps on This computer (host twin)"
    assert [duration(seconds) for seconds in (8.2, 600, 9000)] == ["8 s", "10 min", "2.5 h"]


def test_without_a_rate_the_old_one_goes_on(out: Path) -> None:
    steady = ("--schedule", "constant")
    succeed(*call(out, "--epochs", 3, *steady))
    whole = outcome(out)
    succeed(*call(out, "--epochs", 1, "--force", *steady))
    succeed("train", out, "--data", out.parent / "d.npz", "--holdout", 0.2, "--epochs", 3, "--resume", *steady)
    assert outcome(out) == whole


def test_weights_of_another_model_are_refused(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same shapes and names, other numbers before training."""
    succeed(*call(out))
    other = out.parent / "other"
    (other).mkdir()
    succeed("model", "mlp", "--seed", 3, "-o", other / "mlp.onnx")
    on_numpy(monkeypatch, made(other / "mlp.onnx", other / "out", optimiser=Optimiser(0.02, momentum=0.9)))
    (other / "out" / "learned.npz").write_bytes((out / "learned.npz").read_bytes())
    said = f"{other / 'out' / 'learned.npz'} was learned by another model than that of {other / 'out'}."
    assert said in sentence("train", other / "out", "--data", out.parent / "d.npz", "--resume", "--changed")
    assert said in sentence("infer", other / "out", "--data", out.parent / "d.npz", "--learned")


def test_weights_without_a_record_are_used_but_not_gone_on_with(out: Path) -> None:
    succeed(*call(out))
    with np.load(out / "learned.npz") as file:
        arrays = {key: file[key] for key in file.files if key != "record.json"}
    np.savez(out / "learned.npz", **arrays)  # type: ignore[arg-type]
    assert "accuracy" in succeed("infer", out, "--data", out.parent / "d.npz", "--learned")
    assert "does not say how it was trained" in sentence(*call(out, "--resume"))


@pytest.mark.parametrize("rate", [1.0, 1e6, 1e30])
def test_a_diverged_training_leaves_a_good_result(rate: float, out: Path) -> None:
    """1e6: the loss stays finite for a while. 1.0: it falls back to that of a guess, with dead weights."""
    succeed(*call(out, "--epochs", 2))
    before = tree(out)
    text = sentence(*call(out, "--epochs", 3, "--lr", rate, "--force"), exit_code=3)
    assert " is dropped." in text and "lower learning rate (--lr)" in text
    assert tree(out) == before


def test_samples_in_another_range_leave_a_good_result(out: Path) -> None:
    succeed(*call(out, "--epochs", 2))
    before = tree(out)
    with np.load(out.parent / "d.npz") as file:
        np.savez(out.parent / "raw.npz", x=file["x"] * 255, y=file["y"])
    text = sentence(*call(out, "--epochs", 3, "--data", out.parent / "raw.npz", "--force"), exit_code=3)
    assert " before training, " in text and "samples scaled to values of about 1" in text
    assert tree(out) == before


@pytest.mark.parametrize(
    ("means", "after", "expected"),
    [
        ([2.3, 2.2, 1.9], [2.4, 2.2, 1.8], "..."),
        ([9.0, 2.5, 1.0], [1.5, 1.2, 0.5], "..."),           # a wild start that came to something
        ([3.0, 2.5, 1.0], [6.0, 2.2, 1.5], "WW."),           # momentum carried it away; it came back
        ([1235.0, 2.3, 2.3], [2.3, 2.3, 2.25], "WWW"),       # dead: it says the same of everything
        ([4.0, 4.0, 4.0], [4.4, 4.7, 4.4], ".WW"),
    ],
)
def test_worse_than_before(means: list[float], after: list[float], expected: str) -> None:
    samples = Dataset(np.zeros((1, 2), np.float32), np.zeros(1, np.int32))
    yardstick = Yardstick(samples, before=2.31, blind=Blind(2.30, 2.28, 1, 1))
    worse = None
    for number, (mean, found, said) in enumerate(zip(means, after, expected, strict=True), start=1):
        measured = Measure(found, np.zeros((1, 10)), 0)
        worse = yardstick.worse(measured, Epoch(number, mean, None, None, 1, 0.0), already=worse is not None)
        assert (worse is not None) == (said == "W"), f"epoch {number}: {worse}"


def test_a_first_training_that_diverges_leaves_nothing(out: Path) -> None:
    before = tree(out)
    text = sentence(*call(out, "--lr", 1.0, "--epochs", 2), exit_code=3)
    assert f"{out} got worse by training: the loss of 16 of the samples was " in text
    assert tree(out) == before


HONEST = {
    "slow": ("--lr", 1e-5), "one sample": ("--limit", 1, "--holdout", 0), "no step at all": ("--lr", 0.0), "few": ("--limit", 5),
    "by heart": ("--epochs", 60), "held": ("--holdout", 0.9), "skipped": ("--skip-below", 100), "restless": ("--lr", 0.01),
}


@pytest.mark.parametrize("labels", ["true", "random"])
@pytest.mark.parametrize("case", HONEST)
def test_honest_trainings_are_kept(case: str, labels: str, out: Path) -> None:
    if labels == "random":
        with np.load(out.parent / "d.npz") as file:
            np.savez(out.parent / "d.npz", x=file["x"], y=np.random.default_rng(1).integers(0, 10, 20))
    result = run(*call(out, *HONEST[case]))
    assert result.exit_code == 0, result.output
    assert len(outcome(out)[2]) == (60 if case == "by heart" else 1)


def test_an_initializer_called_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy's own writer has an argument of that name."""
    weights = np.random.default_rng(0).normal(0, 0.1, (10, 64)).astype(np.float32)
    model = save_text(tmp_path / "m.onnx", "m (float[1,64] x) => (float[1,10] y) { y = Gemm<transB=1>(x, file) }", file=weights)
    on_numpy(monkeypatch, made(model, tmp_path / "out"))
    data = save_data(tmp_path / "d.npz")
    succeed("train", tmp_path / "out", "--data", data)
    with np.load(tmp_path / "out" / "learned.npz") as file:
        assert file["file"].shape == (10, 64) and not np.array_equal(file["file"], weights)
    succeed("infer", tmp_path / "out", "--data", data, "--learned")
    assert npz({"file": weights}) == npz({"file": weights.copy()})
