# SPDX-License-Identifier: Apache-2.0
"""The generated project: names from anywhere, every compiler and optimisation level, status codes, independent instances."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from compilers import SANITIZERS, sanitizing
from ctypes_model import STORE, STRICT, WARNINGS, Library, assert_learns_as_reference
from onnx import TensorProto, helper, numpy_helper
from onnx_models import ModelMaker

from tinytrain.compiler import Compiled, Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.emit.golden import golden_vectors
from tinytrain.emit.project import comment
from tinytrain.frontend.prepare import c_name
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Role
from tinytrain.paths import data_dir

VALUES = ("x", "w1", "b1", "hidden", "active", "w2", "b2", "y")
NODES = ("fc1", "relu", "fc2")


def mlp(values: tuple[str, ...] = VALUES, nodes: tuple[str, ...] = NODES) -> onnx.ModelProto:
    """6-5-3 with the given names of tensors and nodes."""
    x, w1, b1, hidden, active, w2, b2, y = values
    rng = np.random.default_rng(0)
    shapes = {w1: (5, 6), b1: (5,), w2: (3, 5), b2: (3,)}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", [x, w1, b1], [hidden], name=nodes[0], transB=1),
            helper.make_node("Relu", [hidden], [active], name=nodes[1]),
            helper.make_node("Gemm", [active, w2, b2], [y], name=nodes[2], transB=1),
        ],
        "g", [helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, 6])], [helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name) for name, shape in shapes.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def compiled(model: onnx.ModelProto, folder: Path, file: str = "model.onnx", **options: object) -> Compiled:
    (folder / file).write_bytes(model.SerializeToString())
    settings = {"optimiser": Optimiser(0.01), "exact_seconds": 0.0, **options}
    return compile_model(folder / file, Options(**settings))                    # type: ignore[arg-type]


def cnn(folder: Path, board: str = "host", file: str = "cnn.onnx") -> Compiled:
    """Convolution, pooling, dropout, momentum and an accumulated gradient: one kernel of most kinds."""
    maker = ModelMaker(1, 2, 8, 8)
    maker.conv(3, 2, pads=[1, 1, 1, 1])
    maker.node("Relu")
    maker.node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    maker.conv(4, 3)
    maker.node("Sigmoid")
    maker.node("Flatten")
    maker.node("Dropout")
    maker.dense(3, 16)
    return compiled(maker.model(), folder, file, board=board, dropout=True, optimiser=Optimiser(0.01, 0.9, accumulate=2))


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}{done.stderr[:4000]}"
    return done.stdout


def need(*tools: str) -> None:
    for tool in tools:
        if not shutil.which(tool):
            pytest.skip(f"needs {tool}")


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        ("target", "infer", "init", "m", "int", "learning_rate", "loss", "ctx"),
        ("x/y:0", "w1", "sum_w1", "hidden", "ünï", "model_hash", 'a "b" \\ ??) \n c', "y"),
        ("loss", "velocity_w2", "params", "target", "x", "w2", "evaluate", "learning_rate"),
        ("1", "2", "-2", "2_", "_2", "tt_dense_f32_0", "TRAINS", "v2"),
    ],
    ids=["api", "text", "state", "numbers"],
)
def test_any_names_of_tensors(values: tuple[str, ...], tmp_path: Path) -> None:
    for optimiser in (Optimiser(0.01, 0.9), Optimiser(0.01, 0.9, accumulate=3)):
        assert_learns_as_reference(Library(compiled(mlp(values), tmp_path, optimiser=optimiser), tmp_path))


@pytest.mark.parametrize("name", ["*/", "**//", "/*/", "a\\", "a\\\nb", "//", "??/", "a\nb", "%s{{ x }}", "\u202e"])
def test_any_names_of_nodes(name: str, tmp_path: Path) -> None:
    assert_learns_as_reference(Library(compiled(mlp(nodes=(name, f"{name}r", f"{name}2")), tmp_path), tmp_path))


def test_parameters_are_called_as_in_the_file(tmp_path: Path) -> None:
    """... whatever the optimiser's state is called, and over the link too."""
    odd = 'b "1" \\ ??) \n é'
    values = ("x", "learning_rate", odd, "h", "a", "velocity_v2", "velocity_learning_rate_2", "y")
    program = compiled(mlp(values), tmp_path, optimiser=Optimiser(0.01, 0.9))
    write(program, tmp_path / "out")
    with Project.open(tmp_path / "out").session() as session:
        found = session.get_params()
    assert len(found) == len(program.plan.fixed)
    for v in program.program.stored(Role.PARAM):
        assert v.source is not None and v.data is not None
        np.testing.assert_array_equal(found[v.source.initializer], v.data.reshape(-1))


@pytest.mark.parametrize("stem", ["1-2 x", "double", "main", "tt", "tt_types", "uart", "a.b", "stdint", "unistd", "ü", "m" * 100])
def test_any_name_of_the_model(stem: str, tmp_path: Path) -> None:
    program = compiled(mlp(), tmp_path, f"{stem}.onnx")
    write(program, tmp_path / "o")
    project = Project.open(tmp_path / "o")
    golden = golden_vectors(program.program, 1)
    with project.session() as session:
        np.testing.assert_allclose(session.infer(golden.x[0]), golden.output, rtol=1e-5, atol=1e-6)


