# SPDX-License-Identifier: Apache-2.0
"""Blocks of a network that learn from losses of their own: what the C does equals the reference, each gradient is that of one loss and
crosses no cut, boards have the bits of the twin, and what does not fit is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from ctypes_model import Library, assert_learns_as_reference
from onnx_models import ModelMaker
from test_traces import SOME, STEPS, assert_boards_equal_twins

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model, load_forward, understand, write
from tinytrain.device.project import Project
from tinytrain.emit.golden import golden_vectors
from tinytrain.errors import ModelError, TinytrainError
from tinytrain.gradient.blocks import Blocks
from tinytrain.gradient.method import Auxiliary, Goal, Step
from tinytrain.gradient.methods import method
from tinytrain.gradient.objective import aims_of, with_loss
from tinytrain.gradient.partial import with_targets
from tinytrain.gradient.update import Optimiser, States
from tinytrain.ir.graph import Graph
from tinytrain.ir.types import Role, Value
from tinytrain.learn.exchange import pull
from tinytrain.learn.units import dead_units
from tinytrain.learn.weights import compiled as compiled_weights
from tinytrain.learn.weights import export_learned, restore
from tinytrain.quantise import lockstep
from tinytrain.quantise.convert import quantise_model
from tinytrain.report.live import Quiet
from tinytrain.schemes.choose import choose_all
from tinytrain.schemes.scheme import Scheme, Select, resolve
from tinytrain.verify.checks import GRADIENT_RTOL, check_graph, model_gradients
from tinytrain.verify.reference import ReferenceModel

METHODS = ("local", "local:2", "local:3:2", "local-momentum", "local-momentum:3", "mono", "forward-forward", "counter-current")


@pytest.fixture
def cnn(tmp_path: Path) -> Path:
    onnx.save(zoo.model("cnn"), path := tmp_path / "cnn.onnx")
    return path


def saved(m: ModelMaker, path: Path) -> Path:
    onnx.save(m.model(), path)
    return path


@pytest.fixture
def residual(tmp_path: Path) -> Path:
    """A shortcut passes over a layer; two maps pass where the network is cut within."""
    m = ModelMaker(1, 2, 8, 8)
    m.conv(6, 2, pads=[1] * 4)
    start = m.node("Relu")
    m.conv(6, 6, pads=[1] * 4)
    m.node("Relu")
    m.conv(6, 6, pads=[1] * 4)
    m.node("Add", start)
    m.node("Relu")
    m.conv(7, 6, pads=[1] * 4, strides=[2, 2])
    m.node("Relu")
    m.node("GlobalAveragePool")
    m.node("Flatten")
    m.dense(4, 7)
    return saved(m, tmp_path / "residual.onnx")


@pytest.mark.parametrize("name", METHODS)
def test_learns_as_the_reference(name: str, cnn: Path, tmp_path: Path) -> None:
    assert_learns_as_reference(Library(compile_model(cnn, Options(method=name)), tmp_path))


PIECES = Scheme({"conv1": {"weight": Select(0.5, side="out")}, "conv2": {"weight": Select(0.5)}, "fc": {"weight": Select(0.25)}})
OTHERS = {
    "momentum": Options(method="local", optimiser=Optimiser(0.01, 0.9, weight_decay=1e-3)),
    "summed": Options(method="local", optimiser=Optimiser(0.01, accumulate=3)),
    "bounded": Options(method="local", optimiser=Optimiser(0.01, clip_norm=0.5)),
    "adam": Options(method="mono", optimiser=Optimiser(0.001, kind="adam")),
    "mean square": Options(method="local", loss="mse"),
    "smoothed": Options(method="mono", loss_options={"label_smoothing": 0.1}),
    "in part": Options(method="local", scheme="last:2"),
    "pieces": Options(method="local:3", scheme=PIECES),
    "pieces of each layer": Options(method="mono", scheme=PIECES),
    "pieces and goodness": Options(method="forward-forward", scheme=PIECES),
    "several": Options(method="local", further_schemes=("last:2",)),
    "all or nothing": Options(method="local", guards="step"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_goes_with_other_options(case: str, cnn: Path, tmp_path: Path) -> None:
    assert_learns_as_reference(Library(compile_model(cnn, OTHERS[case]), tmp_path))


@pytest.mark.parametrize("name", METHODS)
def test_maps_that_pass_a_cut(name: str, residual: Path, tmp_path: Path) -> None:
    assert_learns_as_reference(Library(compile_model(residual, Options(method=name)), tmp_path))


def normed(*channels: int) -> ModelMaker:
    """Convolutions with batch norms, and scores of three classes."""
    m = ModelMaker(1, 2, 6, 6)
    for before, now in pairwise((2, *channels)):
        m.conv(now, before, pads=[1] * 4)
        m.batch_norm(now)
        m.node("Relu")
    m.node("Flatten")
    m.dense(3, channels[-1] * 36)
    return m


def test_batch_norms_that_follow_the_samples(tmp_path: Path) -> None:
    """What moves statistics runs once, though what leads to a block runs again."""
    path = saved(normed(4, 5), tmp_path / "bn.onnx")
    assert_learns_as_reference(Library(compile_model(path, Options(method="local", running_statistics=True)), tmp_path))


# --- gradients ----------------------------------------------------------------------------------------------------


def goals(path: Path, name: str, scheme: str | Scheme = "full") -> tuple[Step, Graph, list[Goal]]:
    """What a method differentiates of a model that is trained by a scheme."""
    _, _, forward = load_forward(path, Options())
    forward, (targets,) = with_targets(*choose_all([resolve(scheme, forward)], forward))
    aims = aims_of("ce", forward)
    _, g, loss = with_loss(forward, aims)
    step = Step(g, forward, aims, loss, targets, {}, Auxiliary(forward), States(Optimiser()))
    found = list(method(name).goals(step))
    return step, g.graph([goal.loss for goal in found]), found


@pytest.mark.parametrize("name", METHODS)
def test_gradients_of_each_loss(name: str, residual: Path) -> None:
    """Against central differences in float64, heads included; what a block does not train, its loss does not move."""
    check_goals(*goals(residual, name))


@pytest.mark.parametrize("name", METHODS)
def test_gradients_of_parts_of_weights(name: str, cnn: Path) -> None:
    check_goals(*goals(cnn, name, PIECES))


def check_goals(step: Step, graph: Graph, found: Sequence[Goal]) -> None:
    rng = np.random.default_rng(5)
    inputs = [rng.normal(size=v.shape) if v.type.dtype.is_float else np.array([2], np.int32) for v in graph.inputs]
    trained: list[Value] = []
    for goal in found:
        for error in check_graph(graph, goal.loss, [target.param for target in goal.targets], inputs):
            assert error.relative <= GRADIENT_RTOL and error.compared, error
        trained += [target.param for target in goal.targets]
    assert len(trained) == len(set(trained)), "a parameter learns from two losses"
    assert set(trained) >= {target.param for target in step.targets}


def test_no_gradient_crosses_a_cut(residual: Path) -> None:
    """One step of the whole program moves each block as a program with its loss alone would."""
    _, graph, found = goals(residual, "local")
    model = ReferenceModel(understand(residual, Options(method="local", optimiser=Optimiser(1.0))).program, np.float64)
    rng = np.random.default_rng(6)
    x, label = rng.normal(size=graph.inputs[0].shape), np.array([1], np.int32)
    before = {key: array.copy() for key, array in model.parameters().items()}
    model.train_step(x, label)
    moved = {key: before[key] - array for key, array in model.parameters().items()}
    for goal in found:
        wanted = [target.param for target in goal.targets]
        for v, gradient in model_gradients(graph, goal.loss, wanted, [x, label]).items():
            np.testing.assert_allclose(moved[v.name].reshape(gradient.shape), gradient, rtol=1e-6, atol=1e-9, err_msg=v.name)


# --- what is added, and where it is kept --------------------------------------------------------------------------


def test_infers_and_evaluates_as_the_model(cnn: Path) -> None:
    """What a method adds is only for learning."""
    plain, local = (compile_model(cnn, Options(method=name)).program.entries for name in ("backprop", "local"))
    for entry in ("infer", "evaluate"):
        assert [node.op for node in local[entry].nodes] == [node.op for node in plain[entry].nodes]


def test_added_parameters_are_marked(cnn: Path) -> None:
    added = [v for v in compile_model(cnn, Options(method="local:2")).program.stored(Role.PARAM) if v.source and v.source.auxiliary]
    assert [v.shape for v in added] == [(10, 128), (10,)]


def test_a_name_that_the_model_has_is_not_taken(cnn: Path) -> None:
    """An initializer may be called as a head would be."""
    (name,) = (v.name for v in compile_model(cnn, Options(method="local:2")).program.stored(Role.PARAM) if v.name.endswith("_head_weight"))
    model = onnx.load(cnn)
    for node in model.graph.node:
        node.input[:] = [name if i == "fc_weight" else i for i in node.input]
    next(t for t in model.graph.initializer if t.name == "fc_weight").name = name
    onnx.save(model, cnn)
    compiled = compile_model(cnn, Options(method="local:2"))
    sources = [v.source.initializer for v in compiled.program.stored(Role.PARAM) if v.source]
    assert len(sources) == len(set(sources)) and f"{name}_" in sources


def test_kept_with_what_is_learned_and_left_out_of_the_model(cnn: Path, tmp_path: Path) -> None:
    made = compile_model(cnn, Options(method="local", optimiser=Optimiser(0.05)))
    write(made, tmp_path / "out")
    project = Project.open(tmp_path / "out")
    golden = golden_vectors(made.program, 5)
    with project.session() as session:
        start = compiled_weights(project, session)
        for x, target in zip(golden.x, golden.target, strict=True):
            session.train_step(x, target)
        learned = session.get_params()
        path = export_learned(project, session)
        session.reset()
        assert all((session.get_params()[key].reshape(-1) == array).all() for key, array in start.items())
        restore(project, session)
        again = session.get_params()
    heads = [key for key in learned if "head" in key]
    assert heads and all((learned[key].reshape(-1) != start[key]).any() for key in heads)
    assert all((again[key] == learned[key]).all() for key in learned)
    initializers = {t.name for t in onnx.load(path).graph.initializer}
    assert initializers == {t.name for t in onnx.load(cnn).graph.initializer}
    with project.session() as session:
        pull(project, session, tmp_path / "pulled.onnx", print, changes=False)
        dead_units(project, session, golden.x)
    assert {t.name for t in onnx.load(tmp_path / "pulled.onnx").graph.initializer} == initializers


# --- memory and cuts ----------------------------------------------------------------------------------------------


def deep(folder: Path) -> Path:
    m = ModelMaker(1, 3, 32, 32)
    m.conv(8, 3, pads=[1] * 4)
    m.node("Relu")
    for _ in range(5):
        m.conv(8, 8, pads=[1] * 4)
        m.node("Relu")
    m.node("GlobalAveragePool")
    m.node("Flatten")
    m.dense(4, 8)
    return saved(m, folder / "deep.onnx")


def test_maps_of_one_block_are_in_memory_at_once(tmp_path: Path) -> None:
    """Of six equal maps all are kept by back-propagation, and of a layer alone the one that it reads and a gradient."""
    one = 4 * 32 * 32 * 8
    taken = {}
    for name in ("backprop", "local:2", "local", "mono"):
        plan = compile_model(deep(tmp_path), Options(method=name)).plan
        taken[name] = (plan.arena_bytes - plan.fixed_bytes) / one
    assert taken["backprop"] > 6
    assert taken["mono"] <= taken["local"] < 3 < taken["local:2"] < taken["backprop"]


def test_as_many_blocks_as_take_the_fewest_bytes_with_their_heads(cnn: Path) -> None:
    arena, *others = (compile_model(cnn, Options(method=name)).plan.arena_bytes for name in ("local", "local:2", "local:3"))
    assert arena == min(others) < max(others)


def test_places_to_cut(residual: Path) -> None:
    """Behind what follows a layer, not between; two maps pass within the shortcut."""
    step, _, _ = goals(residual, "backprop")
    places = Blocks(step.forward, step.targets).places
    assert [place.nbytes // (4 * 64) for place in places[:3]] == [6, 12, 6]


def test_a_weight_that_two_layers_share_is_not_cut_apart(tmp_path: Path) -> None:
    m = ModelMaker(1, 4, 6, 6)
    m.conv(4, 4, pads=[1] * 4)
    m.node("Relu")
    m.node("Conv", "w0", pads=[1] * 4)
    m.node("Relu")
    m.node("Flatten")
    m.dense(3, 144)
    path = saved(m, tmp_path / "shared.onnx")
    step, _, _ = goals(path, "backprop")
    assert len(Blocks(step.forward, step.targets).places) == 1


@pytest.mark.parametrize("key", ["local", "local-momentum"])
def test_of_parallel_branches_none_ends_a_block_alone(key: str, tmp_path: Path) -> None:
    """What is trained in a block leads to the map that teaches it: `denoiser` reads its sample anew in each of its blocks."""
    onnx.save(zoo.model("denoiser"), path := tmp_path / "denoiser.onnx")
    counts = list[int]()
    for blocks in range(2, 8):
        try:
            compile_model(path, Options(method=f"{key}:{blocks}"))
            counts.append(blocks)
        except ModelError as error:
            assert f"cut in {counts[-1]} blocks" in str(error), error
    assert len(counts) > 1 and counts == list(range(2, counts[-1] + 1))


# --- refusals -----------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_said(cnn: Path) -> None:
    with pytest.raises(ModelError, match="cut in 3 blocks"):
        compile_model(cnn, Options(method="local:9"))
    for name in ("local", "mono"):
        with pytest.raises(ModelError, match=f"--method {name} cuts .* cut nowhere"):
            compile_model(cnn, Options(method=name, scheme="head"))


@pytest.mark.parametrize(("text", "why"), [
    ("magic", "no such method"), ("local:1", "expected a number of blocks"), ("local:3:x", "expected a number of blocks"),
    ("local:", None), ("local:٣", "expected a number of blocks"), ("mono:2", "expected no argument"),
    ("backprop:2", "expected no argument"),
])
def test_arguments(text: str, why: str | None) -> None:
    if why is None:
        assert method(text) == method("local")
        return
    with pytest.raises(TinytrainError, match=why):
        method(text)


def test_several_outputs_are_refused(tmp_path: Path) -> None:
    m = ModelMaker(1, 2, 6, 6)
    m.conv(3, 2, pads=[1] * 4)
    m.node("Relu")
    m.conv(3, 3, pads=[1] * 4)
    flat = m.node("Flatten")
    first = m.dense(3, 108)
    m.node("Gemm", m.weight(4, 108), m.weight(4), first=flat, transB=1)
    model = m.model()
    model.graph.output.append(onnx.helper.make_tensor_value_info(first, onnx.TensorProto.FLOAT, [1, 3]))
    onnx.save(model, path := tmp_path / "two.onnx")
    with pytest.raises(ModelError, match="the loss of the one output; 2 have a loss here"):
        compile_model(path, Options(method="local"))


# --- everywhere the same bits -------------------------------------------------------------------------------------


BOARDS = ["mps2-an386", "mps2-an500", "riscv-virt"]


def boards_learn(path: Path, options: Options, folder: Path) -> None:
    def compiled(board: str) -> Compiled:
        return compile_model(path, replace(options, board=board))

    golden = golden_vectors(compiled("host").program, STEPS)
    assert_boards_equal_twins([*BOARDS, *SOME], compiled, golden, folder)


@pytest.mark.parametrize("name", ["local", "mono"])
def test_boards_learn_the_same_bits(name: str, residual: Path, tmp_path: Path) -> None:
    boards_learn(residual, Options(method=name, optimiser=Optimiser(0.01, 0.9)), tmp_path)


def test_int8_models(cnn: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x=rng.random((20, 1, 8, 8), np.float32))
    made = quantise_model(cnn, tmp_path / "x.npz", lockstep.Options(), Quiet())
    (tmp_path / "int8.onnx").write_bytes(made.model.SerializeToString())
    boards_learn(tmp_path / "int8.onnx", Options(method="local"), tmp_path)
