# SPDX-License-Identifier: Apache-2.0
"""Post-training quantisation: the model it writes, what it costs, what each option gains, and what is refused."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli_runs import save_data, save_text, sentence, succeed, tree
from frontend_models import model_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_models import ModelMaker, forward, imported
from oracle_session import session_of
from test_frontend_random import Chain, chains

from tinytrain import zoo
from tinytrain.errors import ModelError
from tinytrain.frontend.export import export
from tinytrain.frontend.onnx_import import import_model
from tinytrain.frontend.prepare import prepare
from tinytrain.gradient.train_step import build_program
from tinytrain.gradient.update import Optimiser
from tinytrain.quantise.convert import Quantised, quantise_model
from tinytrain.quantise.lockstep import Options
from tinytrain.report.live import Quiet
from tinytrain.schemes.scheme import resolve
from tinytrain.verify.reference import ReferenceModel


def quantised(model: Path, data: Path, **options: Any) -> Quantised:
    return quantise_model(model, data, Options(**options), Quiet())


def snr(made: Quantised) -> float:
    """Mean over the int8 tensors that are not exact, in dB."""
    return float(np.mean([row.snr_db for row in made.report.rows if row.snr_db is not None]))


def stored(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def outputs(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """Of each sample alone, by the evaluator of ONNX."""
    raised = onnx.ModelProto()
    raised.CopyFrom(model)
    raised.opset_import[0].version = 21                       # it knows DequantizeLinear from 19 on, and no change to the ops used here
    evaluator = ReferenceEvaluator(raised)
    name, kind = model.graph.input[0].name, model.graph.input[0].type.tensor_type
    shape = [d.dim_value for d in kind.shape.dim]
    return np.stack([evaluator.run(None, {name: sample.reshape(shape)})[0] for sample in x])


def samples_for(model: Path, count: int = 32, seed: int = 5) -> Path:
    shape = [d.dim_value for d in onnx.load(model).graph.input[0].type.tensor_type.shape.dim][1:]
    x = np.random.default_rng(seed).normal(0, 1, (count, *shape)).astype(np.float32)
    np.savez(path := model.with_suffix(".npz"), x=x)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(the built-in cnn after some training, its data)"""
    folder = tmp_path_factory.mktemp("trained")
    data = save_data(folder / "data.npz", count=300, shape=(1, 8, 8))
    onnx.save(zoo.model("cnn"), folder / "cnn.onnx")
    prepared = prepare(folder / "cnn.onnx")
    imported = import_model(prepared)
    learner = ReferenceModel(build_program(imported.graph, "ce", resolve("full", imported.graph), Optimiser(0.01)))
    with np.load(data) as file:
        for x, y in zip(file["x"], file["y"], strict=True):
            learner.train_step(x[0], np.array([y], np.int32))
    values = {name: imported.params[name].source.to_onnx(array) for name, array in learner.parameters().items()}  # type: ignore[union-attr]
    onnx.save(export(prepared.model, values, "cnn"), folder / "cnn.onnx")
    return folder / "cnn.onnx", data


