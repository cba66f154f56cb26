# SPDX-License-Identifier: Apache-2.0
"""tinytrain as a Python package: models, builds, devices, and what they say of input that does not fit."""

from __future__ import annotations

import gc
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli_runs import run, save_data, save_model, save_text, succeed
from fake_firmware import need_tools

import tinytrain as tt
from tinytrain.errors import BoardError, DataError, DeviceError, ModelError, OutputError, TinytrainError
from tinytrain.ir.types import Array
from tinytrain.learn.yardstick import Diverged
from tinytrain.target.board import load_board


def clusters(count: int = 60, shape: tuple[int, ...] = (1, 8, 8)) -> tuple[Array, Array]:
    """Ten classes that are told apart."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, count)
    return np.float32(rng.normal(0, 1, (10, *shape))[y] + rng.normal(0, 0.3, (count, *shape))), y


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    save_model(folder, "cnn")
    return folder


@pytest.fixture(scope="module")
def build(folder: Path) -> tt.Build:
    return tt.load(folder / "cnn.onnx").compile(scheme="last:2", lr=0.02)


def test_trains_predicts_evaluates_and_saves(build: tt.Build, tmp_path: Path) -> None:
    """The model that is saved computes in ONNX's own evaluator what the device does."""
    from onnx.reference import ReferenceEvaluator

    x, y = clusters()
    with build.twin() as device:
        before = device.predict(x)
        history = device.train(x[:40], y[:40], epochs=3, validation=(x[40:], y[40:]))
        found = device.evaluate(x[40:], y[40:])
        after = device.predict(x)
        weights = device.weights()
        device.save(tmp_path / "learned.onnx")
        device.save(str(tmp_path / "learned.npz"))
    assert isinstance(before, np.ndarray) and isinstance(after, np.ndarray)
    assert before.shape == after.shape == (60, 10) and after.dtype == np.float32
    assert len(history) == 3 and history.loss[2] < history.loss[0] and history.before > history.loss[2]
    assert history.accuracy[-1] == found.accuracy == np.mean(after[40:].argmax(1) == y[40:])
    assert history.validation_loss[-1] == pytest.approx(found.loss)
    model = onnx.load(tmp_path / "learned.onnx")
    want = np.concatenate([ReferenceEvaluator(model).run(None, {model.graph.input[0].name: row[None]})[0] for row in x])
    np.testing.assert_allclose(after, want, rtol=0, atol=1e-4)
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert weights and all(np.array_equal(stored[name], array) for name, array in weights.items())
    with build.twin() as device:
        device.load(tmp_path / "learned.npz")
        np.testing.assert_array_equal(device.predict(x), after)
        device.reset()
        np.testing.assert_array_equal(device.predict(x), before)


def test_training_goes_on_where_it_ended_and_each_rate_holds_once(build: tt.Build) -> None:
    x, y = clusters()
    with build.twin() as device:
        device.train(x, y, lr=0.0)
        still = device.predict(x)
        device.train(x, y)
        moved = device.weights()
        np.testing.assert_raises(AssertionError, np.testing.assert_array_equal, device.predict(x), still)
    with build.twin() as device:
        device.train(x, y)
        assert all(np.array_equal(moved[name], array) for name, array in device.weights().items())


def test_a_training_that_gets_worse_leaves_the_weights_before_it(build: tt.Build) -> None:
    x, y = clusters()
    with build.twin() as device:
        device.train(x, y)
        good = device.weights()
        with pytest.raises(Diverged):
            device.train(x, y, lr=1e6, epochs=2)
        assert all(np.array_equal(good[name], array) for name, array in device.weights().items())


