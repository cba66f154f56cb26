# SPDX-License-Identifier: Apache-2.0
"""What `compile` writes as a library, in projects of somebody else: C and C++, here and on a board; its README and its macros."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runs import sentence, succeed
from compilers import installed
from ctypes_model import STRICT, WARNINGS
from test_int8_training import int8_model
from test_ports import LOSS, two_headed

from tinytrain import zoo
from tinytrain.compiler import Options, compile_model, write
from tinytrain.errors import ModelError
from tinytrain.gradient.update import Optimiser

FOREIGN = Path(__file__).resolve().parent / "foreign"
CPP_WARNINGS = ("-Wall", "-Wextra", "-Wno-unused-function", "-Werror")
NAMES = ("zero", "one", 'say "two"', "drei\n", "4", "5", "6", "7", "8", "??/")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


def saved(folder: Path) -> Path:
    (folder / "cnn.onnx").write_bytes(zoo.model("cnn").SerializeToString())
    return folder / "cnn.onnx"


def cnn(folder: Path, board: str = "host", name: str = "out") -> Path:
    write(compile_model(saved(folder), Options(board=board, classes=NAMES)), folder / name)
    return folder / name


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cnn(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def said_here(host: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the program says on this computer, built in C11."""
    build = tmp_path_factory.mktemp("build")
    run("cmake", "-S", FOREIGN, "-B", build, f"-DMODEL={host}", "-DCMAKE_BUILD_TYPE=Release")
    run("cmake", "--build", build)
    said = run(build / "program")
    assert run(build / "program_cpp") == said
    return said


def test_in_a_foreign_project_here(said_here: str) -> None:
    lines = said_here.splitlines()
    assert len(set(lines)) == len(lines) == 11             # a name has two
    assert re.fullmatch(r'[0-9a-f]{8} say "two"', lines[2]) and lines[10].endswith(" ??/")