@pytest.fixture(scope="module")
def unequal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conv, depthwise, Conv, whose channels differ by up to 100 times although the function is an ordinary one."""
    rng = np.random.default_rng(3)
    arrays = {"w1": rng.normal(0, 0.3, (16, 3, 1, 1)), "b1": rng.normal(0, 0.2, 16), "w2": rng.normal(0, 0.3, (16, 1, 3, 3)),
              "b2": rng.normal(0, 0.2, 16), "w3": rng.normal(0, 0.3, (8, 16, 1, 1)), "b3": rng.normal(0, 0.2, 8)}
    s, t = 10 ** rng.uniform(-1, 1, 16), 10 ** rng.uniform(-1, 1, 16)
    for name, factor in (("w1", s), ("w2", t / s), ("w3", 1 / t)):
        arrays[name] *= factor.reshape((1, -1, 1, 1) if name == "w3" else (-1, 1, 1, 1))
    arrays["b1"], arrays["b2"] = arrays["b1"] * s, arrays["b2"] * t
    return save_text(
        tmp_path_factory.mktemp("unequal") / "unequal.onnx", """unequal (float[1, 3, 8, 8] x) => (float[1, 8, 8, 8] y) {
            a = Conv (x, w1, b1)
            b = Relu (a)
            c = Conv <group = 16, pads = [1, 1, 1, 1]> (b, w2, b2)
            d = Relu (c)
            y = Conv (d, w3, b3)
        }""", **{name: array.astype(np.float32) for name, array in arrays.items()},
    )


def every_op(folder: Path) -> Path:
    """A model with each kind of node: layers, sums, products, pools, moves, tables, constants, and a float island in the middle."""
    maker = ModelMaker(1, 3, 8, 8)
    maker.conv(8, 3, pads=[1, 1, 1, 1])
    maker.batch_norm(8)
    first = maker.node("Relu")
    maker.conv(8, 8, pads=[1, 1, 1, 1])
    maker.node("Add", first)
    maker.batch_norm(8)
    second = maker.node("Clip", maker.stored(np.float32(-0.5)), maker.stored(np.float32(1)))
    maker.node("Sigmoid")
    maker.node("Mul", second)
    maker.node("Mul", maker.weight(8, 1, 1))
    maker.node("Concat", first, axis=1)
    maker.node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    maker.node("Softmax", axis=1)
    maker.node("LogSoftmax", axis=1)
    maker.node("Pad", maker.stored(np.array([0, 0, 1, 1, 0, 0, 0, 0])))
    maker.node("AveragePool", kernel_shape=[2, 2])
    maker.node("Flatten")
    maker.node("MatMul", maker.weight(256, 12))
    maker.node("Add", maker.weight(12))
    maker.node("Tanh")
    maker.node("Gemm", maker.weight(12, 5), maker.weight(1, 5), alpha=0.5, beta=2.0)
    onnx.save(maker.model(), path := folder / "every.onnx")
    return path


def test_accuracy_stays(trained: tuple[Path, Path]) -> None:
    """Within a point of float32; so it is when ONNX itself runs the written model."""
    model, data = trained
    made = quantised(model, data, samples=150)
    accuracy = made.report.accuracy
    assert accuracy is not None
    assert accuracy.samples == 150
    assert accuracy.fp32 > 0.9
    assert abs(accuracy.fp32 - accuracy.int8) <= 0.01
    assert min(row.snr_db for row in made.report.rows if row.snr_db is not None) > 20
    assert made.report.output_snr_db is not None and made.report.output_snr_db > 20
    with np.load(data) as file:
        x, y = file["x"][:60], file["y"][:60]
    exact, int8 = outputs(onnx.load(model), x), outputs(made.model, x)
    same = np.mean(exact.reshape(60, -1).argmax(1) == y) - np.mean(int8.reshape(60, -1).argmax(1) == y)
    assert abs(same) <= 0.02


@pytest.mark.parametrize("options", [{}, {"per_tensor": True}, {"method": "mse"}, {"method": "percentile"}, {"equalise": True}])
def test_written_model_is_the_one_measured(tmp_path: Path, options: dict[str, Any]) -> None:
    """The reported error is that of the file, with every kind of node."""
    path = every_op(tmp_path)
    data = samples_for(path)
    made = quantised(path, data, **options)
    onnx.checker.check_model(made.model, full_check=True)
    with np.load(data) as file:
        exact, int8 = outputs(onnx.load(path), file["x"]), outputs(made.model, file["x"])
    measured = 10 * np.log10(np.square(exact).sum() / np.square(exact - int8).sum())
    assert made.report.output_snr_db == pytest.approx(measured, abs=0.3)
    assert measured > 15
    assert made.report.islands == ("n_logsoftmax_13 (LogSoftmax)",)


@settings(max_examples=25)
@given(chains(), st.booleans(), st.booleans())
def test_any_chain_is_written_as_measured(chain: Chain, per_tensor: bool, even: bool) -> None:
    """Whatever follows whatever: the file computes what was measured, to a step of the output."""
    assume(any(node.op_type in ("Conv", "MatMul") for node in chain.nodes))
    chain.nodes[-1].output[0] = "y"
    x = np.random.default_rng(0).normal(0, 1, (20, *chain.start[1:])).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx.save(model_of(chain.nodes, chain.arrays, chain.start), folder / "model.onnx")
        np.savez(folder / "x.npz", x=x)
        made = quantised(folder / "model.onnx", folder / "x.npz", per_tensor=per_tensor, equalise=even)
        exact = outputs(onnx.load(folder / "model.onnx"), x)
    int8 = outputs(made.model, x)
    noise, signal = float(np.square(exact - int8).mean()), float(np.square(exact).mean())
    said = made.report.output_snr_db
    told = 0.0 if said is None else signal / 10 ** (said / 10)
    assert np.sqrt(noise) == pytest.approx(np.sqrt(told), rel=0.2, abs=0.02 * np.sqrt(signal) + 1e-6)


def test_written_model_runs_in_onnx_runtime(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = every_op(tmp_path)
    data = samples_for(path)
    made = quantised(path, data)
    session = session_of(made.model)
    with np.load(data) as file:
        x = file["x"]
    (step,) = (row.scale for row in made.report.rows if row.tensor == made.model.graph.output[0].name)
    y = np.stack([session.run(None, {"x": sample[None]})[0] for sample in x])
    assert np.abs(y - outputs(made.model, x)).max() <= 2 * step


def test_form_of_the_written_model(trained: tuple[Path, Path]) -> None:
    """int8 weights by channel, int32 biases at s_x·s_w, int8 activations in which 0 is exact, no Relu left."""
    model, data = trained
    made = quantised(model, data)
    arrays = stored(made.model)
    ops = [node.op_type for node in made.model.graph.node]
    assert ops.count("Relu") == 0
    assert ops.count("QuantizeLinear") == 5, "x, two maps, flattened, y"
    layer = next(node for node in made.model.graph.node if node.name == "conv2")
    by_output = {node.output[0]: node for node in made.model.graph.node}
    x, w, b = (by_output[name] for name in layer.input)
    assert {x.op_type, w.op_type, b.op_type} == {"DequantizeLinear"}
    assert arrays[w.input[0]].dtype == np.int8
    assert arrays[w.input[1]].shape == (16,)
    assert np.abs(arrays[w.input[0]].astype(int)).max() == 127
    assert arrays[b.input[0]].dtype == np.int32
    np.testing.assert_allclose(arrays[b.input[1]], arrays[w.input[1]] * arrays[x.input[1]], rtol=1e-6)
    assert arrays[x.input[1]].shape == ()
    assert arrays[x.input[2]] == -128, "behind a Relu, the lowest number stands for 0"
    assert [i.name for i in made.model.graph.input] == ["x"]
    assert [o.name for o in made.model.graph.output] == ["y"]
    source = stored(onnx.load(model))["conv2_weight"]
    back = arrays[w.input[0]] * arrays[w.input[1]].reshape(-1, 1, 1, 1)
    assert np.abs(back - source).max() <= arrays[w.input[1]].max() * 0.5001


def test_equalising_helps_unequal_channels(unequal: Path) -> None:
    data = samples_for(unequal)
    for per_tensor in (False, True):
        plain = quantised(unequal, data, per_tensor=per_tensor)
        equal = quantised(unequal, data, per_tensor=per_tensor, equalise=True)
        assert snr(equal) > snr(plain) + 3
        assert equal.report.output_snr_db > plain.report.output_snr_db + 3  # type: ignore[operator]
        assert "2 pairs of layers are equalised" in equal.report.notes


def test_relu6_is_equalised_where_nothing_reaches_it(unequal: Path, tmp_path: Path) -> None:
    model = onnx.load(unequal)
    model.graph.initializer.extend(numpy_helper.from_array(np.float32(v), name) for name, v in (("zero", 0), ("far", 1e4), ("near", 0.5)))
    relus = [node for node in model.graph.node if node.op_type == "Relu"]
    for node, bound in zip(relus, ("far", "near"), strict=True):
        node.op_type = "Clip"
        node.input.extend(["zero", bound])
        node.name = f"clip_{bound}"
    next(node for node in model.graph.node if node.output[0] == "c").name = "middle"
    onnx.save(model, path := tmp_path / "relu6.onnx")
    notes = quantised(path, samples_for(path), equalise=True).report.notes
    assert notes[:3] == (
        "1 pairs of layers are equalised", "clip_far became Relu: no sample reaches the upper bound",
        "not equalised, as samples reach the bound of the Clip behind them: middle",
    )


def test_learned_rounding_helps_a_model(trained: tuple[Path, Path]) -> None:
    plain, learned = (quantised(*trained, adaround=on) for on in (False, True))
    assert snr(learned) > snr(plain)


def test_bias_correction_takes_the_mean_error_away(unequal: Path) -> None:
    data = samples_for(unequal)
    with np.load(data) as file:
        x = file["x"]
    exact = outputs(onnx.load(unequal), x)
    shifts = []
    for correct in (False, True):
        made = quantised(unequal, data, per_tensor=True, bias_correction=correct)
        shifts.append(np.abs((outputs(made.model, x) - exact).mean(axis=(0, 1, 3, 4))).max())
    assert shifts[1] < shifts[0] / 4


def test_dead_layer_is_named(tmp_path: Path) -> None:
    """A layer that always gives 0 gets scale 1, and the model still runs."""
    arrays = {"w1": np.zeros((4, 6), np.float32), "b1": np.full(4, -1, np.float32), "w2": np.ones((3, 4), np.float32)}
    path = save_text(tmp_path / "dead.onnx", """dead (float[1, 6] x) => (float[1, 3] y) {
        a = Gemm <transB = 1> (x, w1, b1)
        b = Relu (a)
        y = Gemm <transB = 1> (b, w2)
    }""", **arrays)
    data = samples_for(path)
    made = quantised(path, data)
    assert "b is 0 for all samples: its scale is 1, whatever it becomes later" in made.report.notes
    with np.load(data) as file:
        assert not outputs(made.model, file["x"]).any()


def test_shared_weight_gets_two_scales(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(0, 1, (6, 6)).astype(np.float32)
    path = save_text(tmp_path / "shared.onnx", """shared (float[1, 6] x) => (float[1, 6] y) {
        a = MatMul (x, w)
        b = Relu (a)
        y = MatMul (b, w)
    }""", w=weight)
    made = quantised(path, samples_for(path))
    assert made.report.output_snr_db is not None and made.report.output_snr_db > 25
    assert sum(a.dtype == np.int8 and a.shape == (6, 6) for a in stored(made.model).values()) == 2


@pytest.mark.parametrize("per_tensor", [False, True])
def test_compiler_reads_what_was_written(trained: tuple[Path, Path], tmp_path: Path, per_tensor: bool) -> None:
    """Our own int8 graph gives what ONNX gives, but for the rounding of halves; nothing between input and output is float."""
    model, data = trained
    made = quantised(model, data, per_tensor=per_tensor)
    graph = imported(made.model, tmp_path)
    assert [node.op.name for node in graph.graph.nodes if node.op.name in ("quantise", "dequantise")] == ["quantise", "dequantise"]
    with np.load(data) as file:
        x = file["x"][:20]
    ours = np.stack([forward(graph, sample[None]) for sample in x])
    steps = np.abs(ours - outputs(made.model, x)) / made.report.rows[-1].scale
    assert steps.max() < 1.01
    assert (steps < 0.01).mean() > 0.98


def test_command_line(trained: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = trained
    out, report = tmp_path / "int8.onnx", tmp_path / "report.json"
    text = succeed("quantize", model, "--data", data, "-o", out, "--method", "percentile", "--samples", 20, "--report", report)
    assert text.startswith(f"data       {data}: ")
    assert text.splitlines()[1].split() == ["layer", "op", "scale", "zero", "SNR", "weight", "SNR"]
    assert "accuracy   float32" in text
    assert text.splitlines()[-1] == f"model      {out}"
    found = json.loads(report.read_text())
    assert found["method"] == "percentile"
    assert found["samples"] == 20
    assert {row["layer"] for row in found["rows"]} >= {"x", "conv1", "conv2", "fc"}
    onnx.checker.check_model(onnx.load(out), full_check=True)
    assert sorted(tree(tmp_path)) == ["int8.onnx", "report.json"]


def test_shared_dscnn(shared_data: Path) -> None:
    """A network of the usual size and kind: the outputs choose the same class."""
    model, data = shared_data / "models" / "mlperf_kws_dscnn_bn.onnx", shared_data / "sets" / "fsdd_mfcc49x10.npz"
    plain = quantised(model, data, samples=64)
    assert snr(plain) > 28
    assert min(row.snr_db for row in plain.report.rows if row.snr_db is not None) > 18
    assert plain.report.accuracy is not None and plain.report.accuracy.agreement > 0.95
    better = quantised(model, data, samples=64, method="mse", equalise=True, adaround=True)
    assert snr(better) > snr(plain) + 1


def refused(model: Path, folder: Path, *more: object, **arrays: np.ndarray) -> str:
    """The sentence of a call that wrote nothing."""
    np.savez(folder / "calibration.npz", **arrays)
    before = tree(folder)
    said = sentence("quantize", model, "--data", folder / "calibration.npz", "-o", folder / "int8.onnx", *more)
    assert tree(folder) == before
    return said


def test_bad_calibration_data(trained: tuple[Path, Path], tmp_path: Path) -> None:
    model, _ = trained
    x = np.ones((4, 1, 8, 8), np.float32)
    assert "its samples have the shape (1, 9, 9); expected (1, 8, 8) as in the model" in refused(model, tmp_path, x=np.ones((4, 1, 9, 9)))
    assert "holds no samples; expected at least one" in refused(model, tmp_path, x=x[:0])
    assert "1 of 4 samples hold NaN, infinite values or some beyond fp32, the first at index 2" in refused(
        model, tmp_path, x=np.where(np.arange(4)[:, None, None, None] == 2, np.nan, x)
    )
    assert "all 4 samples hold nothing but 0, so input x has no range" in refused(model, tmp_path, x=0 * x)
    assert "holds the arrays z; expected the samples under the name x" in refused(model, tmp_path, z=x)
    assert "there is no folder" in refused(model, tmp_path, "--report", tmp_path / "none" / "report.json", x=x)


def test_few_samples_are_said(trained: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = trained
    assert any("only 3 samples" in note for note in quantised(model, data, samples=3).report.notes)


def test_labels_of_another_kind_are_no_obstacle(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """Only the samples are needed: labels that do not fit the output cost the accuracy, not the model."""
    with np.load(trained[1]) as file:
        np.savez(tmp_path / "odd.npz", x=file["x"], y=file["y"] + 100)
    report = quantised(trained[0], tmp_path / "odd.npz").report
    assert report.accuracy is None
    assert any(note.startswith("no accuracy: ") and "is out of range" in note for note in report.notes)


def test_int8_model_is_refused(trained: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = trained
    onnx.save(quantised(model, data).model, tmp_path / "int8.onnx")
    with pytest.raises(ModelError, match=r"int8.onnx is quantised already \(.* is a QuantizeLinear\); expected a float32 model"):
        quantised(tmp_path / "int8.onnx", data)


def test_model_without_layers_is_refused(tmp_path: Path) -> None:
    path = save_text(tmp_path / "relu.onnx", "relu (float[1, 6] x) => (float[1, 6] y) { y = Relu (x) }")
    with pytest.raises(ModelError, match="has no Conv, Gemm or MatMul with stored weights"):
        quantised(path, samples_for(path))
