# SPDX-License-Identifier: Apache-2.0
"""Methods whose layers learn from something else than the loss of the model: goodness, what a second network makes of classes, noised
labels, and predictors beside a frozen network. Each learns as the reference does, on boards too, and says what it does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from ctypes_model import Library, assert_learns_as_reference
from frontend_models import f32, infer
from onnx_models import ModelMaker
from test_ladder import MODELS, saved
from test_methods import boards_learn, goals

from tinytrain import zoo
from tinytrain.compiler import Options, compile_model, load_model
from tinytrain.errors import ModelError, SchemeError
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Role
from tinytrain.ops.draws import drawn
from tinytrain.ops.labels import NoisedLabel, OtherLabel
from tinytrain.ops.loss import SoftmaxCrossEntropy
from tinytrain.ops.loss_mean import MseGrad
from tinytrain.ops.quantize import Dequantise
from tinytrain.ops.softmax import Softmax
from tinytrain.ops.softmax_q import SoftmaxQ
from tinytrain.verify.checks import GRADIENT_RTOL, check_graph
from tinytrain.verify.reference import ReferenceModel

FITS = {"forward-forward": "cnn", "counter-current": "cnn", "noprop": "denoiser", "cascaded": "cnn"}
COUNTER = np.zeros(1, np.int32)


def model(name: str, folder: Path) -> Path:
    return saved(zoo.model(name), folder)


@pytest.mark.parametrize("name", ["noprop", "cascaded"])
def test_learns_as_the_reference(name: str, tmp_path: Path) -> None:
    assert_learns_as_reference(Library(compile_model(model(FITS[name], tmp_path), Options(method=name)), tmp_path))


OTHERS = {
    "rows": ("mlp", Options(method="forward-forward")),
    "rows against classes": ("mlp", Options(method="counter-current", optimiser=Optimiser(0.01, 0.9))),
    "a series": ("gesture", Options(method="counter-current", optimiser=Optimiser(0.001, kind="adam"))),
    "a series of goodness": ("gesture", Options(method="forward-forward", optimiser=Optimiser(0.01, accumulate=3))),
    "several schemes": ("denoiser", Options(method="noprop", further_schemes=("last:6",), optimiser=Optimiser(0.01, 0.9))),
    "int8": ("int8 softmax", Options(method="cascaded")),
}


@pytest.mark.parametrize("case", OTHERS)
def test_goes_with_other_models_and_options(case: str, tmp_path: Path) -> None:
    name, options = OTHERS[case]
    path = saved(MODELS[name](), tmp_path) if name in MODELS else model(name, tmp_path)
    assert_learns_as_reference(Library(compile_model(path, options), tmp_path))


@pytest.mark.parametrize("name", ["noprop", "counter-current", "forward-forward"])
def test_gradients_of_each_loss(name: str, tmp_path: Path) -> None:
    """Against central differences in float64, and each parameter learns from one loss; maps of several sizes on one path."""
    path = model("gesture" if name != "noprop" else "denoiser", tmp_path)
    step, graph, found = goals(path, name)
    rng = np.random.default_rng(5)
    inputs = [rng.normal(size=v.shape) if v.type.dtype.is_float else np.array([2], np.int32) for v in graph.inputs]
    trained = [target.param for goal in found for target in goal.targets]
    assert len(trained) == len(set(trained)) and set(trained) >= {target.param for target in step.targets}
    for goal in found:
        for error in check_graph(graph, goal.loss, [target.param for target in goal.targets], inputs, samples=40):
            assert error.relative <= GRADIENT_RTOL and error.compared, error


# --- what each does -----------------------------------------------------------------------------------------------


def moved(path: Path, name: str, sample: np.ndarray, label: int, steps: int = 60) -> ReferenceModel:
    made = ReferenceModel(compile_model(path, Options(method=name, optimiser=Optimiser(0.03))).program)
    for _ in range(steps):
        made.train_step(sample, np.array([label], np.int32))
    return made


@pytest.mark.parametrize("name", FITS)
def test_infers_the_class_that_it_was_taught(name: str, tmp_path: Path) -> None:
    path = model(FITS[name], tmp_path)
    sample = np.abs(f32(1, 8, 8)).reshape(compile_model(path, Options()).program.entries["infer"].inputs[0].shape)
    made = moved(path, name, sample, 7)
    loss, scores = made.evaluate(sample, np.array([7], np.int32))
    assert int(np.argmax(scores)) == 7 and loss < 0.5


def test_blocks_of_noprop_read_nothing_of_each_other(tmp_path: Path) -> None:
    """A step of one block changes no other, and no row of probabilities is made on the way to a loss."""
    train = compile_model(model("denoiser", tmp_path), Options(method="noprop")).program.entries["train"]
    assert sum(node.op.name == "noised_label" for node in train.nodes) == 2
    assert not any(node.op.name == "softmax" for node in train.nodes)


def test_noprop_takes_less_memory_than_backprop(tmp_path: Path) -> None:
    arena = {
        name: compile_model(model("denoiser", tmp_path), Options(method=name)).plan for name in ("backprop", "noprop")
    }
    assert arena["noprop"].arena_bytes - arena["noprop"].fixed_bytes < arena["backprop"].arena_bytes - arena["backprop"].fixed_bytes


def test_other_labels_are_all_others() -> None:
    """Each of the others about as often, and never the label itself."""
    found = [int(OtherLabel(5, 3).reference(np.array([2], np.int32), COUNTER + t)[0][0]) for t in range(4000)]
    assert sorted(set(found)) == [0, 1, 3, 4]
    assert max(abs(found.count(one) - 1000) for one in set(found)) < 120


def test_noise_of_labels() -> None:
    """Mean 0 and variance 1, and the size of the label on top."""
    count = 20_000
    (z,) = NoisedLabel(count, 0.5, 2.0, 1).reference(np.array([7], np.int32), COUNTER)
    (plain,) = NoisedLabel(count, 0.0, 2.0, 1).reference(np.array([7], np.int32), COUNTER)
    assert abs(plain.mean()) < 0.05 and abs(plain.std() - 2) < 0.05
    assert np.flatnonzero(z - plain).tolist() == [7] and z[7] - plain[7] == pytest.approx(0.5)
    assert len(set(drawn(1, COUNTER, (count,)))) > count // 2


def test_cascaded_changes_nothing_before_it_learns(tmp_path: Path) -> None:
    path = model("cnn", tmp_path)
    plain, beside = (load_model(path, Options(method=name))[1] for name in ("backprop", "cascaded"))
    sample = f32(*plain.input.onnx_shape)
    np.testing.assert_array_equal(infer(beside, sample), infer(plain, sample))


def test_predictors_alone_learn_and_are_kept(tmp_path: Path) -> None:
    """Of a frozen network no gradient is made; compiled again it has no second set of predictors."""
    compiled = compile_model(model("cnn", tmp_path), Options(method="cascaded"))
    trained = {v.source.initializer for v in compiled.program.stored(Role.PARAM) if v.source}
    assert trained == {"cascaded_1.weight", "cascaded_2.weight", "fc_weight", "fc_bias"}
    train = compiled.program.entries["train"]
    assert not [node for node in train.nodes if "grad_x" in node.op.name]
    assert sum(isinstance(node.op, SoftmaxCrossEntropy) for node in train.nodes) == 4        # three that teach, and that which is reported
    again = compile_model(saved(compiled.prepared.model, tmp_path), Options(method="cascaded"))
    assert again.schemes == compiled.schemes


@pytest.mark.parametrize("kind", ["fp32", "int8"])
@pytest.mark.parametrize("name", ["local", "mono", "counter-current", "cascaded"])
def test_losses_that_teach_have_the_softmax_of_the_model(name: str, kind: str, tmp_path: Path) -> None:
    """Where the loss does not contain it: all goals are the same loss of probabilities."""
    m = ModelMaker(1, 2, 6, 6)
    m.conv(6, 2, pads=[1] * 4)
    m.node("Relu")
    m.conv(8, 6, pads=[1] * 4)
    m.node("Flatten")
    m.dense(3, 8 * 36)
    m.node("Softmax", axis=-1)
    path = saved(m.model() if kind == "fp32" else MODELS["int8 softmax"](), tmp_path)
    compiled = compile_model(path, Options(method=name, loss="mse"))
    train = compiled.program.entries["train"]
    made, taught = train.producers(), [node for node in train.nodes if isinstance(node.op, MseGrad)]
    assert len(taught) > 1
    for goal in taught:
        last = made[goal.inputs[0]]
        assert isinstance((made[last.inputs[0]] if isinstance(last.op, Dequantise) else last).op, (Softmax, SoftmaxQ)), goal.origin
    assert_learns_as_reference(Library(compiled, tmp_path))


def test_cascaded_says_that_a_last_layer_shares_its_weight(tmp_path: Path) -> None:
    m = ModelMaker(1, 2, 4, 4)
    m.conv(3, 2, pads=[1] * 4)
    m.node("Flatten")
    m.dense(5, 48)
    shared = m.weight(5, 5)
    m.node("Gemm", shared)
    m.node("Gemm", shared)
    with pytest.raises(ModelError, match=r"cascaded trains the last layer alone; .* is read by 2 layers"):
        compile_model(saved(m.model(), tmp_path), Options(method="cascaded"))


# --- refusals -----------------------------------------------------------------------------------------------------


def two_outputs(folder: Path) -> Path:
    m = ModelMaker(1, 2, 6, 6)
    m.conv(3, 2, pads=[1] * 4)
    flat = m.node("Flatten")
    first = m.dense(3, 108)
    m.node("Gemm", m.weight(4, 108), m.weight(4), first=flat, transB=1)
    made = m.model()
    made.graph.output.append(onnx.helper.make_tensor_value_info(first, onnx.TensorProto.FLOAT, [1, 3]))
    return saved(made, folder)


REFUSALS: dict[str, tuple[str, Callable[[Path], Path], Options]] = {
    "goodness without labels": (
        "forward-forward tells samples with their label from others; this loss takes no label",
        lambda folder: model("cnn", folder), Options(method="forward-forward", loss="mse"),
    ),
    "goodness of integers": (
        "forward-forward adds to what layers read; .* is s8",
        lambda folder: saved(MODELS["int8"](), folder), Options(method="forward-forward"),
    ),
    "noise without labels": ("noprop noises labels", lambda folder: model("denoiser", folder), Options(method="noprop", loss="mse")),
    "no probabilities": (
        r"noprop trains blocks that read the sample and 10 class probabilities of the one before; nowhere do these alone pass, the least "
        r"that does is d with 1,024 B\.", lambda folder: model("cnn", folder), Options(method="noprop"),
    ),
    "one layer": (
        "counter-current cuts .* cut nowhere", lambda folder: model("cnn", folder), Options(method="counter-current", scheme="head"),
    ),
    "two outputs": ("cascaded does not fit .* it has 2 outputs", two_outputs, Options(method="cascaded")),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_does_not_fit_is_said(case: str, tmp_path: Path) -> None:
    why, made, options = REFUSALS[case]
    with pytest.raises(ModelError, match=why):
        compile_model(made(tmp_path), options)


@pytest.mark.parametrize("name", ["local", "local-momentum", "mono", "counter-current", "cascaded", "ladder", "lowrank"])
def test_methods_that_add_reals_refuse_integers_alone(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"--method {name} adds parts that are fp32; --grad int8 trains with integers alone"):
        compile_model(saved(MODELS["int8"](), tmp_path), Options(method=name, grad="int8"))


def test_cascaded_takes_no_scheme(tmp_path: Path) -> None:
    with pytest.raises(SchemeError, match="--method cascaded trains what it puts beside the model"):
        compile_model(model("cnn", tmp_path), Options(method="cascaded", scheme="last:2"))


# --- everywhere the same bits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FITS)
def test_boards_learn_the_same_bits(name: str, tmp_path: Path) -> None:
    boards_learn(model(FITS[name], tmp_path), Options(method=name, optimiser=Optimiser(0.01, 0.9)), tmp_path)
