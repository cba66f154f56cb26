# SPDX-License-Identifier: Apache-2.0
"""Batch norms whose statistics follow the samples: as ONNX moves them, the same in C, exported, and of use where the world changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runs import succeed
from ctypes_model import Library, assert_learns_as_reference
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_models import ModelMaker, imported

from tinytrain.compiler import Compiled, Options, compile_model, load_forward
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Array, Role
from tinytrain.schemes.scheme import Scheme, Select
from tinytrain.verify.reference import ReferenceModel, run

SHAPE, CLASSES = (2, 6, 6), 3


def small(path: Path, training: bool = False) -> Path:
    m = ModelMaker(1, *SHAPE)
    m.conv(8, 2)
    m.batch_norm(8)
    if training:
        m.nodes[-1].attribute.append(onnx.helper.make_attribute("training_mode", 1))
        m.nodes[-1].output.extend(["mean", "var"])
    m.node("Relu")
    m.conv(6, 8, 1)
    m.batch_norm(6)
    m.node("Relu")
    m.node("Flatten")
    m.dense(CLASSES, 6 * 16)
    onnx.save(m.model(), path)
    return path


def following(folder: Path, accumulate: int = 1, scheme: str | Scheme = "full", *more: str | Scheme, lr: float = 0.01) -> Compiled:
    options = Options(
        scheme=scheme, further_schemes=more, running_statistics=True, optimiser=Optimiser(lr, accumulate=accumulate), exact_seconds=0
    )
    return compile_model(small(folder / "m.onnx"), options)


@pytest.mark.parametrize(("accumulate", "schemes"), [
    (1, ("full",)), (3, ("last:1", "full")), (2, ("none",)), (3, (Scheme({"n_conv_3": {"weight": Select(0.5)}}),)),
])
def test_c_follows_as_the_reference(accumulate: int, schemes: tuple[str | Scheme, ...], tmp_path: Path) -> None:
    assert_learns_as_reference(Library(following(tmp_path, accumulate, *schemes), tmp_path))


def statistics(model: ReferenceModel) -> list[Array]:
    """Mean and variance of the first batch norm."""
    names = model.program.entries["train"].nodes
    first = next(node for node in names if node.op.name == "batch_norm")
    mean = first.inputs[3]
    var = next(node for node in names if node.op.name == "inverse_deviation").inputs[0]
    return [model.state[mean], model.state[var]]


@pytest.mark.parametrize("accumulate", [1, 4])
def test_statistics_move_as_onnx_says(accumulate: int, tmp_path: Path) -> None:
    """Those of a group of samples are what BatchNormalization in training mode gives for the batch of them."""
    compiled = following(tmp_path, accumulate)
    model = ReferenceModel(compiled.program, np.float64)
    source = compiled.prepared.model
    rng = np.random.default_rng(0)
    samples = rng.normal(2, 3, (accumulate, *SHAPE)).astype(np.float32)
    conv, norm = source.graph.node[:2]
    new = onnx.NodeProto()
    new.CopyFrom(norm)
    del new.output[:]
    new.output.extend(["y", "mean", "var"])
    new.attribute.append(onnx.helper.make_attribute("training_mode", 1))
    ends = [[onnx.helper.make_tensor_value_info(name, 1, None) for name in names] for names in ("x", ("mean", "var"))]
    graph = onnx.helper.make_graph([conv, new], "group", *ends, source.graph.initializer)
    want = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=source.opset_import)).run(None, {"x": samples})
    for x in samples:
        model.train_step(x.transpose(1, 2, 0), np.zeros(1, np.int32))
    for got, expected in zip(statistics(model), want, strict=True):
        np.testing.assert_allclose(got, expected, 1e-5)


def test_statistics_are_learned(tmp_path: Path) -> None:
    """They are in RAM, in what is read from a device and in the model that is exported, and count as no weight."""
    small(tmp_path / "m.onnx")
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "d.npz", x=rng.normal(1, 2, (20, *SHAPE)).astype(np.float32), y=rng.integers(0, CLASSES, 20))
    out = str(tmp_path / "out")
    said = succeed("compile", str(tmp_path / "m.onnx"), "-o", out, "--running-statistics", "--accumulate", "2")
    assert "running mean of BatchNormalization" in said
    assert "trained    525 weights in 5 layers" in said
    succeed("train", out, "--data", str(tmp_path / "d.npz"), "--epochs", "1")
    before, after = (onnx.load(tmp_path / "out" / name).graph for name in ("model.onnx", "learned.onnx"))
    norm = next(node for node in after.node if node.op_type == "BatchNormalization")
    for name in norm.input[1:]:
        old, new = (next(numpy_helper.to_array(t) for t in graph.initializer if t.name == name) for graph in (before, after))
        assert not np.allclose(old, new), name


def blobs(rng: np.random.Generator, count: int, scale: float = 1.0, shift: float = 0.0) -> tuple[Array, Array]:
    """Maps of which each class is bright at rows of its own."""
    labels = rng.integers(0, CLASSES, count).astype(np.int32)
    x = rng.normal(0, 0.6, (count, 6, 6, 2))
    for k in range(CLASSES):
        x[labels == k, 2 * k : 2 * k + 2] += 1.0
    return (scale * x + shift).astype(np.float32), labels


def test_a_world_that_changes_is_followed(tmp_path: Path) -> None:
    """Darker and of less contrast, samples without labels that mean anything bring back what frozen statistics lose."""
    model = ReferenceModel(following(tmp_path, 4, "full", "none", lr=0.05).program)
    rng = np.random.default_rng(2)

    def accuracy(x: Array, y: Array) -> float:
        return float(np.mean([model.infer(a).argmax() == b for a, b in zip(x, y, strict=True)]))

    for x, y in zip(*blobs(rng, 240), strict=True):
        model.train_step(x, y[None])
    changed = blobs(rng, 100, 0.3, -4.0)
    assert accuracy(*blobs(rng, 100)) > 0.95
    lost = accuracy(*changed)
    assert lost < 0.7
    model.set_scheme(1)
    for x, _ in zip(*blobs(rng, 240, 0.3, -4.0), strict=True):
        model.train_step(x, np.zeros(1, np.int32))
    assert accuracy(*changed) > max(0.9, lost + 0.25)


def test_training_mode_of_a_file(tmp_path: Path) -> None:
    """Where nobody reads the new statistics the option decides; else they, and the result, are those of the input."""
    options = Options(exact_seconds=0)
    path = small(tmp_path / "m.onnx", training=True)
    prepared, plain, graph = load_forward(path, options)
    assert "n_batchnormalization_1 (BatchNormalization) is in training mode" in plain.notes[0]
    assert not graph.stored(Role.PARAM)
    assert not any(a.name == "training_mode" for node in prepared.model.graph.node for a in node.attribute)


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (1, 3, 7), (6, 3), (2, 3, 4)])
def test_training_mode_whose_statistics_are_read(shape: tuple[int, ...], tmp_path: Path) -> None:
    m = ModelMaker(1, int(np.prod(shape)))
    m.node("Reshape", m.stored(np.array(shape)))
    m.batch_norm(3)
    m.nodes[-1].attribute.extend([onnx.helper.make_attribute("training_mode", 1), onnx.helper.make_attribute("momentum", 0.6)])
    m.nodes[-1].output.extend(["mean", "var"])
    model = m.model()
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, [3]) for name in ("mean", "var"))
    x = np.random.default_rng(3).normal(1, 2, (1, int(np.prod(shape)))).astype(np.float32)
    want = ReferenceEvaluator(model).run(None, {"x": x})
    read = imported(model, tmp_path)
    for port, got, expected in zip(read.outputs, run(read.graph, [x[0]]).outputs, want, strict=True):
        back = np.argsort(port.perm).astype(int)
        whole = tuple(port.onnx_shape[-len(port.perm):][a] for a in port.perm)
        np.testing.assert_allclose(got.reshape(whole).transpose(back).reshape(expected.shape), expected, 1e-4, 1e-5)


def test_statistics_that_two_share_stay(tmp_path: Path) -> None:
    path = small(tmp_path / "m.onnx")
    model = onnx.load(path)
    first, second = (node for node in model.graph.node if node.op_type == "BatchNormalization")
    model.graph.node.insert(list(model.graph.node).index(first) + 1, onnx.helper.make_node(
        "BatchNormalization", [first.output[0], *first.input[1:]], ["again"], "again"))
    next(node for node in model.graph.node if node.op_type == "Relu").input[0] = "again"
    onnx.save(model, path)
    found = compile_model(path, Options(running_statistics=True, exact_seconds=0))
    assert sum("shares its statistics with another node" in note for note in found.imported.notes) == 2
    assert len(found.imported.graph.updates) == 2, second
