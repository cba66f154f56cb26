# SPDX-License-Identifier: Apache-2.0
"""Several schemes in one model: switching between steps gives what models of one scheme each would give, one after the other."""

from __future__ import annotations

import ctypes
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runs import save_data, save_model, sentence, succeed
from ctypes_model import Instance, Library
from onnx import numpy_helper

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.emit.golden import golden_vectors
from tinytrain.emit.project import link_keys
from tinytrain.errors import DataError, SchemeError
from tinytrain.frontend.export import export
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.graph import Program
from tinytrain.ir.types import F32, Array, Role
from tinytrain.passes.share_constants import share_constants
from tinytrain.quantise.convert import quantise_model
from tinytrain.quantise.lockstep import Options as Quantisation
from tinytrain.report.live import Quiet
from tinytrain.schemes.scheme import Scheme, Select
from tinytrain.target.board import load_board
from tinytrain.verify.reference import ReferenceModel

Choice = str | Scheme
TURNS = (0, 0, 1, 1, 1, 0)                                # the scheme of each step


def channels(first: int, end: int, layer: str = "conv2", **select: str) -> Scheme:
    """A range of channels of a weight, and the bias of the same layer."""
    chosen = Select(channels=tuple(range(first, end)), **select)                # type: ignore[arg-type]
    return Scheme({layer: {"weight": chosen, "bias": Select()}})


PAIRS: dict[str, tuple[Choice, Choice]] = {
    "all or the head": ("full", "head"),
    "biases or the last two": ("bias", "last:2"),
    "one within the other": (channels(0, 6), channels(0, 3)),
    "overlapping": (channels(0, 5), channels(3, 8)),
    "apart": (channels(0, 2), channels(5, 7)),
    "output channels": (channels(4, 12, side="out"), channels(8, 16, side="out")),
    "a part or all": (channels(2, 6), "last:2"),
    "something or nothing": ("head", "none"),
}
# of fp32 only those that leave the order of channels, and thereby of sums, as it is in all three models
CASES = [(pair, "fp32") for pair in ("all or the head", "one within the other")] + [(pair, "int8") for pair in list(PAIRS)[1:]]


def compiled(model: onnx.ModelProto, folder: Path, schemes: Sequence[Choice], **options: object) -> Compiled:
    onnx.save(model, folder / "model.onnx")
    first, *further = schemes
    settings = {"optimiser": Optimiser(0.02), "exact_seconds": 0.0, **options}
    return compile_model(folder / "model.onnx", Options(scheme=first, further_schemes=tuple(further), **settings))  # type: ignore[arg-type]


def set_scheme(device: Instance, scheme: int) -> int:
    return device.library.call("set_scheme", ctypes.byref(device.context), ctypes.c_uint32(scheme))


