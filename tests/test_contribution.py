# SPDX-License-Identifier: Apache-2.0
"""Contribution analysis: what is found, that it is kept, cheap scores against their definitions, and every refusal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runs import save_data, save_model, save_text, sentence, succeed
from dask_cluster import local_cluster
from onnx import numpy_helper, parser

from tinytrain.compiler import Options, load_forward
from tinytrain.data.dataset import Dataset
from tinytrain.errors import DataError
from tinytrain.gradient.train_step import build_program
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Array
from tinytrain.jobs import Jobs
from tinytrain.ops.activation import Relu
from tinytrain.report.live import Quiet
from tinytrain.schemes.scheme import Scheme, Select
from tinytrain.search.analysis import Settings, Workload, analyse, candidates, measure, workload
from tinytrain.search.contribution import Candidate, Contribution, Contributions
from tinytrain.search.scores import sensitivities
from tinytrain.verify.reference import ReferenceModel
from tinytrain.verify.reference import run as run_graph

TESTS = Path(__file__).resolve().parent


def save_two(path: Path, hidden: int = 8) -> Path:
    """Layers fc1 (64 -> hidden), ReLU, fc2 (hidden -> 10), with biases of zero."""
    rng = np.random.default_rng(0)
    model = parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]> two (float[1, 64] x) => (float[1, 10] y) {
        a = Gemm <transB = 1> (x, fc1_weight, fc1_bias)
        b = Relu (a)
        y = Gemm <transB = 1> (b, fc2_weight, fc2_bias) }""")
    for name, shape in {"fc1": (hidden, 64), "fc2": (10, hidden)}.items():
        weight = rng.normal(0, np.sqrt(2 / shape[1]), shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, f"{name}_weight"))
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape[0], np.float32), f"{name}_bias"))
    for node, name in zip(model.graph.node, ("fc1", "relu", "fc2"), strict=True):
        node.name = name
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and samples of ten classes that it can learn."""
    home = tmp_path_factory.mktemp("contribution")
    save_two(home / "two.onnx")
    save_data(home / "data.npz", count=120)
    return home


@pytest.fixture(scope="module")
def found(folder: Path) -> Contributions:
    settings = Settings(ratios=(0.02, 0.03, 1.0), epochs=3, seeds=2, holdout=0.25)
    return analyse(folder / "two.onnx", folder / "data.npz", None, Options(), settings, Jobs(2, cache=folder / "cache"), Quiet())


def gain(found: Contributions, name: str) -> Contribution:
    return next(one for one in found.found if str(one.candidate) == name)


def test_candidates_are_all_weights_and_depths(found: Contributions) -> None:
    assert [str(one.candidate) for one in found.found] == [
        "fc1 weight 0.02", "fc1 weight 0.03", "fc1 weight", "fc2 weight 0.02", "fc2 weight 0.03", "fc2 weight",
        "bias-last:1", "bias-last:2",
    ]
    assert [one.candidate.layer for one in found.found[-2:]] == ["fc2", "fc1"]
    assert not found.refused


def test_whole_weights_gain_most(found: Contributions) -> None:
    assert found.before is not None
    assert found.before < 0.3
    assert gain(found, "fc1 weight").gain > 0.3
    assert gain(found, "fc1 weight").gain > gain(found, "fc1 weight 0.02").gain
    assert gain(found, "fc1 weight").loss_drop > gain(found, "bias-last:2").loss_drop
    assert len(gain(found, "fc1 weight").gains) == 2


def test_ratios_of_the_same_channels_are_trained_once(folder: Path, found: Contributions) -> None:
    """0.02 and 0.03 of 8 channels are one channel; of 64 they are one and two."""
    assert gain(found, "fc2 weight 0.02").gain == gain(found, "fc2 weight 0.03").gain
    assert len(list((folder / "cache").iterdir())) == 8 - 1


def test_a_gain_is_that_of_tinytrain_train(folder: Path, found: Contributions, tmp_path: Path) -> None:
    """The same candidate by hand: compiled, trained and measured as by the commands."""
    from tinytrain.compiler import compile_model, write
    from tinytrain.device.project import Project
    from tinytrain.learn.outputs import evaluate
    from tinytrain.learn.samples import load, split
    from tinytrain.learn.training import train_epoch

    options = Options(scheme=Scheme({"fc1": {"weight": Select()}}))
    write(compile_model(folder / "two.onnx", options), tmp_path / "p")
    project = Project.open(tmp_path / "p")
    samples, held = split(load(project, folder / "data.npz", "train"), 0.25, 1)
    assert held is not None
    with project.session() as session:
        before = evaluate(session, held, Quiet()).accuracy
        for epoch in range(3):
            session.set_lr(0.01 * (1 - epoch / 3))
            train_epoch(session, samples, None, epoch, 1, Quiet())
        after = evaluate(session, held, Quiet()).accuracy
    assert before is not None
    assert after is not None
    assert gain(found, "fc1 weight").gains[1] == pytest.approx(after - before)


def test_results_are_kept_by_all_that_they_depend_on(folder: Path, found: Contributions, monkeypatch: pytest.MonkeyPatch) -> None:
    def again(options: Options | None = None, **changes: object) -> Contributions:
        settings = replace(Settings(ratios=(0.02, 0.03, 1.0), epochs=3, seeds=2, holdout=0.25), **changes)  # type: ignore[arg-type]
        jobs = Jobs(1, cache=folder / "cache")
        return analyse(folder / "two.onnx", folder / "data.npz", None, options or Options(), settings, jobs, Quiet())

    monkeypatch.setattr("tinytrain.jobs._Worker", None)   # no job may run
    assert again().found == found.found
    assert len(again(ratios=(1.0,)).found) == 4           # known from before: a candidate does not depend on the others
    for change in ({"epochs": 4}, {"seeds": 3}, {"holdout": 0.3}):
        with pytest.raises(TypeError):
            again(**change)
    with pytest.raises(TypeError):
        again(Options(optimiser=Optimiser(0.02)))


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from test_contribution import kill_after
if __name__ == "__main__":
    kill_after(2)
"""


