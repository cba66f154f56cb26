# SPDX-License-Identifier: Apache-2.0
"""What train, infer and evaluate say of samples as people have them, and of how good outputs are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runs import run, save_text, sentence, succeed, tree

from tinytrain import zoo

RNG = np.random.default_rng(0)
CLASSES = ("circle", "cross", "line", "dot")


def net(path: Path, shape: str, outputs: int, inputs: int, ends: str = "") -> Path:
    """A dense layer behind whatever the input is flattened to, and what it ends in."""
    last = f"y = {ends}(z)" if ends else "y = Identity(z)"
    return save_text(
        path, f"g (float[1, {shape}] x) => (float[1, {outputs}] y) {{ f = Flatten(x) z = Gemm<transB = 1>(f, w, b) {last} }}",
        w=RNG.normal(0, 0.1, (outputs, inputs)).astype(np.float32), b=np.zeros(outputs, np.float32),
    )


def said(text: str, start: str) -> str:
    """The one line that begins so."""
    found = [line for line in text.splitlines() if line.startswith(start)]
    assert len(found) == 1, text
    return found[0]


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `train` and `test` of grey pictures; `test` has none of a cross."""
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path_factory.mktemp("drawings")
    for part in ("train", "test"):
        for number, name in enumerate(CLASSES):
            pixels = np.zeros((8, 8), np.uint8)
            pixels[2 * number : 2 * number + 2] = 200
            (folder / part / name).mkdir(parents=True)
            for i in range(0 if (part, name) == ("test", "cross") else 12):
                image.fromarray(pixels + RNG.integers(0, 56, (8, 8)).astype(np.uint8)).save(folder / part / name / f"{i}.png")
    (folder / "test" / "cross").rmdir()
    return folder


def test_pictures_from_folder_to_confusion(drawings: Path, tmp_path: Path) -> None:
    out, scale = tmp_path / "out", ("--scale", "1/255")
    succeed("compile", net(tmp_path / "m.onnx", "1, 8, 8", 4, 64), "-o", out, "--lr", 0.1)
    text = succeed("train", out, "--data", drawings / "train", *scale, "--epochs", 4)
    classes = "classes 0 circle, 1 cross, 2 dot, 3 line"
    assert said(text, "data ").endswith(f"(each times 0.00392157), {classes}") and "warning" not in text
    assert json.loads((out / "history.json").read_text())["classes"] == ["circle", "cross", "dot", "line"]
    for command in ("evaluate", "infer"):
        text = succeed(command, out, "--data", drawings / "test", *scale, "--learned")
        assert said(text, "data ").endswith(classes)      # though the folder has no cross
        assert said(text, "accuracy ") == "accuracy   100.00% of 36 samples"
        rows = [line.split() for line in text.splitlines()]
        assert ["cross", "0", "-", "-", "-"] in rows and ["line", "12", "100.0%", "100.0%", "100.0%"] in rows
        assert ["true", "class,", "taken", "for", "circle", "cross", "dot", "line"] in rows and ["dot", "0", "0", "12", "0"] in rows
    text = succeed("evaluate", out, "--data", drawings / "test", "--learned")
    assert "warning    the project was trained with values (each times 0.00392157); here they are taken as they are" in text
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "a.png").write_bytes((drawings / "test" / "line" / "0.png").read_bytes())
    assert said(succeed("infer", out, "--data", flat, *scale, "--learned"), "said ") == "said       line 1"
    again = tmp_path / "again"
    succeed("compile", out / "learned.onnx", "-o", again, "--no-build")
    assert json.loads((again / "manifest.json").read_text())["classes"] == ["circle", "cross", "dot", "line"]
    strange = tmp_path / "strange" / "square"
    strange.mkdir(parents=True)
    (strange / "a.png").write_bytes((flat / "a.png").read_bytes())
    before = tree(tmp_path)
    assert "has the class 'square'; the model knows circle, cross, dot, line." in sentence(
        "evaluate", out, "--data", strange.parent, *scale, "--learned")
    assert tree(tmp_path) == before


