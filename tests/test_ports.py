# SPDX-License-Identifier: Apache-2.0
"""Models with several inputs and several outputs: one record a sample, a loss and a weight for each output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli_runs import sentence, succeed
from ctypes_model import Library, assert_learns_as_reference
from onnx import TensorProto, helper, numpy_helper

from tinytrain.compiler import Compiled, Options, compile_model
from tinytrain.data.file import DataFile
from tinytrain.device.project import Project
from tinytrain.errors import DataError, ModelError
from tinytrain.gradient.objective import aims_of, with_loss
from tinytrain.gradient.train_step import inference
from tinytrain.ir.types import Role
from tinytrain.learn.samples import load, load_with_targets
from tinytrain.learn.yardstick import Blind
from tinytrain.report.live import Quiet
from tinytrain.verify.checks import check_graph

INPUTS = {"image": (2, 6, 6), "state": (5,)}
OUTPUTS = {"label": (3,), "box": (4,)}
LOSS = "label=ce,box=mse:0.5"


def two_headed(path: Path, *, names: tuple[str, str] = ("image", "state"), batch: int | str = "N") -> Path:
    """A map and a vector -> class scores and a box, by two layers of their own behind one that both share."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((0.3 * rng.standard_normal(shape)).astype(np.float32), name)

    image, state = names
    nodes = [
        helper.make_node("Conv", [image, "cw", "cb"], ["c"], "conv", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["cr"], "relu"),
        helper.make_node("Flatten", ["cr"], ["f"], "flat"),
        helper.make_node("Gemm", [state, "sw", "sb"], ["s"], "dense_s", transB=1),
        helper.make_node("Concat", ["f", "s"], ["j"], "join", axis=1),
        helper.make_node("Gemm", ["j", "w1", "b1"], ["label"], "head_label", transB=1),
        helper.make_node("Gemm", ["j", "w2", "b2"], ["box"], "head_box", transB=1),
    ]
    weights = [
        weight("cw", 4, 2, 3, 3), weight("cb", 4), weight("sw", 7, 5), weight("sb", 7), weight("w1", 3, 71), weight("b1", 3),
        weight("w2", 4, 71), weight("b2", 4),
    ]
    ports = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *found[key]]) for name, key in zip(called, found, strict=True)]
        for called, found in ((names, INPUTS), (tuple(OUTPUTS), OUTPUTS))
    ]
    graph = helper.make_graph(nodes, "two", ports[0], ports[1], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def samples(path: Path, count: int, **changes: Any) -> Path:
    """Learnable: the label says which third of the first pixel's range it lies in, the box is the state's sums."""
    rng = np.random.default_rng(1)
    image = rng.random((count, 2, 6, 6)).astype(np.float32)
    state = rng.standard_normal((count, 5)).astype(np.float32)
    arrays = {"image": image, "state": state, "label": (image[:, 0, 0, 0] * 3).astype(np.int64), "box": state[:, :4] + state[:, 1:]}
    np.savez(path, **{name: array for name, array in {**arrays, **changes}.items() if array is not None})
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_headed(tmp_path_factory.mktemp("ports") / "two.onnx")


@pytest.mark.parametrize("loss", [LOSS, "mse", "box=mse", None])
@pytest.mark.parametrize("options", [{}, {"grad": "fp16"}], ids=["fp32", "fp16"])
def test_learns_as_the_reference(loss: str | None, options: dict[str, Any], model: Path, tmp_path: Path) -> None:
    library = Library(compile_model(model, Options(loss=loss, exact_seconds=0.0, **options)), tmp_path)
    assert_learns_as_reference(library)


def test_arguments_are_structs_with_a_member_for_each(model: Path) -> None:
    header = compile_model(model, Options(loss=LOSS, exact_seconds=0.0)).files["two.h"]
    assert "typedef struct {\n    float image[72]; /* 6 x 6 x 2 */\n    float state[5];\n} two_input;" in header
    assert "typedef struct {\n    float label[3];\n    float box[4];\n} two_output;" in header
    assert "typedef struct {\n    int32_t label[1];\n    float box[4];\n} two_target;" in header
    assert "two_train_step(two_ctx *ctx, const two_input *x, const two_target *target, float *loss);" in header


def test_a_view_of_an_input_that_begins_anywhere(tmp_path: Path) -> None:
    chain = (("Flatten", "b", "f"), ("Sigmoid", "f", "s"), ("Add", "a s", "y"))
    nodes = [helper.make_node(op, inputs.split(), [output]) for op, inputs, output in chain]
    shapes = {"a": (1, 3), "b": (1, 3, 1), "y": (1, 3)}
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "odd", ports[:2], ports[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "odd.onnx")
    assert_learns_as_reference(Library(compile_model(tmp_path / "odd.onnx", Options(loss=None, exact_seconds=0.0)), tmp_path))


def test_members_are_names_that_c_takes(tmp_path: Path) -> None:
    compiled = compile_model(two_headed(tmp_path / "two.onnx", names=("int", "int:0")), Options(loss=LOSS, exact_seconds=0.0))
    assert "float int_[72]; /* 6 x 6 x 2 */\n    float int_0[5];" in compiled.files["two.h"]
    assert_learns_as_reference(Library(compiled, tmp_path), steps=1)


def test_gradients_of_the_weighted_sum(model: Path) -> None:
    """Of each weight, against differences in float64; that of a head's weight is its loss's, times the weight of that."""
    compiled = compile_model(model, Options(loss=LOSS, exact_seconds=0.0))
    forward = inference(compiled.imported.graph)
    graph, _, total = with_loss(forward, aims_of(LOSS, forward))
    rng = np.random.default_rng(2)
    target = np.concatenate([np.array([2], np.int32), rng.random(4).astype(np.float32).view(np.int32)])
    wanted = [v for v in graph.stored(Role.CONST) if v.source is not None]
    assert len(wanted) == 8
    for error in check_graph(graph, total, wanted, [rng.standard_normal(77), target]):
        assert error.relative < 1e-5, error


def test_a_label_out_of_range_is_refused_wherever_it_stands(model: Path, tmp_path: Path) -> None:
    device = Library(compile_model(model, Options(loss="box=mse,label=ce", exact_seconds=0.0)), tmp_path)
    one = device.instance()
    record = np.zeros(5, np.int32)
    for label, status in ((0, 0), (2, 0), (3, 3), (-1, 3)):
        record[0] = label
        x, loss = np.zeros(77, np.float32), np.zeros(1, np.float32)
        found = device.call("train_step", _by(one.context), _at(x), _at(record), _at(loss))
        assert (found == 0) == (status == 0), (label, found)


def _by(context: Any) -> Any:
    import ctypes

    return ctypes.byref(context)


def _at(array: Any) -> Any:
    import ctypes

    return ctypes.c_void_p(array.ctypes.data)


@pytest.mark.parametrize(("loss", "message"), [
    ("label=ce,boxes=mse", "two has no output 'boxes' for a loss; its outputs are label, box."),
    ("label=ce,label=mse", "--loss gives output label two losses; expected one."),
    ("label=ce:-1", "The weight of the loss of output label is '-1'; expected a number above 0."),
    ("label=ce:nan", "The weight of the loss of output label is 'nan'; expected a number above 0."),
    ("label=cross", "two cannot be trained by the loss 'cross'; expected one of"),
])
def test_losses_that_are_refused(loss: str, message: str, model: Path) -> None:
    with pytest.raises(ModelError) as caught:
        compile_model(model, Options(loss=loss, exact_seconds=0.0))
    assert str(caught.value).startswith(message)


def test_batches_of_inputs_must_agree(tmp_path: Path) -> None:
    path = two_headed(tmp_path / "two.onnx", batch=4)
    assert compile_model(path, Options(loss=LOSS, shapes={"image": (1, 2, 6, 6), "state": (1, 5)}, exact_seconds=0.0)).program
    with pytest.raises(ModelError, match="input image has the shape"):
        compile_model(path, Options(loss=LOSS, exact_seconds=0.0))


def test_from_files_to_what_was_learned(model: Path, tmp_path: Path) -> None:
    """The tool's own commands: compile, train, infer; the learned file computes what the device does."""
    out, data = tmp_path / "out", samples(tmp_path / "data.npz", 120)
    succeed("compile", model, "-o", out, "--loss", LOSS, "--lr", "0.05")
    assert "equals the device" in succeed("train", out, "--data", data, "--epochs", "3")
    succeed("infer", out, "--data", data, "--learned", "-o", tmp_path / "y.npz")
    given, found = np.load(data), np.load(tmp_path / "y.npz")
    assert found["label"].shape == (120, 3) and found["box"].shape == (120, 4)
    assert np.square(found["box"] - given["box"]).mean() < np.square(given["box"]).mean() / 4


@pytest.mark.parametrize(("change", "message"), [
    (lambda n: {"state": None}, "expected one called state, or state_train."),
    (lambda n: {"box": None}, "expected one called box, or box_train."),
    (lambda n: {"state": np.zeros((n - 1, 5), np.float32)}, "holds different numbers of samples (image 8, state 7, label 8, box 8)"),
    (lambda n: {"state": np.zeros((n, 6), np.float32)}, "its samples have the shape (6); expected (5) as in the model."),
    (lambda n: {"label": np.full(n, 3)}, "label 3 of sample 0 is out of range"),
    (lambda n: {"box": np.full((n, 4), np.nan, np.float32)}, "hold NaN"),
])
def test_data_that_do_not_fit(change: Callable[[int], dict[str, Any]], message: str, compiled: Compiled, tmp_path: Path) -> None:
    from tinytrain.compiler import write

    write(compiled, tmp_path / "out")
    with pytest.raises(DataError) as caught:
        load(Project.open(tmp_path / "out"), samples(tmp_path / "data.npz", 8, **change(8)), "train")
    assert message in str(caught.value)


@pytest.fixture(scope="module")
def compiled(model: Path) -> Compiled:
    return compile_model(model, Options(loss=LOSS, exact_seconds=0.0))


def test_outputs_that_nothing_computes_are_copied(tmp_path: Path) -> None:
    """Constants of floats and integers, the input itself, the same value twice, a view of the input."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,4] x) => (float[1,4] y, float[1,4] x, float[3] c, int64[2] s, float[1,4] z, float[4,1] r)
        { y = Relu(x) c = Constant<value_floats = [1.5, -2.5, 3.5]>() s = Shape(x) z = Identity(y) q = Constant<value_ints = [4, 1]>()
          r = Reshape(x, q) }"""
    )
    onnx.save(model, tmp_path / "m.onnx")
    library = Library(compile_model(tmp_path / "m.onnx", Options(loss=None)), tmp_path)
    x = np.array([1.0, -2.0, 3.0, -4.0], np.float32)
    got = library.instance().infer(x).view(np.float32)
    relu = np.maximum(x, 0)
    np.testing.assert_array_equal(got[np.r_[:11, 13:21]], np.concatenate([relu, x, [1.5, -2.5, 3.5], relu, x]))
    np.testing.assert_array_equal(got[11:13].view(np.int32), [1, 4])