def test_a_build_is_the_folder_that_the_command_makes(folder: Path, build: tt.Build, tmp_path: Path) -> None:
    """And a device runs from it for as long as somebody holds the device."""
    succeed("compile", folder / "cnn.onnx", "--scheme", "last:2", "--lr", 0.02, "--no-build", "-o", tmp_path / "cli")
    build.write(tmp_path / "api")
    names = {path.relative_to(tmp_path / "cli") for path in (tmp_path / "cli").rglob("*") if path.is_file()} - {Path("manifest.seal")}
    assert names and all((tmp_path / "cli" / name).read_bytes() == (tmp_path / "api" / name).read_bytes() for name in names)
    opened = tt.open(str(tmp_path / "api"))
    assert opened.plan == build.plan and opened.plan.arena_bytes >= opened.plan.lower_bound_bytes > 0
    with pytest.raises(OutputError, match="was compiled earlier"):
        opened.write(tmp_path / "again")
    x, y = clusters()
    with opened.twin() as device:
        kept = device.train(x, y, epochs=2, holdout=0.2, keep=True)
        expected = device.predict(x)
    with tt.open(tmp_path / "api").device() as device:
        device.load()
        np.testing.assert_array_equal(device.predict(x), expected)
        assert len(device.train(x, y, epochs=3, holdout=0.2, keep=True, resume=True)) == len(kept) + 1
    device = tt.load(folder / "cnn.onnx").compile(scheme="last:1").twin()
    gc.collect()
    assert device.predict(x[:2]).shape == (2, 10)         # type: ignore[union-attr]
    place = device.project.folder
    device.close()
    with pytest.raises(DeviceError, match="is closed, and holds no longer what it had learned"):
        device.save(tmp_path / "untrained.onnx")
    del device
    gc.collect()
    assert not place.exists()


def test_the_twin_of_a_board_has_its_bits(folder: Path) -> None:
    need_tools(load_board("mps2-an386"))
    x, y = clusters(12)
    build = tt.load(folder / "cnn.onnx").compile("mps2-an386", "last:2", lr=0.02)
    found = []
    for device in (build.twin(), build.emulator(icount=True)):
        with device:
            device.train(x, y)
            found.append((device.predict(x), device.weights(), device.counters().instructions))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert all(np.array_equal(array, found[1][1][name]) for name, array in found[0][1].items())
    assert found[0][2] is None and found[1][2]


def test_dtypes_and_calibration(folder: Path) -> None:
    x, y = clusters(100)
    model = tt.load(folder / "cnn.onnx")
    with model.compile(dtype="int8", calibration=x, lr=0.02).twin() as device:
        assert device.train(x, y, epochs=2).loss[1] < 2.0
        assert {array.dtype.name for array in device.weights().values()} == {"int8", "int32"}
    halves = model.compile(dtype="fp16", calibration=(x, y))
    assert halves.compiled.options.dtype == "fp16"
    quantised = model.quantise(x, method="mse")
    assert quantised.report.samples == 100
    with pytest.raises(TinytrainError, match="--dtype int8 needs calibration"):
        model.compile(dtype="int8")


TWO = """two (float[1,3] a, float[1,1,4,4] m) => (float[1,3] label, float[1,2] box) {
    f = Flatten(m)
    j = Concat <axis = 1> (a, f)
    label = Gemm <transB = 1> (j, wl)
    box = Gemm <transB = 1> (j, wb)
}"""


def test_several_inputs_and_outputs_by_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {"wl": rng.normal(size=(3, 19)).astype(np.float32), "wb": rng.normal(size=(2, 19)).astype(np.float32)}
    build = tt.load(save_text(tmp_path / "two.onnx", TWO, **weights)).compile(loss="label=ce,box=mse:0.5", lr=0.01)
    x = {"a": rng.normal(size=(6, 3)), "m": rng.normal(size=(6, 1, 4, 4))}
    y = {"label": rng.integers(0, 3, 6), "box": rng.normal(size=(6, 2))}
    rows = np.concatenate([x["a"], x["m"].reshape(6, -1)], axis=1)
    with build.twin() as device:
        found = device.predict(x)
        assert isinstance(found, dict)
        np.testing.assert_allclose(found["label"], rows @ weights["wl"].T, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found["box"], rows @ weights["wb"].T, rtol=0, atol=1e-5)
        assert len(device.train(x, y, epochs=2)) == 2
        with pytest.raises(DataError, match="x is one array; expected a mapping of a, m to one each"):
            device.predict(rows)
        with pytest.raises(DataError, match="y has 'class'; expected label, box"):
            device.train(x, {"class": y["label"]})
        with pytest.raises(DataError, match=r"m has the shape \(6, 4, 4\); expected \(n, 1, 4, 4\) as in the model"):
            device.predict({**x, "m": x["m"][:, 0]})