def test_grey_values_where_a_model_wants_parts_of_one(drawings: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    succeed("compile", net(tmp_path / "m.onnx", "1, 8, 8", 4, 64), "-o", out, "--lr", 1e-6)
    scaled = ("--data", drawings / "train", "--scale", "1/255")
    for result in (run("train", out, *scaled[:2]), run("evaluate", out, *scaled[:2])):
        warning = said(result.stdout, "warning ")
        assert "give --scale 1/255 if the model was made for 0 to 1" in warning and "the loss of 8 samples is" in warning
    succeed("train", out, *scaled, "--lr", 0.05, "--epochs", 4)
    text = succeed("evaluate", out, *scaled[:2])
    assert "trained with values (each times 0.00392157); here they are taken as they are" in text


def test_what_is_likely_to_be_wrong_is_said(tmp_path: Path) -> None:
    out = tmp_path / "out"
    succeed("compile", net(tmp_path / "m.onnx", "3, 2, 2", 4, 12), "-o", out)
    np.savez(tmp_path / "d.npz", x=RNG.normal(size=(20, 12)), y=np.zeros(20, int))
    text = succeed("train", out, "--data", tmp_path / "d.npz")
    warnings = [line for line in text.splitlines() if line.startswith("warning ")]
    assert warnings[0].startswith("warning    rows of 12 numbers are taken as (3, 2, 2), channels first")
    assert warnings[1] == "warning    all samples are of one class, 0: a model learns to say nothing else"
    np.savez(tmp_path / "d.npz", x=np.full((2, 12), np.nan), y=[0, 1])
    assert "2 of 2 samples hold NaN" in sentence("train", out, "--data", tmp_path / "d.npz")


def test_a_series_is_trained_and_measured(tmp_path: Path) -> None:
    model, out = tmp_path / "gesture.onnx", tmp_path / "out"
    onnx.save(zoo.model("gesture"), model)
    label = np.repeat(["rest", "wave", "rest", "wave"], 150)
    rows = [f"{i};{x:.3f};{y:.3f};{z:.3f};{name}" for i, ((x, y, z), name) in enumerate(
        zip(RNG.normal(size=(600, 3)) * np.where(label == "wave", 2, 0.2)[:, None], label, strict=True))]
    (tmp_path / "s.csv").write_text("\n".join(["t;ax;ay;az;what", *rows]) + "\n")
    how = ("--data", tmp_path / "s.csv", "--channels", "ax,ay,az", "--label", "what", "--window", 32)
    succeed("compile", model, "-o", out, "--lr", 0.05)
    text = succeed("train", out, *how, "--step", 8, "--epochs", 5)
    assert "classes 0 rest, 1 wave; 60 windows of 32 rows, one each 8; 12 of 72 windows with more than one label are left out" in text
    assert "warning    windows overlap, so that those of --holdout share rows" in text
    assert "warning    2 of 4 classes have no sample: 2, 3" in text
    assert said(succeed("evaluate", out, *how, "--learned"), "accuracy ") == "accuracy   100.00% of 15 samples"
    assert "--step has no effect without --window." in sentence("train", out, "--data", tmp_path / "s.csv", "--step", 8)
    assert "Where a line is one step of time: --window 32." in sentence("train", out, *how[:-2])


def test_what_is_not_normal(tmp_path: Path) -> None:
    basis = RNG.normal(size=(2, 16))
    x = RNG.normal(size=(240, 2)) @ basis
    x[200:] += RNG.normal(size=(40, 16))
    np.savez(tmp_path / "normal.npz", x=x[:100])
    np.savez(tmp_path / "mixed.npz", x=x[100:], y=np.where(np.arange(140) < 100, "ok", "bent"))
    model = save_text(
        tmp_path / "m.onnx", "g (float[1, 16] x) => (float[1, 16] y) { h = Gemm<transB = 1>(x, v) y = Gemm<transB = 1>(h, w) }",
        v=RNG.normal(0, 0.3, (2, 16)).astype(np.float32), w=RNG.normal(0, 0.3, (16, 2)).astype(np.float32),
    )
    out = tmp_path / "out"
    succeed("compile", model, "-o", out, "--loss", "mse", "--lr", 0.02)
    succeed("train", out, "--data", tmp_path / "normal.npz", "--epochs", 60)
    text = succeed("infer", out, "--data", tmp_path / "normal.npz", "--learned", "--percentile", 95)
    line = said(text, "threshold ")
    assert line.endswith("95 % of the 100 samples do not exceed it: suggested, where all of them are normal")
    threshold = line.split()[1].rstrip(":")
    text = succeed("evaluate", out, "--data", tmp_path / "mixed.npz", "--learned", "--threshold", threshold)
    assert "class ok is normal, and each sample its own target" in said(text, "data ")
    assert said(text, "found ") == "found      100.00% of 40 samples that are not normal lie above it"
    assert float(said(text, "AUC ").split()[1]) > 0.99 and float(said(text, "alarms ").split()[1].rstrip("%")) < 15
    assert "99 % of the 100 normal samples do not exceed it" in succeed("evaluate", out, "--data", tmp_path / "mixed.npz", "--learned")
    both = ("--percentile", 95, "--threshold", 1)
    assert "--threshold has no effect with --percentile." in sentence("infer", out, "--data", tmp_path / "normal.npz", *both)


def test_yes_or_no_and_numbers(tmp_path: Path) -> None:
    x = RNG.normal(size=(80, 8))
    np.savez(tmp_path / "yes.npz", x=x, y=(x[:, 0] > 0).astype(np.int64))
    np.savez(tmp_path / "numbers.npz", x=x, y=np.stack([x[:, 0], x[:, 1] + x[:, 2]], 1))
    np.savez(tmp_path / "x.npz", x=x)
    yes, numbers = tmp_path / "yes", tmp_path / "numbers"
    succeed("compile", net(tmp_path / "y.onnx", "8", 1, 8, "Sigmoid"), "-o", yes, "--loss", "bce", "--lr", 0.5)
    succeed("compile", net(tmp_path / "n.onnx", "8", 2, 8), "-o", numbers, "--loss", "mse", "--lr", 0.1)
    succeed("train", yes, "--data", tmp_path / "yes.npz", "--epochs", 5)
    text = succeed("evaluate", yes, "--data", tmp_path / "yes.npz", "--learned")
    assert said(text, "accuracy ").endswith("of 80 outputs, which say yes above 0.5") and float(said(text, "AUC ").split()[1]) > 0.95
    assert "which say yes above 0.9" in succeed("infer", yes, "--data", tmp_path / "yes.npz", "--learned", "--threshold", 0.9)
    succeed("train", numbers, "--data", tmp_path / "numbers.npz", "--epochs", 5)
    text = succeed("infer", numbers, "--data", tmp_path / "numbers.npz", "--learned")
    assert said(text, "errors ").startswith("errors     MSE ") and "  output  MSE" in text
    assert said(succeed("infer", numbers, "--data", tmp_path / "x.npz"), "outputs ").startswith("outputs    -")
    found = tmp_path / "found.npz"
    text = sentence("infer", numbers, "--data", tmp_path / "numbers.npz", "--threshold", 1, "-o", found)
    assert "--threshold has no effect on outputs that are measured as numbers." in text and np.load(found)["y"].shape == (80, 2)


@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_several_inputs_and_one_output(loss: str, tmp_path: Path) -> None:
    """Its target is called y, as in other files, and was not found."""
    model = save_text(
        tmp_path / "m.onnx", "g (int64[1, 2] t, float[1, 4] x) => (float[1, 3] z) "
        "{ e = Gather(table, t) f = Flatten(e) c = Concat<axis = 1>(f, x) z = Gemm<transB = 1>(c, w, b) }",
        table=RNG.normal(size=(300, 2)).astype(np.float32), w=RNG.normal(size=(3, 8)).astype(np.float32), b=np.zeros(3, np.float32),
    )
    np.savez(tmp_path / "d.npz", t=RNG.integers(0, 255, (20, 2)), x=RNG.normal(size=(20, 4)), y=np.arange(20) % 3)
    out, data = tmp_path / "out", ("--data", tmp_path / "d.npz")
    succeed("compile", model, "-o", out, "--loss", loss)
    text = succeed("train", out, *data)
    assert "warning" not in text and "20 samples, t " in said(text, "data ")
    assert said(succeed("evaluate", out, *data, "--learned"), "accuracy ").endswith("% of 20 samples")
    assert "is for a model with several inputs or outputs: --scale has no effect on it." in sentence("infer", out, *data, "--scale", 2)


def test_each_output_says_yes_by_its_own_loss(tmp_path: Path) -> None:
    """Scores of bce were measured as probabilities where other outputs stood beside them, or where the loss named its output."""
    model = "g (float[1, 4] x) => (float[1, 1] sick%s) { sick = Gemm<transB = 1>(x, w, b) %s}"
    w, b = np.float32([[3, 0, 0, 0]]), np.float32([0.25])
    save_text(tmp_path / "one.onnx", model % ("", ""), w=w, b=b)
    save_text(tmp_path / "two.onnx", model % (", float[1, 1] well", "well = Gemm<transB = 1>(x, v, b) "), w=w, b=b, v=w)
    x, yes = np.float32([[0], [-1], [0], [0]]).repeat(4, axis=1), np.float32([[1], [0], [1], [1]])           # scores 0.25 and -2.75
    np.savez(tmp_path / "d.npz", x=x, y=yes, sick=yes, well=yes)
    for name, loss, expected in (("one", "sick=bce", ["0"]), ("two", "sick=bce,well=mse", ["0", "0.5"])):
        succeed("compile", tmp_path / f"{name}.onnx", "-o", tmp_path / name, "--loss", loss)
        text = succeed("evaluate", tmp_path / name, "--data", tmp_path / "d.npz")
        assert [line.split()[-1] for line in text.splitlines() if line.startswith("accuracy ")] == expected


@pytest.mark.parametrize(("option", "value", "expected"), [
    ("--scale", "big", "big is not numbers as 0.5, 1/255 or 0.1,0.2,0.3."), ("--scale", "1/0", "1/0 is not numbers"),
    ("--std", "0", "--std is 0: nothing would be left of a value"), ("--mean", "nan", "nan is not numbers"),
    ("--window", "0", "0 is not in the range x>=1"), ("--layout", "nchw", "'nchw' is not one of 'channels-first', 'channels-last'"),
])
def test_options_that_mean_nothing(option: str, value: str, expected: str, tmp_path: Path) -> None:
    model = net(tmp_path / "m.onnx", "8", 2, 8)
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 8)), y=[0, 1, 0, 1])
    before = tree(tmp_path)
    assert expected in sentence("quantize", model, "--data", tmp_path / "d.npz", "-o", tmp_path / "q.onnx", option, value)
    assert tree(tmp_path) == before


def test_options_without_data(tmp_path: Path) -> None:
    model = net(tmp_path / "m.onnx", "8", 2, 8)
    assert "--scale has no effect without --data." in sentence("compile", model, "-o", tmp_path / "out", "--scale", "0.5")
