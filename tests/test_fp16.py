# SPDX-License-Identifier: Apache-2.0
"""--dtype fp16: what is stored as halves, that sums are fp32, masters and random rounding, the same bits on host and boards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runs import sentence, succeed
from ctypes_model import Library, assert_learns_as_reference
from test_traces import assert_boards_equal_twins

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model
from tinytrain.emit.golden import golden_vectors
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import F16, F32, S16, Array, Role
from tinytrain.ops.loss import SoftmaxCrossEntropy
from tinytrain.ops.optimiser_half import SgdHalf, join, split
from tinytrain.schemes.precision import Rule
from tinytrain.verify.reference import ReferenceModel


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fp16") / "cnn.onnx"
    onnx.save(zoo.model("cnn"), path)
    return path


def compiled(model: Path, board: str = "host", fp32: tuple[str, ...] = (), master: bool = True, **optimiser: object) -> Compiled:
    rules = tuple(Rule(name, "fp32", "asked for") for name in fp32)
    chosen = Optimiser(0.02, master=master, **optimiser)  # type: ignore[arg-type]
    return compile_model(model, Options(board=board, dtype="fp16", precision=rules, optimiser=chosen))


def test_all_but_loss_and_directions_is_stored_as_halves(cnn: Path) -> None:
    program = compiled(cnn).program
    train = program.entries["train"]
    assert {v.type.dtype for v in program.stored(Role.PARAM)} == {F16}
    assert {v.type.dtype for v in program.stored(Role.STATE) if v.name.startswith("residue_")} == {S16}
    loss = next(node for node in train.nodes if isinstance(node.op, SoftmaxCrossEntropy))
    assert {v.type.dtype for v in (loss.inputs[0], *loss.outputs)} == {F32}
    wide = {v.name for v in train.values() if v.type.dtype is F32 and len(v.shape) == 3}
    assert wide == {train.inputs[0].name}, "maps but that which the caller gives"


def test_a_layer_can_stay_fp32(cnn: Path) -> None:
    program = compiled(cnn, fp32=("conv2",)).program
    kinds = {v.name: v.type.dtype for v in program.stored(Role.PARAM)}
    assert {name for name, dtype in kinds.items() if dtype is F32} == {"conv2_weight", "conv2_bias"}
    node = next(node for node in program.entries["train"].nodes if node.origin == "conv2")
    assert {v.type.dtype for v in (*node.inputs, *node.outputs)} == {F32}


@pytest.mark.parametrize("master", [True, False])
@pytest.mark.parametrize("kept", [{}, {"momentum": 0.9, "weight_decay": 1e-3}, {"accumulate": 3}, {"kind": "adam"}], ids=str)
def test_c_learns_as_the_reference(cnn: Path, master: bool, kept: dict[str, object], tmp_path: Path) -> None:
    """Sums in another order may fall to the other side of a rounding: what both have learned lies a few halves apart."""
    program = compiled(cnn, master=master, **kept)
    device, reference, golden = Library(program, tmp_path).instance(), ReferenceModel(program.program), golden_vectors(program.program, 6)
    for x, target in zip(golden.x, golden.target, strict=True):
        np.testing.assert_allclose(device.train_step(x, target), reference.train_step(x, target), rtol=2e-3)
    stored = device.stored()
    for v in program.program.stored(Role.PARAM):
        assert not np.array_equal(stored[v.name], v.data), f"{v.name} does not move"
        np.testing.assert_allclose(stored[v.name].astype(np.float32), reference.state[v].astype(np.float32), rtol=4e-3, atol=2e-4)


@pytest.mark.parametrize("master", [True, False])
def test_boards_equal_the_host_twin_bit_for_bit(cnn: Path, master: bool, tmp_path: Path) -> None:
    # halves by integers, by instructions for them, in vectors, and in pairs
    boards = ["mps2-an385", "mps2-an500", "riscv-virt", "riscv-virt-zvfh", "pulp-virt"]
    boards += ["riscv-virt-rvv", "riscv-virt-zfh"] if master else []
    golden = golden_vectors(compiled(cnn).program, 5)
    assert_boards_equal_twins(boards, lambda board: compiled(cnn, board, master=master, momentum=0.9), golden, tmp_path)


def floats(count: int, low: int, high: int) -> Array:
    """Of either sign, in each binade from 2^low to 2^high."""
    rng = np.random.default_rng(3)
    return np.asarray(np.ldexp(rng.uniform(1, 2, count) * rng.choice([-1, 1], count), rng.integers(low, high, count)), np.float32)


def numbers() -> Array:
    """In each binade, around powers of two and around the middles between halves, of either sign; and special ones."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    edges = np.concatenate([np.ldexp(np.float32(1), np.arange(-40, 16)), (halves[:-1] + halves[1:]) / 2, np.float32([65520])])
    near = np.concatenate([edges.view(np.int32) + step for step in range(-2, 3)]).view(np.float32)
    every = np.concatenate([floats(40_000, -40, 16), near, -near, np.float32([0, -0.0, 65504])])
    return every[np.abs(every) < 65520]


