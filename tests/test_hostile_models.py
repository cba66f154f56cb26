# SPDX-License-Identifier: Apache-2.0
"""Odd and hostile models: outputs without a batch axis are trained, what cannot be is refused in a sentence that a terminal can show."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli_runs import sentence, succeed
from frontend_models import f32, i64, infer, load, model_of, node, oracles
from onnx import TensorProto
from quant_models import Qdq, assert_layers_agree, one_conv

from tinytrain.compiler import Options, compile_model, describe
from tinytrain.device.manifest import Manifest
from tinytrain.device.project import Project
from tinytrain.errors import DataError, ModelError, TinytrainError, printable
from tinytrain.frontend.prepare import prepare
from tinytrain.learn.samples import load as load_samples

LAST = {"w": f32(1, 5), "b": f32(1), "axes": i64(-1), "three": f32(3, 5), "all": i64(3), "first": i64(0), "empty": np.zeros(0, np.int64)}
OUTPUTS = {
    "(N,)": ([node("Gemm", "x w b", "z", transB=1), node("Squeeze", "z axes", "y")], ()),
    "no axis": ([node("Gemm", "x w b", "z", transB=1), node("Reshape", "z empty", "y")], ()),
    "no batch": ([node("Gemm", "x three", "z", transB=1), node("Squeeze", "z first", "y")], (3,)),
    "reshaped": ([node("Gemm", "x three", "z", transB=1), node("Reshape", "z all", "y")], (3,)),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_outputs_without_a_batch(case: str, tmp_path: Path) -> None:
    nodes, sample_shape = OUTPUTS[case]
    model = model_of(nodes, LAST, (1, 5))
    onnx.save(model, tmp_path / "m.onnx")
    compiled = compile_model(tmp_path / "m.onnx", Options(loss="mse", exact_seconds=0))
    x = f32(1, 5)
    np.testing.assert_allclose(infer(compiled.imported, x), oracles(model, x)[0], rtol=1e-5)
    project = Project(tmp_path, Manifest.of(json.loads(json.dumps(describe(compiled))), tmp_path))
    for extra in ((), (1,)):
        y = f32(20, *sample_shape, *extra)
        np.savez(tmp_path / "d.npz", x=f32(20, 5), y=y)
        found = load_samples(project, tmp_path / "d.npz", "train")
        assert found.y is not None
        np.testing.assert_array_equal(found.y.reshape(20, -1), y.reshape(20, -1))
        assert found.y[0].size == compiled.program.entries["train"].inputs[1].type.numel


def test_a_single_number_is_trained_and_given_back(tmp_path: Path) -> None:
    """From the file to the device and back; targets of shape (N,) and (N, 1) are the same."""
    x = f32(30, 5)
    onnx.save(model_of(OUTPUTS["(N,)"][0], LAST, (1, 5)), tmp_path / "m.onnx")
    succeed("compile", tmp_path / "m.onnx", "--loss", "mse", "--lr", 0.05, "-o", tmp_path / "out")
    losses = []
    for extra in ((), (1,)):
        np.savez(tmp_path / "d.npz", x=x, y=(x @ np.arange(5, dtype=np.float32)).reshape(30, *extra))
        succeed("train", tmp_path / "out", "--data", tmp_path / "d.npz", "--epochs", 20, "--force")
        losses.append([epoch["loss"] for epoch in json.loads((tmp_path / "out" / "history.json").read_text())["epochs"]])
    assert losses[0] == losses[1]
    assert losses[0][-1] < losses[0][0] / 100
    succeed("infer", tmp_path / "out", "--learned", "--data", tmp_path / "d.npz", "-o", tmp_path / "y.npz")
    answers = np.load(tmp_path / "y.npz")["y"]
    assert answers.shape == (30,)
    learned = onnx.load(tmp_path / "out" / "learned.onnx")
    np.testing.assert_allclose(answers, [oracles(learned, row[None])[0].item() for row in x], rtol=1e-4, atol=1e-5)


WINDOWS: dict[str, tuple[onnx.NodeProto, str]] = {
    "weight": (
        node("Conv", "x w1", "y", kernel_shape=[3, 3]),
        "its weight has the shape (4, 2, 3) for an input of (1, 2, 6, 6), expected as many axes.",
    ),
    "groups": (node("Conv", "x w5", "y"), "must split both evenly"),
    "perm": (node("Transpose", perm=[0, 1]), "its perm is (0, 1) for 4 axes, expected each of them once."),
    "elements": (node("Reshape", "x seven", "y"), "it makes (1, 7) of (1, 2, 6, 6), 7 elements of 72, expected as many."),
    "value": (node("Pad", "x pads two", "y"), "its value two has the shape (2,), expected one number."),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_operands_that_do_not_fit(case: str, tmp_path: Path) -> None:
    bad, text = WINDOWS[case]
    arrays = {"w1": f32(4, 2, 3), "w5": f32(4, 5, 3, 3), "seven": i64(1, 7), "pads": i64(0, 0, 1, 1, 0, 0, 0, 0), "two": f32(2)}
    with pytest.raises(ModelError) as error:
        load(tmp_path, model_of([bad], arrays, (1, 2, 6, 6)))
    assert f"{bad.op_type}_0 ({bad.op_type}) in {tmp_path / 'm.onnx'}: " in str(error.value)
    assert text in str(error.value)
    assert error.value.hint


def test_channels_of_a_quantised_layer_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Conv_c \(Conv\) in .*: 1 groups of 3 input channels against 5 channels of x and 4 of y"):
        one_conv().load(tmp_path, (1, 5, 6, 5))


def test_a_scalar_bias_of_a_quantised_layer_counts_for_all_channels(tmp_path: Path) -> None:
    net = Qdq()
    x, w = net.quantised("x"), net.weight("w", 6, 4, axis=None)
    net.quantised(net.add("Add", f"{net.add('MatMul', f'{x} {w}', 'm')} {net.bias('b', 'x', 'w', 1)}", "a"), name="y")
    prepared, imported = net.load(tmp_path, (1, 6))
    assert assert_layers_agree(prepared, imported, f32(1, 6)) == 2
    compile_model(tmp_path / "m.onnx", Options(loss="mse", exact_seconds=0))


def changed(path: Path, **fields: Any) -> Path:
    """A model whose one int32 initializer has other fields."""
    model = one_conv().model((1, 3, 6, 5))
    tensor = next(t for t in model.graph.initializer if t.name == "b_q")
    for name, value in fields.items():
        if name == "location":
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=value)
        elif name in ("offset", "length"):
            tensor.external_data.add(key=name, value=value)
        elif name == "dims":
            tensor.dims[:] = value
        else:
            setattr(tensor, name, value)
    path.write_bytes(model.SerializeToString())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as error:
        prepare(path)
    text = str(error.value)
    assert text.startswith(str(path)) and len(text.splitlines()) == 2 and all(line.isprintable() for line in text.splitlines())
    return text


@pytest.mark.parametrize("dims", [(2,), (5,), (2, 3), (), (0,)])
def test_integers_that_are_more_or_fewer_than_their_shape_says(dims: tuple[int, ...], tmp_path: Path) -> None:
    text = refusal(changed(tmp_path / "m.onnx", dims=dims))
    assert "b_q" in text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"location": "a\x00b"}, "embedded null"), ({"location": "n" * 3000}, "File name too long"), ({"location": "folder"}, "is no file"),
        ({"location": "pipe"}, "is no file"), ({"location": "."}, "is no file"), ({"location": ""}, "outside the model's folder"),
        ({"location": "../w"}, "outside the model's folder"), ({"location": "/dev/zero"}, "outside the model's folder"),
        ({"location": "w", "offset": "-4"}, "cannot be read from w"), ({"location": "w", "offset": "four"}, "cannot be read from w"),
        ({"location": "w", "offset": "1000"}, "cannot be read from w"), ({"location": "w", "length": "-1"}, "cannot be read from w"),
        ({"location": "w", "length": "3"}, "cannot be read from w"), ({"location": "\x1b[31mred\n"}, "does not exist"),
        ({"location": "huge"}, "of 4,294,967,296 bytes; at most 2,147,483,647"),
    ],
)
def test_external_data_of_odd_names_and_places(fields: dict[str, str], said: str, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(bytes(16))
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 2**32)                 # holds nothing, and takes no place
    assert said in refusal(changed(tmp_path / "m.onnx", **fields))


NAMES = ["\x1b[2J\x1b[31m", "a\nb\r\x07", "n" * 100_000, "\u202egnp"]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shown_without_control_characters(name: str, tmp_path: Path) -> None:
    nodes = [node("NoSuchOp", name=name)]
    model = model_of([node("Relu")], {}, (1, 3))
    model.graph.node[0].CopyFrom(nodes[0])
    model.graph.node[0].domain = "their.own"
    model.opset_import.add(domain="their.own", version=1)
    onnx.save(model, tmp_path / "m.onnx")
    text = sentence("compile", tmp_path / "m.onnx", "-o", tmp_path / "out")
    assert "NoSuchOp" in text
    assert all(line.isprintable() for line in text.splitlines()) and max(map(len, text.splitlines())) < 2000
    assert not (tmp_path / "out").exists()


def test_names_in_a_report_and_in_c(tmp_path: Path) -> None:
    model = model_of([node("Gemm", "x w", "y", name="red\x1b[31m */ \n#error")], {"w": f32(3, 2)}, (1, 3))
    onnx.save(model, tmp_path / "m.onnx")
    text = succeed("compile", tmp_path / "m.onnx", "--loss", "mse", "--no-build", "-o", tmp_path / "out")
    assert all(line.isprintable() for line in text.splitlines())
    code = (tmp_path / "out" / "lib" / "m.c").read_text()
    assert "\x1b" not in code and "\n#error" not in code


def test_printable_keeps_what_a_person_can_read() -> None:
    assert printable("a layer/名前 ü, 3 × 4") == "a layer/名前 ü, 3 × 4"
    assert printable("/a" * 100) == "/a" * 100
    assert len(printable("x" * 10**6)) < 300


def test_errors_survive_the_way_between_processes() -> None:
    error = DataError("First.", "Second.", details=["one", "two"], hint="Try.\nOr not.")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "First. Second.\none\ntwo\nTry.\nOr not."
    assert isinstance(again, TinytrainError)
    assert (again.sentences, again.hint) == (error.sentences, error.hint)


def test_an_import_that_breaks_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever nobody thought of."""
    def broken(*_: object) -> None:
        raise IndexError("tuple index out of range")

    onnx.save(model_of([node("Relu")], {}, (1, 3)), tmp_path / "m.onnx")
    monkeypatch.setattr("tinytrain.frontend.onnx_import.verify", broken)
    text = sentence("compile", tmp_path / "m.onnx", "-o", tmp_path / "out")
    assert text.startswith(f"tinytrain: {tmp_path / 'm.onnx'}: is damaged or of another kind (tuple index out of range); expected an ")