def kill_after(count: int) -> None:
    """Analyse in the folder where this runs; the process is killed when so many candidates are finished."""
    class Bar(Quiet):
        done = 0

        def advance(self, note: str) -> None:
            self.done += 1
            if self.done == count:
                os.kill(os.getpid(), signal.SIGKILL)

    settings = Settings(ratios=(1.0,), epochs=1, seeds=1)
    analyse(Path("two.onnx"), Path("data.npz"), None, Options(), settings, Jobs(1, cache=Path("cache")), Bar())


def test_a_killed_analysis_goes_on_where_it_was(tmp_path: Path) -> None:
    save_two(tmp_path / "two.onnx")
    save_data(tmp_path / "data.npz", count=60)
    (tmp_path / "killed.py").write_text(KILLED)
    done = subprocess.run([sys.executable, "killed.py", str(TESTS)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir() if path.suffix == ".json"}
    assert len(kept) == 2
    settings = Settings(ratios=(1.0,), epochs=1, seeds=1)
    jobs = Jobs(2, cache=tmp_path / "cache")
    found = analyse(tmp_path / "two.onnx", tmp_path / "data.npz", None, Options(), settings, jobs, Quiet())
    assert len(found.found) == 4
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())        # the finished ones were not made again
    fresh = analyse(tmp_path / "two.onnx", tmp_path / "data.npz", None, Options(), settings, Jobs(2), Quiet())
    assert fresh == found