def test_in_a_foreign_project_on_a_board(said_here: str, tmp_path: Path) -> None:
    """A Cortex-M4 by somebody else's tool chain file, linker script and start-up: the bits of this computer."""
    model = cnn(tmp_path, "mps2-an386")
    tools = f"-DCMAKE_TOOLCHAIN_FILE={FOREIGN / 'cortex-m4.cmake'}"
    run("arm-none-eabi-gcc", "--version")
    run("cmake", "-S", FOREIGN, "-B", tmp_path / "build", tools, f"-DMODEL={model}", "-DCMAKE_BUILD_TYPE=Release")
    run("cmake", "--build", tmp_path / "build")
    emulator = ["qemu-system-arm", "-machine", "mps2-an386", "-display", "none", "-monitor", "none", "-serial", "none"]
    command = [*emulator, "-semihosting-config", "enable=on,target=native", "-kernel", tmp_path / "build" / "program"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout + done.stderr == said_here


@pytest.mark.parametrize("standard", ["c99", "c11", "c17"])
def test_each_standard_of_c(standard: str, host: Path, tmp_path: Path) -> None:
    flags = [f"-std={standard}", *WARNINGS, "-Wpedantic"]
    for source in sorted((host / "lib").glob("*.c")):
        run("gcc", *flags, "-c", source, "-o", tmp_path / "object.o")


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_sources_as_cpp(compiler: str, host: Path, said_here: str, tmp_path: Path) -> None:
    """Compiled as C++17, sources and program say what they say in C."""
    cpp = installed(compiler) or pytest.skip(f"needs {compiler}")
    flags = ["-x", "c++", "-std=c++17", "-O2", "-ffp-contract=off", "-fno-math-errno", *CPP_WARNINGS]
    run(cpp, *flags, f"-I{host / 'lib'}", *(host / "lib").glob("*.c"), FOREIGN / "program.c", "-o", tmp_path / "program")
    assert run(tmp_path / "program") == said_here


CPP_MODELS: dict[str, Callable[[Path], tuple[Path, Options]]] = {
    "fp16": lambda folder: (saved(folder), Options(dtype="fp16")),
    "adam": lambda folder: (saved(folder), Options(optimiser=Optimiser(0.001, kind="adam", accumulate=2), further_schemes=("bias",))),
    "int8": lambda folder: (int8_model(zoo.model("cnn"), folder), Options(int8_input=True)),
    "integer": lambda folder: (int8_model(zoo.model("cnn"), folder), Options(grad="int8")),
    "two": lambda folder: (two_headed(folder / "two.onnx"), Options(loss=LOSS)), "cores": lambda folder: (saved(folder), Options(cores=2)),
    "inference": lambda folder: (saved(folder), Options(loss=None)),
}


@pytest.mark.parametrize("kind", CPP_MODELS)
def test_sources_of_many_kinds_pass_cpp(kind: str, tmp_path: Path) -> None:
    path, options = CPP_MODELS[kind](tmp_path)
    write(compile_model(path, replace(options, exact_seconds=0.0)), tmp_path / "out")
    for source in (tmp_path / "out" / "lib").glob("*.c"):
        run("g++", "-x", "c++", "-std=c++17", "-fsyntax-only", *CPP_WARNINGS, source)


def test_make_lib(tmp_path: Path) -> None:
    """No symbol is left open but what the compiler itself calls; each global one has the name of the model, the store or deltas first."""
    out = cnn(tmp_path, "mps2-an386")
    run("arm-none-eabi-gcc", "--version")
    run("make", "lib", cwd=out)
    lines = [line.split() for line in run("arm-none-eabi-nm", "-g", out / "build" / "libcnn.a").splitlines()]
    defined = {words[-1] for words in lines if len(words) == 3}
    assert {words[-1] for words in lines if words[-2:-1] == ["U"]} - defined <= {"memcpy", "memset"}
    assert all(name.startswith(("cnn_", "tt_store_", "tt_delta_", "tt_crc")) for name in defined)


def projects(folder: Path, kind: str) -> Path:
    """A model with one output, with integers for input, or with several inputs and outputs."""
    path, options = {
        "cnn": lambda: (saved(folder), Options()),
        "inference": lambda: (saved(folder), Options(loss=None)),
        "int8": lambda: (int8_model(zoo.model("cnn"), folder), Options(int8_input=True)),
        "two": lambda: (two_headed(folder / "two.onnx"), Options(loss=LOSS, exact_seconds=0.0)),
    }[kind]()
    write(compile_model(path, options), folder / "out")
    return folder / "out"


@pytest.mark.parametrize("kind", ["cnn", "inference", "int8", "two"])
def test_program_of_the_readme(kind: str, tmp_path: Path) -> None:
    out = projects(tmp_path, kind)
    found = re.search(r"```c\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    assert found
    (tmp_path / "main.c").write_text(found[1])
    run("gcc", *STRICT, "-Wpedantic", f"-I{out / 'lib'}", "main.c", *(out / "lib").glob("*.c"), "-o", "program", "-lm", cwd=tmp_path)
    run(tmp_path / "program")


def test_quantised_as_by_the_session(tmp_path: Path) -> None:
    """Halves go to the even neighbour, what is too large to the end; nothing else is told by NumPy."""
    out = projects(tmp_path, "int8")
    port = compile_model(tmp_path / "int8.onnx", Options(int8_input=True)).program.entries["infer"].inputs[0].type.quant
    assert port is not None
    (tmp_path / "wrap.c").write_text(
        '#include "int8_config.h"\nvoid quantise(const float *x, int8_t *y, size_t n);\n'
        "void quantise(const float *x, int8_t *y, size_t n)\n{\n    int8_quantise_input(x, y, n);\n}\n"
    )
    run("gcc", *STRICT, "-O2", "-shared", "-fPIC", f"-I{out / 'lib'}", "wrap.c", "-o", "wrap.so", cwd=tmp_path)
    scale, zero_point = np.float32(port.scale[0]), port.zero_point
    halves = (np.arange(-300, 300, dtype=np.float32) + np.float32(0.5)) * scale
    x = np.concatenate([halves, np.random.default_rng(0).normal(0, 40 * scale, 4000), [np.inf, -np.inf, 3e38, -3e38]]).astype(np.float32)
    y = np.empty(x.size, np.int8)
    ctypes.CDLL(str(tmp_path / "wrap.so")).quantise(
        x.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(x.size))
    with np.errstate(over="ignore"):
        want = np.clip(np.rint(x / scale) + zero_point, -128, 127).astype(np.int8)
    np.testing.assert_array_equal(y, want)


def test_names_of_classes(tmp_path: Path) -> None:
    """Those of the file's metadata, where there are as many; those given come first, and have to be as many."""
    path = tmp_path / "cnn.onnx"

    def names(metadata: str, *given: str) -> str | None:
        model = zoo.model("cnn")
        onnx.helper.set_model_props(model, {"classes": metadata})
        onnx.save(model, path)
        text = compile_model(path, Options(classes=given)).files["cnn_config.h"]
        found = re.search(r"CNN_CLASS_NAMES { (.*) } /", text)
        return found[1] if found else None

    listed = ", ".join(f'"{i}"' for i in range(10))
    assert names("0, 1,2,3,4,5,6,7,8,9") == names(f"[{listed}]") == names("a,b", *map(str, range(10))) == listed
    assert names("a,b") is names("{}") is names("[1]") is None
    with pytest.raises(ModelError, match="--classes names 2 classes; the model has one output of 10 elements"):
        names("", "a", "b")


def test_names_of_classes_from_files(tmp_path: Path) -> None:
    """Lines of a file, or subfolders in the order of their labels, as the command line takes them; the manifest has them too."""
    onnx.save(zoo.model("gesture"), tmp_path / "gesture.onnx")
    (tmp_path / "names.txt").write_text("\ufeffwave\n\ncircle\r\nshake it\nt\u00e4p\n", encoding="utf-8")
    for name in ("circle", "shake it", "t\u00e4p", "wave", ".hidden"):
        (tmp_path / "images" / name).mkdir(parents=True)
    (tmp_path / "images" / "README").touch()
    for given, names in (
        ("names.txt", ["wave", "circle", "shake it", "t\u00e4p"]), ("images", ["circle", "shake it", "t\u00e4p", "wave"]),
    ):
        out = tmp_path / f"out_{given}"
        succeed("compile", tmp_path / "gesture.onnx", "--no-build", "--classes", tmp_path / given, "-o", out)
        assert json.loads((out / "manifest.json").read_text(encoding="utf-8"))["classes"] == names
        assert f'{{ "{names[0]}", ' in (out / "lib" / "gesture_config.h").read_text()
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.txt").write_text("\n")
    (tmp_path / "latin.txt").write_bytes(b"t\xe4p\n")
    for given, said in (("empty", "names no classes"), ("none.txt", "names no classes"), ("latin.txt", "expected names of classes")):
        assert said in sentence("compile", tmp_path / "gesture.onnx", "--no-build", "--classes", tmp_path / given, "-o", tmp_path / "o")
