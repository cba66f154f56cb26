# SPDX-License-Identifier: Apache-2.0
"""Training without floating point: same bits everywhere, no float instruction in the firmware, and it learns."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runs import sentence
from ctypes_model import Library

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.errors import ModelError
from tinytrain.gradient.integer import IntegerBuilder
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.integer import Scaled
from tinytrain.ir.op import Declined
from tinytrain.ir.types import S8, Array, Role, TensorType
from tinytrain.ops.dense import DenseGradW
from tinytrain.ops.integer_rules import sums
from tinytrain.quantise import convert, lockstep
from tinytrain.report.live import Quiet
from tinytrain.target.board import load_board
from tinytrain.target.build import build
from tinytrain.verify.reference import ReferenceModel

SOME = ["mps2-an385", "mps2-an386", "mps3-an547", "riscv-virt", "riscv-virt-rvv"]  # one of each instruction set
STEPS = 50
MODELS = ("mlp", "cnn")


@dataclass(frozen=True)
class Digits:
    """Samples in [0, 1] of 64 pixels, and labels; the last 397 are held back."""

    x: Array
    y: Array

    @classmethod
    def load(cls) -> Digits:
        datasets = pytest.importorskip("sklearn.datasets")
        x, y = datasets.load_digits(return_X_y=True)
        order = np.random.default_rng(1).permutation(len(y))
        return cls((x[order] / 16).astype(np.float32), y[order].astype(np.int32))

    def learn(self, model: ReferenceModel, samples: int, seed: int) -> None:
        shape = model.program.entries["train"].inputs[0].shape
        for i in np.random.default_rng(seed).permutation(1400)[:samples]:
            model.train_step(self.x[i].reshape(shape), self.y[i : i + 1])

    def accuracy(self, model: ReferenceModel) -> float:
        shape = model.program.entries["infer"].inputs[0].shape
        return float(np.mean([model.infer(self.x[i].reshape(shape)).argmax() == self.y[i] for i in range(1400, len(self.y))]))


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits.load()


@pytest.fixture(scope="module")
def quantised(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The built-in models, half taught in fp32 and then quantised, by name; the float ones as `<name>_float`."""
    folder = tmp_path_factory.mktemp("models")
    made: dict[str, Path] = {}
    for name in MODELS:
        model = zoo.model(name)
        start, path = folder / f"{name}_start.onnx", folder / f"{name}.onnx"
        onnx.save(model, start)
        taught = ReferenceModel(compile_model(start, Options(optimiser=Optimiser(0.02))).program)
        digits.learn(taught, 700, seed=0)
        values = {v.source.initializer: v.source.to_onnx(array) for v, array in taught.state.items() if v.source}
        for tensor in model.graph.initializer:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values[tensor.name], tensor.name))
        made[f"{name}_float"] = folder / f"{name}_float.onnx"
        onnx.save(model, made[f"{name}_float"])
        shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
        np.savez(folder / "calibration.npz", x=digits.x[:200].reshape(-1, *shape))
        result = convert.quantise_model(made[f"{name}_float"], folder / "calibration.npz", lockstep.Options(), Quiet())
        onnx.save(result.model, path)
        made[name] = path
    return made