def test_a_constant_output_that_does_not_fit(tmp_path: Path) -> None:
    text = "g (float[1,4] x) => (float[1,4] y, int64[1] c) { y = Relu(x) c = Constant<value_ints = [3000000000]>() }"
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}'), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="output c is constant and holds int64; expected float32, or what int32 has room for"):
        compile_model(tmp_path / "m.onnx", Options(loss=None))


@pytest.mark.parametrize("loss", ["ce", "label=ce,box=mse", "label=ce"])
def test_accuracy_is_that_of_each_output_with_labels(loss: str, tmp_path: Path) -> None:
    """Two of them fell over the yardstick of a training, which took both targets for one."""
    model, out, rng = two_headed(tmp_path / "m.onnx"), tmp_path / "out", np.random.default_rng(0)
    boxes = {"ce": rng.integers(0, 4, 20), "label=ce,box=mse": rng.normal(size=(20, 4)).astype(np.float32)}
    targets = {"box": boxes[loss]} if loss in boxes else {}
    inputs = {name: rng.normal(size=(20, *shape)).astype(np.float32) for name, shape in INPUTS.items()}
    np.savez(tmp_path / "d.npz", **inputs, **targets, label=rng.integers(0, 3, 20))
    succeed("compile", model, "-o", out, "--loss", loss)
    said = succeed("train", out, "--data", tmp_path / "d.npz", "--epochs", "1", "--holdout", "0.2")
    named = [name for name in OUTPUTS if f"of output {name}" in said]
    assert named == (["label", "box"] if loss == "ce" else ["label"])