def test_names_of_models_stay_readable() -> None:
    assert [c_name(stem) for stem in ("cnn", "my-model v2", "2x", "", "MAIN", "TT_Types", "math")] == [
        "cnn", "my_model_v2", "v2x", "v", "model_MAIN", "model_TT_Types", "model_math",
    ]


@pytest.mark.parametrize("text", ["*/", "**//**", "/*/*/", "a//", "\n*\n/", "*", "\\"])
def test_comment_ends_where_it_should(text: str) -> None:
    made = f"/* {comment(text)} */"
    assert made.count("*/") == 1 and made.count("/*") == 1 and "\n" not in made


# --- compilers ----------------------------------------------------------------------------------------------------

COMPILERS = {
    "gcc": ["gcc"],
    "clang": ["clang-19"],
    "arm-m3": ["arm-none-eabi-gcc", "-mcpu=cortex-m3", "-mthumb", "-ffreestanding"],
    "riscv": ["clang-19", "--target=riscv32-unknown-elf", "-march=rv32imafc", "-mabi=ilp32f", "-ffreestanding"],
}
# what a C compiler calls on its own: copies and soft float of libgcc / compiler-rt; and the store, which is in the library beside the model
FROM_THE_COMPILER = ("__aeabi_", "mem", "__", "tt_store_", "tt_delta_")


@pytest.mark.parametrize("target", COMPILERS)
def test_model_is_clean_at_every_level_and_needs_no_library(target: str, tmp_path: Path) -> None:
    compiler, *flags = COMPILERS[target]
    need(compiler)
    for name, text in cnn(tmp_path).files.items():
        (tmp_path / name).write_text(text)
    for level in ("-O0", "-O2", "-O3", "-Os"):
        run(compiler, *flags, *STRICT, level, f"-I{data_dir('runtime_c')}", "-c", "cnn.c", "-o", "cnn.o", cwd=tmp_path)
        wanted = [line.split()[-1] for line in run("nm", "-u", "cnn.o", cwd=tmp_path).splitlines()]
        assert all(symbol.startswith(FROM_THE_COMPILER) for symbol in wanted), f"{level}: {wanted}"


def test_model_in_a_program_in_cpp(tmp_path: Path) -> None:
    need("g++")
    program = cnn(tmp_path)
    for name, text in program.files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "main.cpp").write_text(
        '#include "cnn.h"\nalignas(16) static unsigned char arena[CNN_ARENA_BYTES];\n'
        "int main() { cnn_ctx ctx; float x[CNN_INPUT_BYTES / 4] = {0}, loss; int32_t label = 1;\n"
        "return cnn_init(&ctx, arena, sizeof arena) != TT_OK || cnn_train_step(&ctx, x, &label, &loss) != TT_OK\n"
        "|| cnn_params()[0].bytes == 0 || cnn_model_hash[0] != " + str(program.prepared.hash[0]) + "; }\n"
    )
    runtime = f"-I{data_dir('runtime_c')}"
    run("gcc", *STRICT, runtime, "-c", "cnn.c", *STORE, cwd=tmp_path)
    run("g++", "-std=c++11", *WARNINGS, runtime, "main.cpp", "cnn.o", "tt_store.o", "tt_crc.o", "tt_delta.o", "-o", "program", cwd=tmp_path)
    run(tmp_path / "program")


@pytest.mark.parametrize("board", ["host", "mps2-an385", "riscv-virt"])
def test_project_builds_without_us(board: str, tmp_path: Path) -> None:
    """With make and with CMake, from a folder of another name, with no Python on the way."""
    need("cmake", "make", *(COMPILERS["arm-m3"][:1] if board == "mps2-an385" else ["clang-19"]))
    program = cnn(tmp_path, board)
    write(program, tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "moved here")
    project = tmp_path / "moved here"
    run("make", "-j2", cwd=project)
    run("cmake", "-S", ".", "-B", "cmake", "-DCMAKE_BUILD_TYPE=Release", cwd=project)
    run("cmake", "--build", "cmake", "-j2", cwd=project)
    for elf in (project / "build" / "cnn.elf", project / "cmake" / "cnn.elf"):
        symbols = {line.split()[-1].split("@")[0] for line in run("nm", elf).splitlines()}
        assert not symbols & {"malloc", "free", "calloc", "printf", "puts", "expf", "logf", "sqrtf", "tanhf", "exp", "log"}


# --- contexts -----------------------------------------------------------------------------------------------------


