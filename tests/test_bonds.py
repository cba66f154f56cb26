# SPDX-License-Identifier: Apache-2.0
"""Bonds to where a model started: what they add to a loss and to an update, what they cost, that reference, twin and boards agree."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import ModelMaker
from test_traces import need

import tinytrain
from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model, describe, understand, write
from tinytrain.data.given import Given
from tinytrain.device.project import Project
from tinytrain.emit.project import link_keys
from tinytrain.errors import DataError, ModelError, TinytrainError
from tinytrain.gradient.distil import Distil
from tinytrain.gradient.elastic import Elastic
from tinytrain.gradient.replay import Replay
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import S8, S32, Array, Role
from tinytrain.learn.elastic import consolidated
from tinytrain.ops.schedule import Schedule
from tinytrain.quantise import lockstep
from tinytrain.quantise.convert import quantise_model
from tinytrain.report.live import Quiet
from tinytrain.target.board import load_board
from tinytrain.verify.reference import ReferenceModel, run

STEPS = 8
BOTH = {"distil": Distil(2.0, 3.0), "elastic": Elastic(30.0, {})}
CASES: dict[str, Options] = {
    "fp32": Options(scheme="last:2", optimiser=Optimiser(0.05)),
    "samples": Options(optimiser=Optimiser(0.02, momentum=0.9, accumulate=2), replay=Replay.of("6")),
    "schemes": Options(scheme="last:1", further_schemes=("bias",), optimiser=Optimiser(0.01, kind="adam")),
    "clipped": Options(scheme="last:1", optimiser=Optimiser(0.05, clip_norm=0.1)),
    "fp16": Options(scheme="last:2", dtype="fp16", optimiser=Optimiser(0.05)),
    "int8": Options(scheme="last:2", optimiser=Optimiser(0.05)),
    "int8-fp16": Options(scheme="last:2", grad="fp16", optimiser=Optimiser(0.05, momentum=0.5)),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bonds")
    onnx.save(zoo.model("cnn"), folder / "cnn.onnx")
    np.savez(folder / "samples.npz", x=samples(30)[0].transpose(0, 3, 1, 2))
    converted = quantise_model(folder / "cnn.onnx", folder / "samples.npz", lockstep.Options(), Quiet())
    onnx.save(converted.model, folder / "int8.onnx")
    return {"fp32": folder / "cnn.onnx", "int8": folder / "int8.onnx"}


def samples(count: int = STEPS) -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((count, 8, 8, 1)).astype(np.float32), rng.integers(0, 10, (count, 1)).astype(np.int32)


def old() -> Given:
    x, y = samples(20)
    return Given(x.transpose(0, 3, 1, 2), y.ravel())


def bound(models: dict[str, Path], case: str, board: str = "host") -> Compiled:
    """A model with both bonds."""
    path = models["int8" if case.startswith("int8") else "fp32"]
    options = consolidated(path, old(), CASES[case], 3.0, Quiet())
    return compile_model(path, replace(options, board=board, distil=Distil(0.5, 3.0)))


def learn(compiled: Compiled, folder: Path) -> tuple[Array, dict[str, Array]]:
    need(compiled.board.name)
    write(compiled, folder)
    x, y = samples()
    with Project.open(folder).session(timeout=600) as session:
        losses = [session.train_step(a, b).loss for a, b in zip(x, y, strict=True)]
        return np.array(losses, np.float32), session.get_params()


@pytest.mark.parametrize("case", CASES)
def test_the_twin_equals_the_reference(case: str, models: dict[str, Path], tmp_path: Path) -> None:
    made = bound(models, case)
    losses, stored = learn(made, tmp_path / "out")
    reference, (x, y) = ReferenceModel(made.program), samples()
    want = [reference.train_step(a, b) for a, b in zip(x, y, strict=True)]
    tolerance = 2e-3 if "fp16" in case else 2e-4 if case == "int8" else 2e-5
    np.testing.assert_allclose(losses, want, rtol=tolerance, atol=tolerance)
    for v, key in link_keys(made.program).items():
        if v.role is Role.PARAM and v.type.dtype.is_float:
            np.testing.assert_allclose(stored[key].reshape(v.shape), reference.state[v], rtol=tolerance, atol=tolerance, err_msg=key)
        elif v.role is Role.PARAM:                        # a number between two bytes may be rounded to either
            assert np.abs(stored[key].reshape(v.shape).astype(int) - reference.state[v].astype(int)).max() <= 2, key


@pytest.mark.parametrize("case", ["fp32", "int8"])
@pytest.mark.parametrize("board", ["mps2-an386", "mps2-an500", "riscv-virt"])
def test_boards_equal_their_twins_bit_for_bit(board: str, case: str, models: dict[str, Path], tmp_path: Path) -> None:
    twin, on_twin = learn(bound(models, case, load_board(board).twin), tmp_path / "twin")
    found, on_board = learn(bound(models, case, board), tmp_path / "board")
    np.testing.assert_array_equal(found, twin)
    assert on_board.keys() == on_twin.keys()
    for name, array in on_twin.items():
        np.testing.assert_array_equal(on_board[name], array, err_msg=name)


def slopes(path: Path, options: Options, learned: dict[str, Array] | None = None) -> dict[str, Array]:
    """What a step adds to the sum of each gradient, from given weights, in float64."""
    summed = replace(options, optimiser=replace(options.optimiser, accumulate=2))
    model, (x, y) = ReferenceModel(understand(path, summed).program, np.float64), samples(1)
    model.state |= {v: learned[v.name].astype(np.float64) for v in model.program.stored(Role.PARAM)} if learned else {}
    model.train_step(x[0], y[0])
    return {v.name: model.state[v] for v in model.program.stored(Role.STATE) if v.name.startswith("sum_")}


def softmax(scores: Array) -> Array:
    e = np.exp(scores - scores.max())
    return np.asarray(e / e.sum())


def test_distillation_adds_the_gradient_of_the_papers_loss(models: dict[str, Path]) -> None:
    """T² times that of the cross entropy at T is T·(softmax z/T − softmax z0/T), with respect to the scores, and so to the last bias."""
    path, temperature, weight = models["fp32"], 3.0, 0.5
    options = Options(scheme="last:1")
    program = understand(path, options).program
    rng = np.random.default_rng(2)
    learned = {v.name: v.data + rng.normal(0, 0.1, v.shape) for v in program.stored(Role.PARAM) if v.data is not None}
    reference, (x, _) = ReferenceModel(program, np.float64), samples(1)
    said = reference.infer(x[0])
    for v in program.stored(Role.PARAM):
        reference.state[v] = learned[v.name]
    now = reference.infer(x[0])
    plain = slopes(path, options, learned)
    with_it = slopes(path, replace(options, distil=Distil(weight, temperature)), learned)
    bias = next(name for name, array in plain.items() if array.ndim == 1)
    want = weight * temperature * (softmax(now / temperature) - softmax(said / temperature))
    np.testing.assert_allclose(with_it[bias] - plain[bias], want.ravel(), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("loss", ["mse", "bce", "huber"])
def test_other_losses_have_what_it_said_as_a_target(loss: str, models: dict[str, Path]) -> None:
    """At the start that adds nothing."""
    path, options = models["fp32"], Options(scheme="last:1", loss=loss, optimiser=Optimiser(0.1))
    rng = np.random.default_rng(3)
    x, target = samples(1)[0][0], rng.random((1, 10)).astype(np.float32)
    ways = [ReferenceModel(understand(path, each).program) for each in (options, replace(options, distil=Distil(4.0)))]
    losses = [[model.train_step(x, target) for _ in range(2)] for model in ways]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    changed = [[*model.parameters().values()] for model in ways]
    assert any(not np.array_equal(a, b) for a, b in zip(*changed, strict=True)), "the second step must differ"


def test_the_scores_of_the_start_are_kept_in_a_memory(models: dict[str, Path]) -> None:
    """They never change: a replayed sample does not run through the start again."""
    options = Options(scheme="last:1", replay=Replay.of("8"), distil=Distil())
    program = understand(models["fp32"], options).program
    convs = [sum(node.op.name == "dense" for node in program.entries[entry].nodes) for entry in ("train", "replay")]
    assert convs == [2, 1]


def test_fisher_is_the_mean_squared_gradient(models: dict[str, Path]) -> None:
    found = consolidated(models["fp32"], old(), Options(scheme="last:1"), 5.0, Quiet()).elastic
    assert found is not None and found.strength == 5.0
    model, (x, y) = ReferenceModel(understand(models["fp32"], Options(scheme="last:1", optimiser=Optimiser(1.0))).program), samples(20)
    start = dict(model.state)
    squares: dict[str, Array] = {}
    for a, b in zip(x, y, strict=True):
        model.state = dict(start)
        model.train_step(a, b)
        for v, array in model.state.items():
            if v.role is Role.PARAM:
                squares[v.name] = squares.get(v.name, np.zeros(v.shape)) + np.square(start[v] - array)
    mean = sum(s.sum() for s in squares.values()) / sum(s.size for s in squares.values())
    for name, square in squares.items():
        np.testing.assert_allclose(found.fisher[name], (square / mean + 1) / 2, rtol=1e-3, atol=1e-4)


def test_fisher_does_not_depend_on_how_samples_are_handed_over(models: dict[str, Path]) -> None:
    """An int8 input takes the same samples."""
    options = Options(scheme="last:1")
    found = [consolidated(models["int8"], old(), replace(options, int8_input=given), 5.0, Quiet()).elastic for given in (False, True)]
    assert found[0] is not None and found[1] is not None
    for name, array in found[0].fisher.items():
        np.testing.assert_array_equal(found[1].fisher[name], array, err_msg=name)


def test_a_device_that_chooses_its_scheme_is_held(models: dict[str, Path]) -> None:
    options = Options(scheme="last:1", further_schemes=("last:2",), method="green:100")
    made = compile_model(models["fp32"], consolidated(models["fp32"], old(), options, 5.0, Quiet()))
    assert made.options.method == "green:100" and len(made.program.trains) == 2
    assert all("Pull" in repr([node.op for node in made.program.entries[train].nodes]) for train in made.program.trains)


def test_a_pull_takes_no_weight_beyond_its_start(models: dict[str, Path]) -> None:
    """However strong: in one step it is home at most."""
    path = models["fp32"]
    options = consolidated(path, old(), Options(scheme="last:1", optimiser=Optimiser(0.1)), 1e9, Quiet())
    program = understand(path, options).program
    for node in program.entries["train"].nodes:
        for op in (node.op, *getattr(node.op, "then", ())):
            if op.name == "pull":
                assert op.strength * 127**2 == pytest.approx(10.0)


@pytest.mark.parametrize(("case", "optimiser"), [
    ("fp32", Optimiser(0.001)), ("fp32", Optimiser(0.001, bias_factor=10.0)), ("int8", Optimiser(0.001)),
    ("fp32", Optimiser(0.001, schedule=Schedule("table", table=((0, 1.0), (1, 10.0))))),
], ids=["fp32", "biases", "int8", "table"])
def test_nor_does_it_at_a_larger_rate_than_the_compiled_one(case: str, optimiser: Optimiser, models: dict[str, Path]) -> None:
    """A rate is set at any time, and a schedule may raise it: weights that are off come home but for a step, and are not thrown beyond."""
    options = consolidated(models[case], old(), Options(scheme="last:1", optimiser=optimiser), 1e9, Quiet())
    model, (x, y) = ReferenceModel(understand(models[case], options).program), samples(1)
    if not optimiser.schedule.changes:
        model.set_lr(0.01)
    params = model.program.stored(Role.PARAM)
    start = {v: model.state[v].astype(np.float64) for v in params}
    for v in params:
        model.state[v] = (np.clip(start[v], -90, 90) + 30).astype(v.type.dtype.np)
    for _ in range(4):
        model.train_step(x[0], y[0])
    for v in params:
        assert np.abs(model.state[v] - start[v]).max() < (1000 if v.type.dtype is S32 else 30), v.name


def test_first_values_lie_in_flash_once(models: dict[str, Path], tmp_path: Path) -> None:
    path = models["fp32"]
    plain, options = compile_model(path, Options()), consolidated(path, old(), Options(), 1.0, Quiet())
    made = compile_model(path, replace(options, distil=Distil()))
    weights = sum(v.type.numel for v in plain.program.stored(Role.PARAM))
    roots = sum(v.type.nbytes for v in made.program.constants if v.type.dtype is S8)
    more = describe(made)["constants_bytes"] - describe(plain)["constants_bytes"]
    bounds = 4 * len(plain.program.stored(Role.PARAM))
    assert roots == weights and weights <= more <= weights + bounds + 16, "a byte a weight, the most of an update, few constants of losses"
    text = "".join(made.files.values())
    assert not [v for v in made.program.stored(Role.CONST) if f"data_{v.name}[" in text and v.name.endswith("_start")]


def test_arena_of_a_second_pass(models: dict[str, Path]) -> None:
    """It is over before the pass that is kept for gradients begins."""
    alone, taught = (compile_model(models["fp32"], Options(distil=distil)).plan.arena_bytes for distil in (None, Distil()))
    assert alone <= taught <= 1.05 * alone


def test_what_it_says_stays_the_loss_of_the_targets(models: dict[str, Path]) -> None:
    x, y = samples()
    programs = [understand(models["fp32"], Options(distil=distil)).program for distil in (None, Distil(9.0))]
    losses = [ReferenceModel(program).train_step(x[0], y[0]) for program in programs]
    assert losses[0] == losses[1]


def test_moving_statistics_are_those_of_the_start(tmp_path: Path) -> None:
    """Batch norms that follow the data are as they were in the pass of the start, dropout is left out of it."""
    m = ModelMaker(1, 2, 6, 6)
    m.conv(4, 2, pads=[1] * 4)
    m.batch_norm(4)
    m.node("Relu")
    m.node("Flatten")
    m.node("Dropout")
    m.dense(5, 144)
    onnx.save(m.model(), path := tmp_path / "m.onnx")
    x, y = np.random.default_rng(5).standard_normal((6, 6, 6, 2)).astype(np.float32), np.arange(6).reshape(6, 1).astype(np.int32) % 5
    options = Options(running_statistics=True, dropout=True, distil=Distil(), optimiser=Optimiser(0.1))
    program = understand(path, options).program
    infer = ReferenceModel(program)
    said = [softmax(infer.infer(one) / 2) for one in x]
    graph, model = program.entries["train"], ReferenceModel(program)
    soft = next(node.outputs[0] for node in graph.nodes if node.op.name == "softmax")
    for one, label, want in zip(x, y, said, strict=True):
        found = run(graph, [one, label], model.state, keep=[soft]).values[soft]
        np.testing.assert_allclose(found.ravel(), want.ravel(), rtol=1e-5)
        model.train_step(one, label)


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "1:0", "1:2:3", "inf", "nan", "1e9"])
def test_bad_texts(text: str) -> None:
    with pytest.raises(TinytrainError, match="expected a weight"):
        Distil.of(text)


def test_what_has_no_sense(models: dict[str, Path]) -> None:
    cnn = tinytrain.load(models["fp32"])
    x, y = old().x, old().y
    assert y is not None
    with pytest.raises(ModelError, match="local has losses of its own; --distil"):
        cnn.compile(method="local", distil="1")
    with pytest.raises(ModelError, match="zeroth has losses of its own; --elastic"):
        cnn.compile(method="zeroth", old=(x, y), elastic=1.0)
    with pytest.raises(ModelError, match="temperature of --distil softens class scores; found loss mse"):
        cnn.compile(loss="mse", distil="1:3")
    with pytest.raises(TinytrainError, match="no --grad int8"):
        tinytrain.load(models["int8"]).compile(grad="int8", distil="1")
    with pytest.raises(ModelError, match="weights are pulled in fp32"):
        tinytrain.load(models["int8"]).compile(grad="int8", old=(x, y), elastic=1.0)
    with pytest.raises(TinytrainError, match="--old has no effect without --elastic"):
        cnn.compile(old=(x, y))
    with pytest.raises(TinytrainError, match="--elastic has no effect without --old"):
        cnn.compile(elastic=1.0)
    with pytest.raises(DataError, match="without targets"):
        cnn.compile(old=Given(x), elastic=1.0)            # type: ignore[arg-type]
    with pytest.raises(DataError):
        cnn.compile(old=(np.zeros((3, 1, 5, 5), np.float32), [0, 1, 2]), elastic=1.0)
    with pytest.raises(ModelError, match="trains nothing"):
        cnn.compile(loss="none", old=(x, y), elastic=1.0)


def test_the_manifest_says_what_holds_on(models: dict[str, Path]) -> None:
    made = describe(bound(models, "fp32"))
    assert made["distil"] == {"weight": 0.5, "temperature": 3.0} and made["elastic"]["strength"] == 3.0
    assert dataclasses.asdict(Distil.of("2")) == {"weight": 2.0, "temperature": None}


@pytest.mark.parametrize("asked", [
    {"distil": Distil(2.0, 3.0)}, {"elastic": Elastic(30.0, {})}, {"method": "local"}, {"method": "zeroth"},
], ids=str)
def test_what_trains_nothing_has_no_use_for_them(asked: dict[str, Any], tmp_path: Path) -> None:
    """Whether nothing is to be trained, or there is nothing that could be."""
    onnx.save(zoo.model("mlp"), tmp_path / "mlp.onnx")
    plain = ModelMaker(1, 6)
    plain.node("Relu")
    onnx.save(plain.model(), tmp_path / "plain.onnx")
    for name, options in (("mlp", Options(loss=None)), ("plain", Options(loss_by_default=True))):
        assert not compile_model(tmp_path / f"{name}.onnx", options).program.trains
        with pytest.raises(ModelError, match=r"trains nothing, so --.* would have no effect"):
            compile_model(tmp_path / f"{name}.onnx", replace(options, **asked))