@pytest.mark.parametrize("loss", ["ce", "label=ce:2,box=mse:0.5", "label=ce"])
def test_a_model_of_several_outputs_that_learns_nothing_is_told(loss: str, tmp_path: Path) -> None:
    """By the sum of what each output would lose that does not look at the sample."""
    model, out, rng = two_headed(tmp_path / "m.onnx"), tmp_path / "out", np.random.default_rng(0)
    labels, boxes = np.arange(60) % 3, np.arange(60) % 4 if loss == "ce" else rng.normal(size=(60, 4)).astype(np.float32)
    inputs = {name: rng.normal(size=(60, *shape)).astype(np.float32) for name, shape in INPUTS.items()}
    np.savez(tmp_path / "noise.npz", **inputs, label=labels, **({} if loss == "label=ce" else {"box": boxes}))
    succeed("compile", model, "-o", out, "--loss", loss, "--lr", 1e-5)
    said = sentence("train", out, "--data", tmp_path / "noise.npz", "--holdout", 0, exit_code=3)
    assert "has learned nothing that shows: after epoch 1 the loss of 50 of the samples is " in said
    project = Project.open(out)
    blind = Blind.of(project, load_with_targets(project, DataFile(tmp_path / "noise.npz"), "train", None, Quiet()))
    square = float(np.mean(boxes**2)), float(np.mean((boxes - boxes.mean(axis=0)) ** 2))
    nothing, usual = {
        "ce": (np.log(3) + np.log(4), np.log(3) + np.log(4)), "label=ce": (np.log(3), np.log(3)),
        "label=ce:2,box=mse:0.5": tuple(2 * np.log(3) + 0.5 * one for one in square),
    }[loss]
    assert blind.nothing == pytest.approx(nothing, rel=1e-3) and blind.usual == pytest.approx(usual, rel=1e-3)
