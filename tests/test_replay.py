# SPDX-License-Identifier: Apache-2.0
"""A memory of samples: which stay, what is kept of them, and that reference, twin and boards train with the same ones."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runs import save_data, sentence, succeed
from ctypes_model import Library
from onnx_models import ModelMaker
from test_traces import need

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.emit.project import link_keys
from tinytrain.errors import ModelError, TinytrainError
from tinytrain.gradient.distil import Distil
from tinytrain.gradient.replay import Replay, held, held_bytes
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.graph import SEEN
from tinytrain.ir.types import S16, Array, Role
from tinytrain.learn.checkpoint import left_by
from tinytrain.ops.replay import Balanced, Reservoir
from tinytrain.quantise import lockstep
from tinytrain.quantise.convert import quantise_model
from tinytrain.report.live import Quiet
from tinytrain.schemes.scheme import Scheme, Select
from tinytrain.target.board import load_board
from tinytrain.verify.reference import ReferenceModel

OLD, NEW = 3, 9                                           # samples that are shown to the memory, and that train
CASES: dict[str, Options] = {
    "latents": Options(scheme="last:1", replay=Replay.of("6")),
    "samples": Options(scheme="full", replay=Replay.of("6:int8:samples")),
    "balanced": Options(scheme="last:2", optimiser=Optimiser(0.01, accumulate=2), replay=Replay.of("12:fp32:balanced:x2")),
    "schemes": Options(scheme="last:1", further_schemes=("bias",), optimiser=Optimiser(0.01, kind="adam"), replay=Replay.of("6")),
    "rare": Options(scheme="last:1", replay=Replay.of("5:x1/3")),
    "skipping": Options(scheme="last:1", replay=Replay.of("5:x3"), guards="step"),
    "fp16": Options(scheme="last:2", dtype="fp16", replay=Replay.of("6")),
}
SLICED = Scheme({"conv2": {"weight": Select(0.25)}, "fc": {"weight": Select(0.5), "bias": Select()}})
SCHEMES: dict[str, tuple[Scheme | str, ...]] = {
    "whole": ("last:2",), "two": ("head", "last:2"), "sliced": (SLICED,), "sliced_two": ("last:1", SLICED), "all": ("last:3", "last:2"),
}
TABLE = (
    *(("backprop", name, distil) for name in SCHEMES for distil in (None, Distil())),
    *(("green", name, distil) for name in ("two", "sliced_two") for distil in (None, Distil())),
    *(
        (method, name, None) for name in ("whole", "all")
        for method in ("local", "local-momentum", "mono", "counter-current", "forward-forward")
    ),
    ("lowrank:1", "whole", None),
)
CASES |= {
    f"{method}_{name}{'_distil' if distil else ''}": Options(
        scheme=SCHEMES[name][0], further_schemes=SCHEMES[name][1:], method=method, distil=distil, replay=Replay.of("6:fp32")
    ) for method, name, distil in TABLE
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("replay") / "cnn.onnx"
    onnx.save(zoo.model("cnn"), path)
    return path


def samples(seed: int = 1) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((OLD + NEW, 8, 8, 1)).astype(np.float32), rng.integers(0, 10, (OLD + NEW, 1)).astype(np.int32)


def learn(compiled: Compiled, folder: Path) -> tuple[Array, dict[str, Array]]:
    """Losses, and all that stays on the device, of a board that remembers some samples and trains with others."""
    need(compiled.board.name)
    write(compiled, folder)
    x, y = samples()
    with Project.open(folder).session(timeout=600) as session:
        for i in range(OLD):
            session.remember(x[i], y[i])
        losses = []
        for i in range(OLD, OLD + NEW):
            if i in switches(compiled):
                session.set_scheme(i % 2)
            losses.append(session.train_step(x[i], y[i]).loss)
        return np.array(losses, np.float32), session.get_params()


def switches(compiled: Compiled) -> tuple[int, ...]:
    """The samples before which another scheme is chosen, where the device does not choose itself: then samples of one follow the other."""
    return () if len(compiled.schemes) < 2 or compiled.program.every else (OLD + 2, OLD + 5)


def compiled(model: Path, case: str, board: str = "host") -> Compiled:
    return compile_model(model, replace(CASES[case], board=board))


@pytest.mark.parametrize("case", CASES)
def test_the_twin_equals_the_reference(case: str, model: Path, tmp_path: Path) -> None:
    made = compiled(model, case)
    losses, stored = learn(made, tmp_path / "out")
    reference, (x, y) = ReferenceModel(made.program), samples()
    for i in range(OLD):
        reference.remember(x[i], y[i])
    want = []
    for i in range(OLD, OLD + NEW):
        if i in switches(made):
            reference.set_scheme(i % 2)
        want.append(reference.train_step(x[i], y[i]))
    tolerance = 2e-3 if case == "fp16" else 2e-5
    np.testing.assert_allclose(losses, want, rtol=tolerance)
    for v, key in link_keys(made.program).items():
        found, expected = stored[key].reshape(v.shape).astype(np.float64), reference.state[v].astype(np.float64)
        if v.type.dtype.is_float:
            np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance, err_msg=key)
        else:                                             # a number between two bytes may be rounded to either
            assert v.type.dtype is S16 or np.abs(found - expected).max() <= (v.type.dtype.np.itemsize == 1), key


@pytest.mark.parametrize("board", ["mps2-an386", "mps2-an500", "riscv-virt"])
def test_boards_equal_their_twins_bit_for_bit(board: str, model: Path, tmp_path: Path) -> None:
    twin, on_twin = learn(compiled(model, "balanced", load_board(board).twin), tmp_path / "twin")
    found, on_board = learn(compiled(model, "balanced", board), tmp_path / "board")
    np.testing.assert_array_equal(found, twin)
    assert on_board.keys() == on_twin.keys()
    for name, array in on_twin.items():
        np.testing.assert_array_equal(on_board[name], array, err_msg=name)


@pytest.mark.parametrize("grad", ["fp32", "int8"])
def test_what_is_int8_is_kept_as_it_is(grad: str, model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", x=samples()[0].transpose(0, 3, 1, 2))
    converted = quantise_model(model, tmp_path / "samples.npz", lockstep.Options(), Quiet())
    onnx.save(converted.model, tmp_path / "int8.onnx")
    options = Options(scheme="last:1", grad=grad, replay=Replay.of("6"))  # type: ignore[arg-type]
    made = compile_model(tmp_path / "int8.onnx", options)
    assert [v.type.dtype.tag for v in held(made.program)] == ["s8"]
    with pytest.raises(ModelError, match="int8 already"):
        compile_model(tmp_path / "int8.onnx", Options(scheme="last:1", replay=Replay.of("6:fp32")))


def test_counts_that_nobody_has_written_are_harmless(model: Path, tmp_path: Path) -> None:
    """A host may write any numbers there, and so may a file that is pushed: no place outside the memory follows from them."""
    made, rng, (x, y) = compiled(model, "balanced"), np.random.default_rng(3), samples()
    library, fixed = Library(made, tmp_path), made.plan.fixed
    for case in range(12):
        device, reference = library.instance(), ReferenceModel(made.program)
        for name in (SEEN, "replay_drawn"):
            v, at = next((v, at) for v, at in fixed.items() if v.name == name)
            edges = rng.choice(np.array([-(2**31), -5, -1, 0, 3, 12, 2**31 - 1]), v.type.numel)
            numbers = edges if case % 2 else rng.integers(-(2**31), 2**31, v.type.numel)
            device.arena[at : at + 4 * v.type.numel].view(np.int32)[:] = reference._named(name)[...] = numbers
        for i in range(4):
            np.testing.assert_allclose(device.train_step(x[i], y[i]), reference.train_step(x[i], y[i]), rtol=1e-4)
        np.testing.assert_array_equal(device.stored()[SEEN], reference._named(SEEN))


@pytest.mark.parametrize("method", ["local", "local-momentum", "mono", "counter-current"])
def test_what_a_method_makes_again_is_kept_once(method: str, model: Path) -> None:
    made = compile_model(model, Options(scheme="last:2", method=method, replay=Replay.of("16")))
    assert held_bytes(made.program) == held_bytes(compile_model(model, Options(scheme="last:2", replay=Replay.of("16"))).program)


def test_what_is_made_of_a_kept_sample_is_made_again(model: Path) -> None:
    made = compile_model(model, Options(scheme="full", method="lowrank:1", replay=Replay.of("16")))
    assert [v.name for v in held(made.program)] == ["x"]


@pytest.mark.parametrize("scheme, loss", [("last:1", "ce"), ("full", "ce"), ("last:1", "mse")])
def test_what_the_start_said_is_kept_as_it_is(scheme: str, loss: str, model: Path) -> None:
    """Beside the rounded sample or latent."""
    made = compile_model(model, Options(scheme=scheme, loss=loss, distil=Distil(), replay=Replay.of("6")))
    states = {v.name: v.type for v in made.program.stored(Role.STATE)}
    kept = {v.name: states[f"replay_{v.name}"].dtype.tag for v in held(made.program)}
    assert sorted(kept.values()) == ["f32", "u8"]
    assert kept[next(v.name for v in held(made.program) if v.shape == (10,))] == "f32"


@pytest.mark.parametrize("loss", ["entropy", "pseudo"])
def test_labels_that_nobody_reads_are_not_kept(loss: str, model: Path) -> None:
    made = compile_model(model, Options(scheme="last:1", loss=loss, replay=Replay.of("6")))
    assert not any("target" in v.name for v in made.program.stored(Role.STATE))
    with pytest.raises(ModelError, match="no single label"):
        compile_model(model, Options(loss=loss, replay=Replay.of("40:balanced")))


def test_constants_that_are_computed_are_made_for_the_memory_too(tmp_path: Path) -> None:
    """The inverse deviations of a batch norm as it was at first: what the start said is made by them."""
    maker = ModelMaker(1, 2, 6, 6)
    maker.conv(4, 2)
    maker.batch_norm(4)
    maker.node("Flatten")
    maker.dense(10, 64)
    onnx.save(maker.model(), tmp_path / "bn.onnx")
    made = compile_model(tmp_path / "bn.onnx", Options(running_statistics=True, distil=Distil(), replay=Replay.of("16")))
    assert any(all(v.data is not None for v in node.inputs) for node in made.program.entries["remember"].nodes)


def test_the_header_says_when_a_sample_of_the_memory_trains_and_what_empties_it(model: Path) -> None:
    header = re.sub(r"\s+(\* )?", " ", compiled(model, "rare").files["cnn.h"])
    assert "#define CNN_REPLAYS 1 /* samples of the memory that train behind one in 3 */" in header
    assert "where that was shown a multiple of 3 samples, with those that are only remembered" in header
    assert "cnn_init, cnn_factory_reset, cnn_import_delta, and cnn_load of what was saved without that state, empty it." in header


def test_a_step_counts_all_that_it_does(model: Path) -> None:
    """Pieces, the estimate and RAM of a step are those of the new sample and of the memory's."""
    alone = compile_model(model, Options("mps2-an386", scheme="last:1"))
    twice = compile_model(model, Options("mps2-an386", scheme="last:1", replay=Replay.of("16:x2")))
    bytes_ = held_bytes(twice.program)
    assert twice.plan.fixed_bytes - alone.plan.fixed_bytes >= bytes_ > 16 * 256
    assert alone.pieces and twice.pieces and alone.estimate and twice.estimate
    assert twice.pieces.count > alone.pieces.count
    replayed = (twice.estimate.instructions - alone.estimate.instructions) / 2
    assert 0 < replayed < alone.estimate.instructions / 2, "the frozen layers run again"