def test_status_codes(tmp_path: Path) -> None:
    program = compiled(mlp(), tmp_path)
    library = Library(program, tmp_path)
    device = library.instance()
    context, arena, size = ctypes.byref(device.context), device.arena.ctypes.data, device.arena.nbytes
    x, y, loss = (np.zeros(n, np.float32) for n in (6, 3, 1))

    def pointer(array: np.ndarray | None) -> ctypes.c_void_p:
        return ctypes.c_void_p(None if array is None else array.ctypes.data)

    def label(n: int) -> np.ndarray:
        return np.array([n], np.int32)

    def init(where: object, at: int | None, bytes_: int) -> int:
        return library.call("init", where, ctypes.c_void_p(at), ctypes.c_size_t(bytes_))

    def step(*arrays: np.ndarray | None) -> int:
        return library.call("train_step", context, *map(pointer, arrays))

    assert (init(None, arena, size), init(context, None, size)) == (2, 2)
    assert (init(context, arena, size - 1), init(context, arena + 4, size), init(context, arena, 0)) == (1, 1, 1)
    assert (init(context, arena, size), init(context, arena, size + 1000)) == (0, 0)
    assert [step(x, label(n), loss) for n in (0, 2, 3, -1, 2**31 - 1, -2**31)] == [0, 0, 3, 3, 3, 3]
    assert [step(None, label(0), loss), step(x, None, loss), step(x, label(0), None)] == [2, 2, 2]
    assert library.call("train_step", None, *map(pointer, (x, label(0), loss))) == 2
    assert library.call("evaluate", context, *map(pointer, (x, label(0), loss, None))) == 2
    assert library.call("evaluate", context, *map(pointer, (x, label(3), loss, y))) == 3
    assert [library.call("infer", context, pointer(a), pointer(b)) for a, b in ((x, y), (None, y), (x, None))] == [0, 2, 2]
    fresh = type(device.context)()
    assert library.call("infer", ctypes.byref(fresh), pointer(x), pointer(y)) == 2
    library.call("set_lr", None, ctypes.c_float(1.0))
    library.call("set_lr", ctypes.byref(fresh), ctypes.c_float(1.0))


def test_instances_and_models_live_side_by_side(tmp_path: Path) -> None:
    """Steps of two contexts of one model and one of another, interleaved, give the bits that each gives alone."""
    first, second = Library(cnn(tmp_path), tmp_path), Library(compiled(mlp(), tmp_path, "mlp.onnx"), tmp_path)
    golden = [golden_vectors(library.compiled.program, 6, seed) for library, seed in ((first, 0), (first, 1), (second, 2))]
    libraries = (first, first, second)

    def trace(devices: list[int]) -> list[list[float]]:
        instances = {d: libraries[d].instance() for d in devices}
        losses: dict[int, list[float]] = {d: [] for d in devices}
        for n in range(6):
            for d in devices:
                losses[d].append(instances[d].train_step(golden[d].x[n], golden[d].target[n]))
        return [losses[d] for d in devices]

    together = trace([0, 1, 2])
    assert together == [trace([d])[0] for d in range(3)]
    assert together[0] != together[1]


SIDE_BY_SIDE = """
#include "cnn.h"
#include "mlp.h"
static unsigned char arenas[2][(CNN_ARENA_BYTES + 15) & ~15] __attribute__((aligned(16)));
static unsigned char other[MLP_ARENA_BYTES] __attribute__((aligned(16)));
int main(void)
{
    cnn_ctx a, b;
    mlp_ctx c;
    float x[CNN_INPUT_BYTES / 4], small[MLP_INPUT_BYTES / 4] = {0}, la = 0, lb = 0, lc = 0;
    const int32_t label = 1;
    for (int i = 0; i < CNN_INPUT_BYTES / 4; ++i) {
        x[i] = (float)(i % 7) - 3.0f;
    }
    if (cnn_init(&a, arenas[0], CNN_ARENA_BYTES) || cnn_init(&b, arenas[1], CNN_ARENA_BYTES) || mlp_init(&c, other, sizeof other)) {
        return 1;
    }
    for (int n = 0; n < 6; ++n) {
        if (cnn_train_step(&a, x, &label, &la) || mlp_train_step(&c, small, &label, &lc) || cnn_train_step(&b, x, &label, &lb)) {
            return 2;
        }
        if (la != lb || !(lc < 100.0f)) {
            return 3;
        }
    }
    return 0;
}
"""


def test_one_sanitized_program_with_two_models(tmp_path: Path) -> None:
    for program in (cnn(tmp_path), compiled(mlp(), tmp_path, "mlp.onnx")):
        for name, text in program.files.items():
            (tmp_path / name).write_text(text)
    (tmp_path / "main.c").write_text(SIDE_BY_SIDE)
    sources = ("main.c", "cnn.c", "mlp.c", *STORE)
    run(sanitizing(), *STRICT, "-O1", *SANITIZERS, f"-I{data_dir('runtime_c')}", *sources, "-o", "program", cwd=tmp_path)
    run(tmp_path / "program")


@pytest.mark.filterwarnings("error")
def test_golden_vectors_of_a_rate_that_is_too_high_say_nothing(tmp_path: Path) -> None:
    onnx.save(mlp(), tmp_path / "m.onnx")
    golden = golden_vectors(compile_model(tmp_path / "m.onnx", Options(optimiser=Optimiser(1e30))).program)
    assert np.isfinite(golden.losses[0]) and not np.isfinite(golden.losses[-1])