def taught(model: onnx.ModelProto, device: Instance) -> onnx.ModelProto:
    """The model with what the device has learned."""
    stored, learned = device.stored(), {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for v in device.library.compiled.program.stored(Role.PARAM):
        assert v.source is not None
        learned[v.source.initializer] = v.source.to_onnx(stored[v.name], learned[v.source.initializer])
    return export(model, learned, "test")


@pytest.fixture(scope="module")
def int8_cnn(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    folder = tmp_path_factory.mktemp("int8")
    onnx.save(zoo.model("cnn"), folder / "float.onnx")
    save_data(folder / "calibration.npz", count=32, shape=(1, 8, 8))
    return quantise_model(folder / "float.onnx", folder / "calibration.npz", Quantisation(), Quiet()).model


@pytest.mark.parametrize(("pair", "numbers"), CASES)
def test_switching_equals_models_compiled_apart(pair: str, numbers: str, int8_cnn: onnx.ModelProto, tmp_path: Path) -> None:
    """Bit for bit, of every weight; int8 weights rounded to nearest, since each model draws random numbers of its own."""
    real = zoo.model("cnn") if numbers == "fp32" else int8_cnn
    optimiser = Optimiser(0.02, weight_decay=0.01, rounding="nearest")
    both = compiled(real, tmp_path, PAIRS[pair], optimiser=optimiser)
    samples = golden_vectors(both.program, len(TURNS))
    device = Library(both, tmp_path, "-O0").instance()

    apart, alone = real, {}
    for step, scheme in enumerate(TURNS):
        assert set_scheme(device, scheme) == 0
        loss = device.train_step(samples.x[step], samples.target[step])
        if step == 0 or TURNS[step - 1] != scheme:
            folder = tmp_path / f"apart{step}"
            folder.mkdir()
            single = compiled(apart, folder, [PAIRS[pair][scheme]], optimiser=optimiser)
            alone[scheme] = Library(single, folder, "-O0").instance()
        assert alone[scheme].train_step(samples.x[step], samples.target[step]) == loss, step
        if step + 1 == len(TURNS) or TURNS[step + 1] != scheme:
            apart = taught(apart, alone[scheme])
    together, moved = taught(real, device), 0
    for found, expected, before in zip(together.graph.initializer, apart.graph.initializer, real.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(found), numpy_helper.to_array(expected), err_msg=found.name)
        moved += int((numpy_helper.to_array(found) != numpy_helper.to_array(before)).any())
    assert moved, "nothing was learned"


OPTIMISERS = {"momentum": Optimiser(0.02, 0.9), "adam": Optimiser(0.005, kind="adam"), "accumulated": Optimiser(0.02, 0.5, accumulate=2)}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("pair", ["all or the head", "overlapping"])
def test_twin_switches_as_the_reference_does(pair: str, optimiser: str, tmp_path: Path) -> None:
    """The optimiser's state of what both schemes train is one and the same."""
    both = compiled(zoo.model("cnn"), tmp_path, PAIRS[pair], optimiser=OPTIMISERS[optimiser])
    names = [v.name for v in both.program.stored(Role.PARAM, Role.STATE)]
    assert len(names) == len(set(names))
    device, reference = Library(both, tmp_path).instance(), ReferenceModel(both.program)
    samples = golden_vectors(both.program, len(TURNS))
    for scheme, x, target in zip(TURNS, samples.x, samples.target, strict=True):
        if device.context.scheme != scheme:
            set_scheme(device, scheme)
            reference.set_scheme(scheme)
        np.testing.assert_allclose(device.train_step(x, target), reference.train_step(x, target), rtol=1e-4, atol=1e-5)
    stored = device.stored()
    for v, array in reference.state.items():
        np.testing.assert_allclose(stored[v.name], array, rtol=1e-4, atol=1e-5, err_msg=v.name)


@pytest.mark.parametrize("board", ["host", "mps2-an386"])
def test_boards_switch_as_the_reference_does(board: str, int8_cnn: onnx.ModelProto, tmp_path: Path) -> None:
    """Over the link, in integers alone and bit for bit; pieces of one weight have names of their own."""
    tools = load_board(board)
    if not any(map(shutil.which, tools.toolchain.cc)) or (tools.machine and not shutil.which(tools.machine[0])):
        pytest.skip(f"{board} needs {tools.toolchain.cc[0]}")
    both = compiled(int8_cnn, tmp_path, PAIRS["overlapping"], board=board, grad="int8")
    write(both, tmp_path / "out")
    reference, samples = ReferenceModel(both.program), golden_vectors(both.program, len(TURNS))
    with Project.open(tmp_path / "out").session(timeout=600) as session:
        assert session.info.schemes == 2
        for scheme, x, target in zip(TURNS, samples.x, samples.target, strict=True):
            session.set_scheme(scheme)
            reference.set_scheme(scheme)
            assert session.train_step(x, target).loss == reference.train_step(x, target)
        found = session.get_params()
        with pytest.raises(DataError, match=r"model has schemes 0 to 1, found 2\.\nCompile it with one --scheme for each\."):
            session.set_scheme(2)
    for v, key in link_keys(both.program).items():
        np.testing.assert_array_equal(found[key], reference.state[v].reshape(-1), err_msg=key)
    assert {key.partition("/")[2] for key in found if "conv2_weight" in key} == {"", "1", "2"}


def test_a_switch_drops_what_is_summed(tmp_path: Path) -> None:
    both = compiled(zoo.model("cnn"), tmp_path, ("full", "head"), optimiser=Optimiser(0.02, accumulate=3))
    device, samples = Library(both, tmp_path).instance(), golden_vectors(both.program, 2)
    start = device.arena[: both.plan.fixed_bytes].copy()
    for x, target in zip(samples.x, samples.target, strict=True):
        device.train_step(x, target)
    assert device.context.count == 2 and (device.arena[: both.plan.fixed_bytes] != start).any()
    assert set_scheme(device, 0) == device.context.count == 0
    np.testing.assert_array_equal(device.arena[: both.plan.fixed_bytes], start)


def test_a_scheme_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    both = compiled(zoo.model("mlp"), tmp_path, ("head", "none"))
    device = Library(both, tmp_path).instance()
    assert set_scheme(device, 1) == 0
    assert set_scheme(device, 2) == 2, "TT_ERROR_ARGUMENT"
    assert device.context.scheme == 1


def test_ram_holds_what_any_scheme_trains_once(int8_cnn: onnx.ModelProto, tmp_path: Path) -> None:
    """Memory between calls is that of the union, temporaries are those of whichever scheme needs most, and flash holds nothing twice."""
    one, other = (compiled(zoo.model("cnn"), tmp_path, [scheme]) for scheme in PAIRS["one within the other"])
    both = compiled(zoo.model("cnn"), tmp_path, PAIRS["one within the other"])
    assert sum(v.type.nbytes for v in both.program.stored(Role.PARAM)) == sum(v.type.nbytes for v in one.program.stored(Role.PARAM))
    temporaries = [c.plan.arena_bytes - c.plan.fixed_bytes for c in (one, other, both)]
    assert temporaries[2] <= max(temporaries[:2]) + 64
    twice = [compiled(int8_cnn, tmp_path, schemes).program for schemes in (["full"], ["full", "full"])]
    assert len({sum(v.type.nbytes for v in program.stored(Role.CONST)) for program in twice}) == 1


def test_constants_of_one_name_are_shared_or_renamed() -> None:
    from tinytrain.ir.builder import Builder
    from tinytrain.ops.elementwise import Add

    entries = {}
    for name, number in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        g = Builder(name)
        x = g.input("x", (3,))
        entries[name] = g.graph([g.emit(Add(), x, g.const("k", np.full(3, number, np.float32)))])
    found = [graph.nodes[0].inputs[1] for graph in share_constants(Program("p", entries)).entries.values()]
    assert found[0] is found[1] and [v.name for v in found] == ["k", "k", "k_2"] and found[2].type.dtype is F32


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (channels(0, 4), channels(0, 4, side="out"),
         r"One scheme trains some input channels of the weight of layer 'conv2', another one some output channels\.\n"
         r"Schemes of one model cut a weight on the same side\."),
        (Scheme({"conv2": {"weight": Select(channels=(1, 3))}}), Scheme({"conv2": {"weight": Select(channels=(3, 5, 7))}}),
         r"Two schemes train channels of layer 'conv2', but neither of the two lists of them holds the other\."),
    ],
    ids=["sides", "lists"],
)
def test_schemes_that_do_not_go_together(one: Scheme, other: Scheme, message: str, tmp_path: Path) -> None:
    with pytest.raises(SchemeError, match=message):
        compiled(zoo.model("cnn"), tmp_path, (one, other))