@pytest.mark.parametrize("text, why", [
    ("", "1 to 65,536"), ("0", "1 to 65,536"), ("70000", "1 to 65,536"), ("8:x0", "x1/16 to x16"), ("8:x1/0", "x1/16 to x16"),
    ("8:x1/17", "x1/16 to x16"), ("8:x2/3", "none of what"), ("8:int4", "'int4' is none"), ("8:int8:uint8", "beside int8"),
    ("8:x2:x3", "beside x2"), ("x2", "1 to 65,536"), ("-4", "1 to 65,536"),
])
def test_bad_texts(text: str, why: str) -> None:
    with pytest.raises(TinytrainError, match=why):
        Replay.of(text)


def test_texts_say_the_same_again() -> None:
    for replay in (Replay(3), Replay(64, "int8", "samples", "balanced", 4), Replay(9, "fp32"), Replay(9, every=4)):
        assert Replay.of(str(replay)) == replay


def test_what_has_no_sense(model: Path) -> None:
    with pytest.raises(ModelError, match="holds 4 samples of 10 classes"):
        compile_model(model, Options(replay=Replay.of("4:balanced")))
    with pytest.raises(ModelError, match="no single label"):
        compile_model(model, Options(loss="mse", replay=Replay.of("40:balanced")))
    with pytest.raises(ModelError, match="trains nothing"):
        compile_model(model, Options(loss=None, replay=Replay.of("40")))