@pytest.mark.long
def test_a_cluster_that_loses_a_worker_finds_the_same(folder: Path, found: Contributions, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    settings = Settings(ratios=(0.02, 0.03, 1.0), epochs=3, seeds=2, holdout=0.25)
    with local_cluster(tmp_path) as (address, workers):

        class Bar(Quiet):
            def advance(self, note: str) -> None:
                workers[0].kill()

        there = analyse(folder / "two.onnx", folder / "data.npz", None, Options(), settings, Jobs(cluster=address), Bar())
    assert there == found


def test_the_file_is_read_as_it_was_written(found: Contributions, tmp_path: Path) -> None:
    found.save(tmp_path / "contribution.json")
    back = Contributions.load(tmp_path / "contribution.json")
    assert back.found == found.found
    assert back.before == found.before
    (tmp_path / "contribution.json").write_text('{"format": 7}')
    with pytest.raises(DataError, match=r"it is not of format 1\); expected a contribution analysis\."):
        Contributions.load(tmp_path / "contribution.json")
    with pytest.raises(DataError, match=r"cannot be read \(No such file or directory\); expected a contribution analysis\."):
        Contributions.load(tmp_path / "none.json")


def test_gamma_is_a_candidate_and_beta_a_shift(tmp_path: Path) -> None:
    ones = np.ones(2, np.float32)
    model = save_text(tmp_path / "bn.onnx", """bn (float[1, 1, 4, 4] x) => (float[1, 2] y) {
        a = Conv (x, w)
        b = BatchNormalization (a, gamma, beta, mean, var)
        c = GlobalAveragePool (b)
        y = Flatten (c) }""", w=np.ones((2, 1, 3, 3), np.float32), gamma=ones, beta=ones, mean=0 * ones, var=ones)
    _, _, graph = load_forward(model, Options(fold_batchnorm=False))
    names = [str(candidate) for candidate in candidates(graph, (0.5, 1.0))]
    assert [name for name in names if "gamma" in name or "last" in name] == [names[-2], names[-1]]
    assert names[-2].endswith("gamma")
    assert names[-1] == "bias-last:1"


# --- cheap scores -------------------------------------------------------------------------------------------------


def gradients_of(folder: Path, samples: Dataset) -> list[dict[str, Array]]:
    """w − w' after one step of rate 1, for each sample: by what trains, not by what scores."""
    _, _, graph = load_forward(folder / "two.onnx", Options())
    program = build_program(graph, "ce", Scheme({"fc2": {"weight": Select()}}), Optimiser(1.0))
    train = program.entries["train"]
    found = []
    assert samples.y is not None
    for x, y in zip(samples.x, samples.y, strict=True):
        updates = run_graph(train, [x, np.reshape(y, train.inputs[1].shape)]).updates
        found.append({old.name: old.data.astype(np.float64) - new for old, new in updates.items() if old.data is not None})
    return found


@pytest.fixture(scope="module")
def some(folder: Path) -> Dataset:
    with np.load(folder / "data.npz") as file:
        return Dataset(file["x"][:12], file["y"][:12].astype(np.int32))


def score(folder: Path, some: Dataset, how: str, optimiser: Optimiser) -> Array:
    _, _, graph = load_forward(folder / "two.onnx", Options())
    return sensitivities(graph, "ce", some, how, optimiser)["fc2", "weight"].shares


def test_gradient_and_first_order_by_their_definitions(folder: Path, some: Dataset) -> None:
    grads = np.array([g["fc2_weight"] for g in gradients_of(folder, some)])
    np.testing.assert_allclose(score(folder, some, "gradient", Optimiser()), np.square(grads).mean(axis=0).sum(axis=0), 1e-3)
    mean = grads.mean(axis=0)
    plain = score(folder, some, "first-order", Optimiser(0.1))
    np.testing.assert_allclose(plain, (0.1 * mean**2).sum(axis=0), 1e-3)
    np.testing.assert_allclose(score(folder, some, "first-order", Optimiser(0.1, momentum=0.9)), 10 * plain, 1e-6)
    adam = (0.1 * mean**2 / (np.sqrt((grads**2).mean(axis=0)) + 1e-8)).sum(axis=0)
    np.testing.assert_allclose(score(folder, some, "first-order", Optimiser(0.1, kind="adam")), adam, 1e-3)


def test_first_order_foretells_the_loss(folder: Path, some: Dataset) -> None:
    """A small step of the whole batch lowers its loss by about the score."""
    _, _, graph = load_forward(folder / "two.onnx", Options())
    rate = 1e-3
    scheme = Scheme({"fc2": {"weight": Select()}})
    program = build_program(graph, "ce", scheme, Optimiser(rate, accumulate=len(some)))
    model = ReferenceModel(program, np.float64)
    assert some.y is not None
    pairs = list(zip(some.x, some.y, strict=True))
    before = np.mean([model.evaluate(x, y)[0] for x, y in pairs])
    for x, y in pairs:
        model.train_step(x, y)
    after = np.mean([model.evaluate(x, y)[0] for x, y in pairs])
    assert before - after == pytest.approx(score(folder, some, "first-order", Optimiser(rate)).sum(), rel=0.05)


def test_fisher_is_that_of_the_activations(folder: Path, some: Dataset) -> None:
    """½ E (Σ a·da)² over the outputs of a layer, where its bias is zero; it is shared out over the inputs as x·dx is."""
    grads = gradients_of(folder, some)
    weight = next(i for i in onnx.load(folder / "two.onnx").graph.initializer if i.name == "fc2_weight")
    w = numpy_helper.to_array(weight).astype(np.float64)
    # a = w·x and dw = da·xᵀ: a·da = Σ_c w·dw, and x·dx = Σ_k w·dw
    products = np.array([w * g["fc2_weight"] for g in grads])
    outputs = np.square(products.sum(axis=2)).mean(axis=0).sum() / 2
    inputs = np.square(products.sum(axis=1)).mean(axis=0)
    np.testing.assert_allclose(score(folder, some, "fisher", Optimiser()), outputs * inputs / inputs.sum(), 1e-3, 1e-9)


def test_scores_of_a_quantised_model_are_those_of_the_float_one(tmp_path: Path) -> None:
    """They are of real numbers, whatever the scales: close, as int8 is close."""
    save_model(tmp_path, "cnn")
    save_data(tmp_path / "data.npz", count=40, shape=(1, 8, 8))
    succeed("quantize", tmp_path / "cnn.onnx", "--data", tmp_path / "data.npz", "-o", tmp_path / "int8.onnx")
    for how in ("fisher", "gradient", "first-order"):
        files = []
        for name in ("cnn", "int8"):
            succeed("contribution", tmp_path / f"{name}.onnx", "--data", tmp_path / "data.npz", "--score", how, "--ratios", "1",
                    "-o", tmp_path / f"{name}.json")
            files.append([one.gain for one in Contributions.load(tmp_path / f"{name}.json").found if one.candidate.kind == "weight"])
        np.testing.assert_allclose(files[1], files[0], 0.2)
    succeed("contribution", tmp_path / "int8.onnx", "--data", tmp_path / "data.npz", "--score", how, "--ratios", "1", "--int8-input",
            "-o", tmp_path / "given.json")
    given = [one.gain for one in Contributions.load(tmp_path / "given.json").found if one.candidate.kind == "weight"]
    assert given == files[1], "an int8 input takes the same samples"


# --- the command --------------------------------------------------------------------------------------------------


def test_command_trains_scores_and_keeps(folder: Path, tmp_path: Path) -> None:
    common = (folder / "two.onnx", "--data", folder / "data.npz", "-o", tmp_path / "c.json", "--cache", tmp_path / "cache", "--jobs", 2)
    output = succeed("contribution", *common, "--ratios", "1", "--epochs", 1, "--seeds", 1)
    assert "fc1 weight: " in output
    assert "contribution (points of accuracy gained)  1\n" in output
    written = Contributions.load(tmp_path / "c.json")
    assert written.settings["epochs"] == 1
    output = succeed("contribution", *common, "--score", "fisher", "--ratios", "0.5,1")
    assert "contribution (fisher)  0.5" in output
    written = Contributions.load(tmp_path / "c.json")
    assert len(written.channels["fc2"]["weight"]) == 8
    assert gain(written, "fc2 weight").gain == pytest.approx(sum(written.channels["fc2"]["weight"]))
    assert gain(written, "fc2 weight 0.5").gain < gain(written, "fc2 weight").gain


def test_command_without_labels_counts_the_loss(folder: Path, tmp_path: Path) -> None:
    save_data(tmp_path / "soft.npz", vectors=10, count=60)
    output = succeed("contribution", folder / "two.onnx", "--data", tmp_path / "soft.npz", "--loss", "mse", "-o", tmp_path / "c.json",
                     "--ratios", "1", "--epochs", 2, "--seeds", 1, "--lr", 0.001, "--cache", tmp_path / "cache")
    assert "contribution (loss taken away)" in output
    written = Contributions.load(tmp_path / "c.json")
    assert written.before is None
    assert all(one.gain == one.loss_drop for one in written.found)
    assert gain(written, "fc2 weight").gain > 0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_training_that_diverges_loses_everything(folder: Path, some: Dataset) -> None:
    options, settings = Options(optimiser=Optimiser(3e38)), Settings(epochs=1, seeds=1)
    work = Workload("two.onnx", (folder / "two.onnx").read_bytes(), options, settings, some, some)
    found = measure(work, Candidate("fc1", "weight"))
    assert found["gains"] == [-found["before"]]
    assert found["drops"][0] < 0


def test_candidates_without_gradient_are_left_out(folder: Path, some: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the way back meets an op without gradient, what lies before it is left out with the reason; the rest is found."""
    monkeypatch.setattr(Relu, "differentiable", False)
    work = Workload("two.onnx", (folder / "two.onnx").read_bytes(), Options(), Settings(epochs=1, seeds=1), some, some)
    assert measure(work, Candidate("fc1", "weight")) == {"refused": "relu (relu) is supported for inference but has no gradient."}
    settings = Settings("gradient", ratios=(1.0,))
    found = analyse(folder / "two.onnx", folder / "data.npz", None, Options(), settings, Jobs(1), Quiet())
    assert [str(one.candidate) for one in found.found] == ["fc2 weight", "bias-last:1"]


def refusal(folder: Path, tmp_path: Path, *arguments: object, data: Path | None = None) -> str:
    text = sentence("contribution", folder / "two.onnx", "--data", data or folder / "data.npz", "-o", tmp_path / "c.json", *arguments)
    assert not (tmp_path / "c.json").exists()
    return text


def test_refusals(folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (20, 64)).astype(np.float32)
    np.savez(tmp_path / "constant.npz", x=x, y=np.full(20, 3))
    assert "has samples of one class only (3); expected two or more" in refusal(folder, tmp_path, data=tmp_path / "constant.npz")
    np.savez(tmp_path / "empty.npz", x=x[:0], y=np.zeros(0, int))
    assert "holds no samples; expected at least one" in refusal(folder, tmp_path, data=tmp_path / "empty.npz")
    np.savez(tmp_path / "few.npz", x=x[:3], y=np.arange(3))
    assert "holds 3 samples; a part of 0.2 of them is none to measure accuracy on" in refusal(folder, tmp_path, data=tmp_path / "few.npz")
    np.savez(tmp_path / "many.npz", x=x, y=np.arange(20))
    text = refusal(folder, tmp_path, data=tmp_path / "many.npz")
    assert "label 10 of sample 10 is out of range; the model has 10 outputs" in text
    assert "--new-head 20" in text
    assert "expected two or more" in refusal(folder, tmp_path, "--validation", tmp_path / "constant.npz")
    assert "Contributions need a loss" in refusal(folder, tmp_path, "--loss", "none")
    assert "contributions are of all layers, each alone" in refusal(folder, tmp_path, "--scheme", "last:1")
    text = refusal(folder, tmp_path, "--accumulate", 97)
    assert "leaves fewer samples to train with than the 97 that make one update" in text
    for ratio in ("0", "1.5", "nan", "x", "0.5,,1"):
        assert "Invalid value for '--ratios'" in refusal(folder, tmp_path, "--ratios", ratio)
    output = sentence("contribution", folder / "two.onnx", "--data", folder / "data.npz", "-o", tmp_path / "none" / "c.json")
    assert "there is no folder" in output


def test_a_choice_of_samples_holds_all_classes_of_a_sorted_file(folder: Path, tmp_path: Path) -> None:
    with np.load(folder / "data.npz") as file:
        order = np.argsort(file["y"])
        np.savez(tmp_path / "sorted.npz", x=file["x"][order], y=file["y"][order])
    settings = Settings(samples=40)
    work = workload(folder / "two.onnx", tmp_path / "sorted.npz", None, Options(), settings)
    assert len(work.samples) == 40
    assert work.samples.y is not None
    assert len(np.unique(work.samples.y)) == 10


def test_candidates_name_themselves() -> None:
    assert str(Candidate("conv", "weight", 0.25)) == "conv weight 0.25"
    assert str(Candidate("conv", "bias-last", depth=3)) == "bias-last:3"