def test_a_master_is_a_float() -> None:
    """All its bits but the last of a few, and near zero to 2^-40."""
    number = numbers()
    half, rest = split(number)
    error, size = np.abs(join(half, rest).astype(np.float64) - number), np.abs(number).astype(np.float64)
    moved_by_half_a_unit = (size >= 2**8) & (size < 2**9)
    assert (error <= 2.0**-24 * (size + 2.0**-16) * np.where(moved_by_half_a_unit, 2, 1)).all()
    assert np.abs(rest.astype(int)).max() <= 2**14
    small = np.ldexp(np.arange(-(2**17), 2**17), -39).astype(np.float32)
    np.testing.assert_array_equal(join(*split(small)), small)
    common = floats(100_000, -6, 8)
    assert (join(*split(common)) != common).mean() < 2e-4


def test_a_half_is_the_nearest_to_its_master_and_stays_so() -> None:
    """A weight whose gradient is 0 keeps every bit of its half and its rest: a step that is left out changes nothing."""
    half, rest = split(np.append(numbers(), np.float32([np.inf, -np.inf])))
    master = join(half, rest)
    np.testing.assert_array_equal(half, master.astype(np.float16).astype(np.float32))
    again, still = split(master)
    np.testing.assert_array_equal(again, half)
    np.testing.assert_array_equal(still, rest)


def steps_of(op: SgdHalf, weight: float, gradient: float, count: int) -> float:
    """Mean of 4,096 weights after so many equal steps."""
    w = np.full(4096, weight, np.float32)
    kept = np.zeros(4096, np.int16)
    for step in range(count):
        made = op.reference(np.full_like(w, gradient), w, np.float32([1.0]), kept if op.master else np.array([step], np.int32))
        w, kept = made[0], made[1] if op.master else kept
        np.testing.assert_array_equal(w, w.astype(np.float16).astype(np.float32))
    return float(w.mean())


@pytest.mark.parametrize(("master", "within"), [(True, 2e-4), (False, 1e-3)])
def test_updates_far_below_a_half_add_up(master: bool, within: float) -> None:
    """A hundredth of the distance between halves, a hundred times and more: plain halves would never move."""
    step = 2.0**-10 / 100
    assert np.float16(1) - np.float16(step) == 1
    assert abs(steps_of(SgdHalf(master=master, seed=5), 1.5, step, 500) - (1.5 - 500 * step)) < within
    small = 2.0**-32
    assert abs(steps_of(SgdHalf(master=master, seed=5), 2.0**-15, small, 500) - (2.0**-15 - 500 * small)) < 2.0**-27


def test_what_is_no_number_is_not_hidden() -> None:
    for bad in (np.nan, np.inf):
        for master in (True, False):
            given = np.zeros(1, np.int16) if master else np.ones(1, np.int32)
            made = SgdHalf(master=master).reference(np.float32([bad]), np.float32([1]), np.float32([1]), given)
            assert not np.isfinite(made[0]).any()


@pytest.mark.parametrize(
    ("name", "most"), [("mlperf_ic_resnet8_bn", (0.77, 0.55)), ("mlperf_kws_dscnn_bn", (0.63, 0.55))]
)
def test_arena_of_trained_networks(name: str, most: tuple[float, float], shared_data: Path) -> None:
    model = shared_data / "models" / f"{name}.onnx"
    wide = compile_model(model, Options()).plan.arena_bytes
    for master, share in zip((True, False), most, strict=True):
        assert compiled(model, master=master).plan.arena_bytes <= share * wide


def test_what_is_read_from_a_device_is_what_is_exported(cnn: Path, tmp_path: Path) -> None:
    succeed("compile", cnn, "--dtype", "fp16", "-o", tmp_path / "out")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=rng.standard_normal((12, 1, 8, 8)).astype(np.float32), y=rng.integers(0, 10, 12))
    succeed("train", tmp_path / "out", "--data", tmp_path / "d.npz", "--epochs", 1)
    before, after = (
        {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(p).graph.initializer} for p in (cnn, tmp_path / "out" / "learned.onnx")
    )
    assert before.keys() == after.keys()
    for key, array in after.items():
        assert array.dtype == np.float32 and not np.array_equal(array, before[key]), key
        np.testing.assert_array_equal(array, array.astype(np.float16).astype(np.float32), err_msg=key)


def test_options_that_do_not_go_together_are_refused(cnn: Path, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "out", "--no-build")
    assert "--dtype fp16" in sentence("compile", cnn, "--fp32", "conv1", *out)
    assert "--grad int8" in sentence("compile", cnn, "--dtype", "fp16", "--grad", "int8", *out)
    assert not (tmp_path / "out").exists()


def test_manifest_says_how_floats_are_stored(cnn: Path, tmp_path: Path) -> None:
    succeed("compile", cnn, "--dtype", "fp16", "--master", "none", "-o", tmp_path / "out", "--no-build")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["dtype"], manifest["optimiser"]["master"]) == ("fp16", False)


def test_int8_models_store_the_rest_as_halves(cnn: Path, tmp_path: Path) -> None:
    """What --grad fp16 does to gradients, this does to all floats: weights that are integers stay so."""
    from test_int8_training import int8_model

    quantised = int8_model(zoo.model("cnn"), tmp_path)
    program = compiled(quantised)
    halves = {v.name for v in program.program.entries["train"].values() if v.type.dtype is F16}
    assert halves and not any(v.type.dtype is F16 for v in program.program.stored(Role.PARAM))
    assert_learns_as_reference(Library(program, tmp_path), steps=1)