def test_a_reservoir_holds_each_sample_alike() -> None:
    held = np.zeros(60)
    for seed in range(400):
        memory, seen = np.full(6, -1), np.zeros(1, np.int32)
        for i in range(60):
            place, seen = Reservoir(6, seed).reference(seen)
            if place[0] >= 0:
                memory[place[0]] = i
        held[memory] += 1
    assert abs(held.reshape(6, 10).sum(1) / 400 - 1).max() < 0.15


def test_a_balanced_memory_holds_each_class_alike() -> None:
    """Class by class, with a hundred times as many of one as of another, and whatever comes last."""
    for seed, counts in enumerate(((300, 30, 3, 100), (3, 100, 300, 30))):
        labels, seen, held = np.full((12, 1), -1, np.int32), np.zeros(9, np.int32), []
        for label in np.repeat(np.arange(4), counts).astype(np.int32):
            place, seen = Balanced(12, seed).reference(seen, label.reshape(1), labels)
            if place[0] >= 0:
                labels[place[0]] = label
        held = np.bincount(labels.ravel(), minlength=4)
        np.testing.assert_array_equal(held, seen[5:])
        assert sorted(held) == [3, 3, 3, 3]


def test_a_training_that_is_resumed_has_its_memory(model: Path, tmp_path: Path) -> None:
    """Where there is nothing to resume too: --remember is shown to the memory once, whatever ended the training, and must be the same."""
    write(compile_model(model, Options(scheme="last:1", replay=Replay.of("6"))), tmp_path / "out")
    data, old = (save_data(tmp_path / f"{name}.npz", count=12, shape=(1, 8, 8)) for name in ("new", "old"))
    call = ("train", tmp_path / "out", "--data", data, "--schedule", "constant", "--resume")
    assert "nothing to resume: training begins with an empty memory" in succeed(*call)
    for name in left_by(Project.open(tmp_path / "out")):
        (tmp_path / "out" / name).unlink()

    def last() -> dict[str, bytes]:
        found = next(path for name in ("last.npz", "learned.npz") if (path := tmp_path / "out" / name).exists())
        with np.load(found) as file:
            return {name: file[name].tobytes() for name in file.files if name != "record.json"}

    states = []
    for count in (1, 2, 2):                               # interrupted before an epoch was there; then resumed; nothing more to do
        assert "empty memory" not in succeed(*call, "--remember", old, "--epochs", count)
        states.append(last())
    succeed(*call[:-1], "--remember", old, "--epochs", 2, "--force")
    assert states[1] == states[2] == last()
    assert "samples of --remember" in sentence(*call, "--remember", save_data(tmp_path / "other.npz", count=13, shape=(1, 8, 8)))
    succeed(*call, "--epochs", 3)