X, Y = clusters(6)
WRONG: dict[str, tuple[Any, Any, str]] = {
    "channels last": (X.transpose(0, 2, 3, 1), Y, r"\(6, 8, 8, 1\); expected \(n, 1, 8, 8\).*\n.*x.transpose\(0, 3, 1, 2\)"),
    "one sample": (X[0], Y, r"x has the shape \(1, 8, 8\).*\nA single one is a batch of one: x\[None\]"),
    "flat": (X.reshape(6, 64), Y, r"x has the shape \(6, 64\).*\nx.reshape\(-1, 1, 8, 8\)"),
    "ragged": ([[1.0], [1.0, 2.0]], Y, "x is no array"),
    "words": (np.full(X.shape, "a"), Y, "its samples are of type <U1; expected numbers"),
    "nan": (np.where(X[3, 0, 2, 2] == X, np.nan, X), Y, "1 of 6 samples hold NaN"),
    "mapping": ({"x": X}, Y, "x is a mapping; expected one array"),
    "no targets": (X, None, "x is given without targets; expected both"),
    "too few targets": (X, Y[:5], "data holds 6 samples but 5 targets"),
    "a label too many": (X, np.where(Y[2] == Y, 10, Y), "out of range; the model has 10 outputs, expected 0 to 9"),
    "no file": ("nowhere.npz", None, "nowhere.npz does not exist"),
}


@pytest.mark.parametrize("case", WRONG)
def test_arrays_that_do_not_fit_are_told_without_a_device(case: str, build: tt.Build, monkeypatch: pytest.MonkeyPatch) -> None:
    from tinytrain.device.project import Project

    x, y, said = WRONG[case]
    monkeypatch.setattr(Project, "session", lambda self, **how: pytest.fail("a device was started"))
    with pytest.raises(DataError, match=said):
        build.twin().train(x, y)