def compiled(model: Path, board: str = "host", rate: float = 0.01, **optimiser: object) -> Compiled:
    return compile_model(model, Options(board=board, grad="int8", optimiser=Optimiser(rate, **optimiser)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Trace:
    losses: Array
    output: Array
    stored: dict[str, Array]


def samples(program: Compiled, digits: Digits) -> list[tuple[Array, Array]]:
    shape = program.program.entries["train"].inputs[0].shape
    return [(digits.x[i].reshape(shape), digits.y[i : i + 1]) for i in range(STEPS)]


def device_trace(program: Compiled, digits: Digits, folder: Path) -> Trace:
    write(program, folder)
    given = samples(program, digits)
    with Project.open(folder).session(timeout=600) as session:
        losses = [session.train_step(x, y).loss for x, y in given[: STEPS // 2]]
        session.set_lr(0.05)
        losses += [session.train_step(x, y).loss for x, y in given[STEPS // 2 :]]
        return Trace(np.array(losses, np.float32), session.infer(given[0][0]), session.get_params())


def reference_trace(program: Compiled, digits: Digits) -> Trace:
    model = ReferenceModel(program.program)
    given = samples(program, digits)
    losses = [model.train_step(x, y) for x, y in given[: STEPS // 2]]
    model.set_lr(0.05)
    losses += [model.train_step(x, y) for x, y in given[STEPS // 2 :]]
    stored = {v.source.initializer if v.source else v.name: array for v, array in model.state.items()}
    return Trace(np.array(losses, np.float32), model.infer(given[0][0]), stored)


def assert_same_bits(found: Trace, expected: Trace) -> None:
    np.testing.assert_array_equal(found.losses, expected.losses)
    np.testing.assert_array_equal(found.output, expected.output.reshape(-1))
    assert found.stored.keys() == expected.stored.keys()
    for name, array in expected.stored.items():
        np.testing.assert_array_equal(found.stored[name].reshape(-1), array.reshape(-1), err_msg=name)


def need(board: str) -> None:
    tools = load_board(board)
    missing = [names for names in (tools.toolchain.cc, tools.machine[:1]) if names and not any(map(shutil.which, names))]
    if missing:
        pytest.skip(f"{board} needs {missing[0][0]}")


@pytest.mark.parametrize(("name", "board"), [("mlp", "host"), ("mlp", "mps2-an385"), *(("cnn", board) for board in ["host", *SOME])])
def test_weights_after_fifty_steps_are_those_of_the_reference(
    name: str, board: str, quantised: dict[str, Path], digits: Digits, tmp_path: Path
) -> None:
    """Bit for bit: losses, output, weights, biases. The learning rate is changed on the way."""
    need(board)
    program = compiled(quantised[name], board)
    expected = reference_trace(program, digits)
    assert_same_bits(device_trace(program, digits, tmp_path / "project"), expected)
    for v in program.program.stored(Role.PARAM):
        assert v.source is not None and (v.data != expected.stored[v.source.initializer]).any(), f"{v.name} was not updated"


@pytest.mark.parametrize("board", ["host", *SOME, "mps2-an500"])
def test_momentum_is_that_of_the_reference(board: str, quantised: dict[str, Path], digits: Digits, tmp_path: Path) -> None:
    """Bit for bit, with what is kept of it; half of the steps with another rate."""
    need(board)
    program = compiled(quantised["cnn"], board, rate=0.001, momentum=0.9, int8_momentum=True, nesterov=board != "host")
    expected = reference_trace(program, digits)
    assert_same_bits(device_trace(program, digits, tmp_path / "project"), expected)
    kept = [array for name, array in expected.stored.items() if name.startswith("velocity_")]
    assert len(kept) == len(program.program.stored(Role.PARAM)) and all(q.dtype == np.int8 and np.abs(q).max() > 32 for q in kept)


def tool(*names: str) -> str:
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"{names[0]} is not installed")
    return found


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout


# what a compiler calls where a processor has no floats: __aeabi_fadd, __aeabi_d2f, __addsf3, __fixdfsi, …
SOFT_FLOAT = re.compile(r"__aeabi_(c?[fd]\w+|[iul]+2[fd])|__\w+[sdt]f\d?|__fix\w+|__float\w+")


@pytest.mark.parametrize("name", MODELS)
def test_firmware_without_fpu_calls_no_float_routine(name: str, quantised: dict[str, Path], tmp_path: Path) -> None:
    need("mps2-an385")
    write(compiled(quantised[name], "mps2-an385"), tmp_path / "project")
    symbols = run(tool("arm-none-eabi-nm"), str(Project.open(tmp_path / "project").elf())).split()
    assert not [s for s in symbols if SOFT_FLOAT.fullmatch(s)]


def test_soft_float_is_recognised(quantised: dict[str, Path], tmp_path: Path) -> None:
    """The pattern finds what the same model calls when its gradients are fp32."""
    need("mps2-an385")
    write(compile_model(quantised["mlp"], Options(board="mps2-an385")), tmp_path / "project")
    symbols = run(tool("arm-none-eabi-nm"), str(Project.open(tmp_path / "project").elf())).split()
    assert "__aeabi_fmul" in {s for s in symbols if SOFT_FLOAT.fullmatch(s)}


@pytest.mark.parametrize("board", ["mps2-an386", "mps2-an500"])
def test_model_has_no_float_instruction(board: str, quantised: dict[str, Path], tmp_path: Path) -> None:
    """Where the processor has floats, set_lr and the thresholds are given one in a float register and store its bits, and the guard of a
    sample looks at floats: nothing else touches them. RISC-V with F is another matter: its convolutions of int8 run in floats, which
    hold their sums exactly.
    """
    need(board)
    program = compiled(quantised["cnn"], board)
    write(program, tmp_path / "project")
    build(tmp_path / "project", program.board)
    objects = list((tmp_path / "project" / "build").rglob(f"{program.program.name}.o"))
    assert len(objects) == 1, objects
    objdump = tool("arm-none-eabi-objdump")
    function, found, counted = "", [], 0
    for line in run(objdump, "-d", "--no-show-raw-insn", str(objects[0])).splitlines():
        if start := re.match(r"[0-9a-f]+ <(\w+)", line):
            function = start[1]
        elif instruction := re.match(r"\s+[0-9a-f]+:\s+([a-z]\S*)", line):
            counted += 1
            if instruction[1].startswith("v"):
                found.append(f"{function}: {line.strip()}")
    assert counted > 1000
    setters = tuple(f"{program.program.name}_{name}:" for name in ("set_lr", "set_skip_below", "set_skip_above"))
    assert all(text.startswith((*setters, "tt_beyond:", "tt_squares:")) for text in found), found[:10]


@pytest.mark.parametrize(("compiler", "flags"), [
    ("arm-none-eabi-gcc", ["-mcpu=cortex-m0", "-mthumb"]),
    ("clang-19", ["--target=riscv32-unknown-elf", "-march=rv32imc", "-mabi=ilp32"]),
])
def test_smallest_processors_need_no_float_routine(compiler: str, flags: list[str], quantised: dict[str, Path], tmp_path: Path) -> None:
    """Cortex-M0 and rv32imc, which no board of ours has: what the model asks its linker for."""
    program = compiled(quantised["cnn"])
    write(program, tmp_path / "project")
    source, target = tmp_path / "project" / "lib" / f"{program.program.name}.c", tmp_path / "model.o"
    run(tool(compiler), *flags, "-std=c99", "-O2", "-ffreestanding", "-c", str(source), "-o", str(target))
    symbols = run(tool("arm-none-eabi-nm", "llvm-nm-19", "llvm-nm", "nm"), "-u", str(target)).split()
    assert not [s for s in symbols if SOFT_FLOAT.fullmatch(s)]


def test_learns_like_fp32(quantised: dict[str, Path], digits: Digits) -> None:
    """From the same half-taught network, the same samples in the same order: within two points of fp32."""
    floating = ReferenceModel(compile_model(quantised["mlp_float"], Options(optimiser=Optimiser(0.01))).program)
    integer = ReferenceModel(compiled(quantised["mlp"]).program)
    before = digits.accuracy(integer)
    for epoch in range(3):
        digits.learn(floating, 1400, seed=10 + epoch)
        digits.learn(integer, 1400, seed=10 + epoch)
    assert digits.accuracy(integer) > max(before + 0.05, digits.accuracy(floating) - 0.02)


NETWORK = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[1, 3, 12, 12] x) => (float[1, 6] y) {
        a = Conv <pads = [1, 1, 1, 1], kernel_shape = [3, 3]> (x, w1, b1)
        r = Relu (a)
        d = Conv <pads = [1, 1, 1, 1], kernel_shape = [3, 3], group = 8> (r, w2, b2)
        e = Relu (d)
        f = Conv <kernel_shape = [1, 1]> (e, w3, b3)
        s = Add (f, r)
        MIDDLE
        h = Conv <pads = [1, 1, 1, 1], kernel_shape = [3, 3]> (p, w4, b4)
        i = Relu (h)
        g = GlobalAveragePool (i)
        k = Flatten (g)
        y = Gemm <transB = 1> (k, w5, b5)
    }"""
WEIGHTS = {"w1": (8, 3, 3, 3), "w2": (8, 1, 3, 3), "w3": (8, 8, 1, 1), "w4": (10, 8, 3, 3), "w5": (6, 10)}
MIDDLES = {
    "max": "p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (s)",
    "max_overlapping": "p = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (s)",
    "average": "p = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (s)",
    "average_padded": "p = AveragePool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (s)",
    "sigmoid": "p = Sigmoid (s)",
    "product": "q = Sigmoid (f)\n p = Mul (s, q)",
    "table": "q = Sigmoid (s)\n p = Mul (s, q)",
    "difference": "p = Sub (f, r)",
}


@pytest.mark.parametrize("middle", MIDDLES)
def test_layers_of_every_kind(middle: str, tmp_path: Path) -> None:
    """Depthwise, residual, pooling, functions by table, products: C equals the reference bit for bit, losses stay close to fp32."""
    rng = np.random.default_rng(3)
    model = onnx.parser.parse_model(NETWORK.replace("MIDDLE", MIDDLES[middle]))
    for name, shape in WEIGHTS.items():
        weight = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        for tensor, array in ((name, weight), (f"b{name[1]}", rng.normal(0, 0.1, shape[0]))):
            model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), tensor))
    onnx.save(model, tmp_path / "float.onnx")
    x, y = rng.normal(size=(30, 3, 12, 12)).astype(np.float32), rng.integers(0, 6, (30, 1)).astype(np.int32)
    np.savez(tmp_path / "x.npz", x=x)
    made = convert.quantise_model(tmp_path / "float.onnx", tmp_path / "x.npz", lockstep.Options(), Quiet())
    onnx.save(made.model, tmp_path / "int8.onnx")
    program = compiled(tmp_path / "int8.onnx", rate=0.005)
    device, reference = Library(program, tmp_path).instance(), ReferenceModel(program.program)
    floating = ReferenceModel(compile_model(tmp_path / "float.onnx", Options(optimiser=Optimiser(0.005))).program)
    losses = []
    for sample, label in zip(np.ascontiguousarray(x.transpose(0, 2, 3, 1)), y, strict=True):
        losses.append((reference.train_step(sample, label), floating.train_step(sample, label)))
        assert device.train_step(sample, label) == losses[-1][0]
    for v, array in reference.state.items():
        np.testing.assert_array_equal(device.stored()[v.name], array, err_msg=v.name)
    integer, real = np.mean(losses, axis=0)
    assert abs(integer - real) < 0.1, losses


def test_sums_that_could_overflow_are_refused() -> None:
    g = IntegerBuilder("wide", (), {})
    dy = Scaled(g.value("dy", TensorType((70_000, 1), S8)), g.exponent(0), np.asarray(1.0))
    x, dw = g.value("x", TensorType((70_000, 2), S8)), g.value("dw", TensorType((1, 2)))
    refused = sums(DenseGradW(), g, [dy, x], [dw])
    assert isinstance(refused, Declined) and "overflow" in refused.why


def test_gradients_of_fp32_stay_out_of_the_program(quantised: dict[str, Path]) -> None:
    """fp32 values are those of the interface: sample, output, loss, learning rate."""
    program = compiled(quantised["cnn"]).program
    floating = {v.name for graph in program.entries.values() for v in graph.values() if v.type.dtype.is_float}
    assert floating <= {"x", "learning_rate", "loss"} | {v.name for graph in program.entries.values() for v in graph.outputs}


def test_nearest_rounding_needs_no_counter(quantised: dict[str, Path]) -> None:
    program = compiled(quantised["mlp"], rounding="nearest").program
    assert [v.name for v in program.stored(Role.STATE)] == ["learning_rate"]


@pytest.mark.parametrize(("optimiser", "text"), [
    ({"momentum": 0.9}, "its momentum is fp32"), ({"weight_decay": 0.1}, "weight decay"), ({"accumulate": 2}, "several samples"),
    ({"rounding": "residual"}, "residual"), ({"rounding": "master"}, "master"),
])
def test_what_needs_floats_is_refused(optimiser: dict[str, object], text: str, quantised: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="integers alone") as error:
        compiled(quantised["mlp"], **optimiser)
    assert text in str(error.value)


def test_float_models_are_refused(quantised: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="integers alone") as error:
        compiled(quantised["mlp_float"])
    assert "tinytrain quantize" in str(error.value.hint)


def test_command_line_says_why(quantised: dict[str, Path], tmp_path: Path) -> None:
    said = sentence("compile", str(quantised["mlp_float"]), "--board", "host", "--grad", "int8", "-o", str(tmp_path / "out"))
    assert "integers alone" in said