def test_lists_that_hold_each_other_are_pieces_of_one_order(tmp_path: Path) -> None:
    schemes = [Scheme({"conv2": {"weight": Select(channels=which)}}) for which in ((1, 5), (1, 3, 5))]
    both = compiled(zoo.model("cnn"), tmp_path, schemes)
    shapes = [v.shape for v in both.program.stored(Role.PARAM)]
    assert shapes == [(16, 3, 3, 2), (16, 3, 3, 1)]
    assert [len(graph.updates) for key, graph in both.program.entries.items() if key.startswith("train")] == [1, 2]


def test_command_line(tmp_path: Path) -> None:
    model, data, out = save_model(tmp_path, "cnn"), save_data(tmp_path / "data.npz", shape=(1, 8, 8)), tmp_path / "out"
    (tmp_path / "part.toml").write_text('[layers."conv2"]\nweight = "0:4"\n')
    text = succeed("compile", model, "-o", out, "--scheme", tmp_path / "part.toml", "--scheme", "head", "--scheme", "last:2")
    assert "  scheme 0 conv2\n  scheme 1 fc\n  scheme 2 conv2, fc\n" in text
    assert [list(scheme) for scheme in json.loads((out / "manifest.json").read_text())["schemes"]] == [["conv2"], ["fc"], ["conv2", "fc"]]
    assert (out / "scheme.toml").is_file() and 'preset = "last:2"' in (out / "scheme_2.toml").read_text()

    def learned(*options: object) -> dict[str, Array]:
        course = ("--lr", 0.05, "--schedule", "constant", "--epochs", 4 if "--resume" in options else 3)
        succeed("train", out, "--data", data, *course, *(() if "--resume" in options else ("--force",)), *options)
        return {t.name: numpy_helper.to_array(t) for t in onnx.load(out / "learned.onnx").graph.initializer}

    before = {t.name: numpy_helper.to_array(t) for t in onnx.load(model).graph.initializer}
    for options, changed in (((), {"conv2_weight"}), (("--use-scheme", 1), {"fc_weight", "fc_bias"})):
        after = learned(*options)
        assert {name for name, array in before.items() if (after[name] != array).any()} == changed
    assert (learned()["conv2_weight"][:, 4:] == before["conv2_weight"][:, 4:]).all()
    whole = learned("--use-scheme", 2, "--epochs", 4)
    learned("--use-scheme", 2)
    for name, array in learned("--use-scheme", 2, "--resume").items():
        np.testing.assert_array_equal(array, whole[name], err_msg=name)
    message = sentence("train", out, "--data", data, "--force", "--use-scheme", 3)
    assert message == "tinytrain: cnn has schemes 0 to 2, found 3.\nCompile it with one --scheme for each.\n"
    message = sentence("scheme", model, "--scheme", "full", "--scheme", "head")
    assert message == "tinytrain: --scheme is given 2 times; expected one.\nOnly `tinytrain compile` takes several.\n"