def test_targets_are_in_the_layout_of_the_output(tmp_path: Path) -> None:
    """As for x: channels last, or a flat row, is another thing."""
    text = "m (float[1,2,4,4] x) => (float[1,3,4,4] y) { y = Conv (x, w) }"
    rng = np.random.default_rng(0)
    path = save_text(tmp_path / "maps.onnx", text, w=rng.normal(size=(3, 2, 1, 1)).astype(np.float32))
    x, y = rng.normal(size=(4, 2, 4, 4)), rng.normal(size=(4, 3, 4, 4))
    with tt.load(path).compile(loss="mse").twin() as device:
        assert device.predict(x).shape == (4, 3, 4, 4)    # type: ignore[union-attr]
        assert device.train(x, y).accuracy == [None]
        with pytest.raises(DataError, match=r"y has the shape \(4, 4, 4, 3\); expected \(n, 3, 4, 4\)"):
            device.train(x, y.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("limit", [0, -1, 2.5])
def test_a_limit_that_cannot_be(limit: Any, build: tt.Build) -> None:
    """-1 would leave out the last sample."""
    with build.twin() as device:
        for ask in (device.predict, device.infer, device.evaluate):
            with pytest.raises(TinytrainError, match=r"limit is .*; expected a whole number of at least 1"):
                ask(*clusters()[: 1 if ask == device.predict else 2], limit=limit)


def test_the_twin_is_of_the_model_that_was_compiled(tmp_path: Path) -> None:
    build = tt.load(save_model(tmp_path, "cnn")).compile("netduinoplus2", "last:1")
    (tmp_path / "cnn.onnx").write_bytes(save_model(tmp_path, "mlp").read_bytes())
    with pytest.raises(ModelError, match=r"cnn.onnx has changed since it was compiled for netduinoplus2"):
        build.twin()


def test_a_training_that_cannot_be(build: tt.Build) -> None:
    with build.twin() as device:
        for given, said in (
            ({"epochs": 0}, "epochs is 0; expected a whole number of at least 1."), ({"epoch": 3}, "There is no choice called epoch."),
            ({"holdout": 1.0}, "holdout is 1.0; expected a number from 0 to 0.9."), ({"schedule": "step"}, "without --schedule-steps"),
            ({"resume": True}, "--resume is for training that is kept"), ({"force": True}, "--force is for training that is kept"),
            ({"holdout": 0.1, "validation": (X, Y)}, "--holdout has no effect beside --validation"),
            ({"scheme": 1}, "has schemes 0 to 0, found 1"),
        ):
            with pytest.raises(TinytrainError) as error:
                device.train(X, Y, **given)               # type: ignore[arg-type]
            assert said in str(error.value)


def test_numbers_of_numpy_are_numbers(folder: Path, tmp_path: Path) -> None:
    """As an element of an array is one; what is written has them as JSON does, and a path may be text."""
    choices: Any = {"lr": np.float32(0.25), "cores": np.int64(1), "rates": {"fc": np.float32(0.5)}}
    given: Any = {"lr": np.float32(0.125), "seed": np.int64(3), "limit": np.int32(20), "holdout": np.float32(0.25), "warmup": np.int64(2)}
    build = tt.load(folder / "cnn.onnx").compile(scheme="last:1", **choices)
    build.write(tmp_path / "project")
    with build.twin() as device:
        history = device.train(*clusters(), keep=True, **given)
        assert device.train(*clusters(), epochs=2, keep=True, resume=True, **given)[0] == history[0]
    assert history.record.settings["--lr"] == 0.125
    for name in ("tuned", "precision"):
        with pytest.raises(TinytrainError, match="No such file"):
            tt.load(folder / "cnn.onnx").compile("mps2-an386", dtype="fp16", **{name: str(tmp_path / "none")})  # type: ignore[arg-type]


def test_files_and_devices_that_are_not_there(folder: Path, build: tt.Build, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        tt.load(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ModelError, match="corrupt, truncated or not an ONNX file"):
        tt.load(str(tmp_path / "text.onnx"))
    with pytest.raises(OutputError, match="is not a compiled project"):
        tt.open(tmp_path)
    with pytest.raises(BoardError, match=r"Board host is this computer; expected one with an emulator.\nbuild.twin\(\)"):
        build.emulator()
    with pytest.raises(BoardError, match="Board nucleo-f446re has no emulator"):
        tt.load(folder / "cnn.onnx").compile("nucleo-f446re").emulator()
    with build.twin() as device, pytest.raises(OutputError, match=r"learned.txt ends in neither .npz nor .onnx"):
        device.save(tmp_path / "learned.txt")
    with tt.load(folder / "cnn.onnx").compile(scheme="last:1").twin() as device, pytest.raises(DataError, match="Train first"):
        device.load()
    with pytest.raises(TinytrainError), build.serial(str(tmp_path / "no-port")) as device:
        device.predict(X)


def test_views_for_notebooks(build: tt.Build) -> None:
    with build.twin() as device:
        history = device.train(X, Y, epochs=2)
        assert repr(device.evaluate(X, Y)).startswith("<Evaluation: loss ")
    for view, parts in (
        (build, ("<table>", "This computer (host twin)", "conv2, fc", "arena")), (build.plan, ("<th", "lower bound B", "train")),
        (history, ("<svg role=\"img\" aria-label=\"loss from", "<th", f"{history.loss[1]:.4g}")),
    ):
        text = view._repr_html_()
        assert all(part in text for part in parts), text
        assert isinstance(view, tt.Plan) or len(repr(view)) < 200
        assert "<script" not in text and text.count("<td") == text.count("</td>")


def test_names_of_the_package() -> None:
    """Each is there, typed for those who ask, documented, and nothing is imported before it is asked for."""
    assert set(dir(tt)) == set(tt.__all__) and all(inspect.getdoc(getattr(tt, name)) for name in tt.__all__)
    with pytest.raises(AttributeError, match="module 'tinytrain' has no attribute 'nothing'"):
        _ = tt.nothing                                    # type: ignore[attr-defined,unused-ignore]
    heavy = {"numpy", "onnx", "click", "jinja2", "torch"}
    code = f"import sys, tinytrain; print(sorted({{m.partition('.')[0] for m in sys.modules}} & {heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_python_m_tinytrain(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "tinytrain", "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == run("--version").output.replace("main", "tinytrain") and "tinytrain, version" in done.stdout
    command = [sys.executable, "-m", "tinytrain", "train", str(tmp_path)]
    wrong = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert wrong.returncode == 2


def test_pytorch_is_asked_for_where_it_is_not(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for call in (lambda: tt.from_torch(object(), X), lambda: tt.to_torch(object(), folder / "cnn.onnx")):   # type: ignore[arg-type]
        with pytest.raises(TinytrainError, match="need the package torch"):
            call()


def test_a_file_in_place_of_arrays(build: tt.Build, tmp_path: Path) -> None:
    path = save_data(tmp_path / "data.npz", shape=(1, 8, 8))
    with build.twin() as device, np.load(path) as data:
        from_file, from_arrays = device.predict(path), device.predict(data["x"])
        scaled = device.predict(tt.data_file(str(path), scale=0.5))
        np.testing.assert_array_equal(scaled, device.predict(data["x"] / 2))
    np.testing.assert_array_equal(from_file, from_arrays)
