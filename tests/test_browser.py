# SPDX-License-Identifier: Apache-2.0
"""Board `browser`: the C of any board as WebAssembly, in Node.js, has the bits of that board's twin."""

from __future__ import annotations

import ctypes
import json
import math
import subprocess
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli_runs import save_text
from compilers import quick
from fake_firmware import need_tools
from sklearn.datasets import load_digits

from tinytrain.compiler import Options, compile_model, write
from tinytrain.device.node import start_node
from tinytrain.device.project import BROWSER, Project
from tinytrain.device.qemu import qemu_command
from tinytrain.device.session import Session, connect
from tinytrain.errors import ToolError
from tinytrain.gradient.update import Optimiser
from tinytrain.learn.weights import export_learned, restore
from tinytrain.paths import data_dir
from tinytrain.quantise import lockstep
from tinytrain.quantise.convert import quantise_model
from tinytrain.random import random_u32
from tinytrain.report.live import Quiet
from tinytrain.report.page import project_json
from tinytrain.schemes.scheme import Scheme, Select
from tinytrain.target.board import load_board
from tinytrain.target.size import sizes
from tinytrain.zoo import model

BOARDS = ("host", "host-fused", "netduinoplus2", "mps3-an547")
STEPS = 12
ADAM = Optimiser(0.003, kind="adam")


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    need_tools(load_board(BROWSER))


def compiled(folder: Path, board: str, **options: object) -> Project:
    onnx.save(model("cnn"), folder / "model.onnx")
    write(compile_model(folder / "model.onnx", Options(board=board, **options)), folder / board)      # type: ignore[arg-type]
    return Project.open(folder / board)


def in_node(project: Project) -> Session:
    board = load_board(BROWSER)
    return connect(start_node(project.module(), board), board, project.manifest)


def steps(session: Session) -> list[bytes]:
    """Bits of losses, an output, and all that has been learned."""
    rng = np.random.default_rng(7)
    count = session.info.input_bytes // (1 if session.input_quant else 4)
    losses = [session.train_step(x, i % 10).loss for i, x in enumerate(rng.random((STEPS, count), np.float32))]
    x = rng.random(count, np.float32)
    assert session.evaluate(x, 3)[0] > 0
    bits = np.array(losses, np.float32).tobytes()
    return [bits, session.infer(x).tobytes(), *(array.tobytes() for array in session.get_params().values())]


@pytest.mark.parametrize("name", BOARDS)
def test_bits_are_those_of_the_twin(name: str, tmp_path: Path) -> None:
    """Kernels for an instruction set are plain C there, and fused arithmetic is computed."""
    need_tools(board := load_board(name))
    project = compiled(tmp_path, name, optimiser=ADAM)
    with in_node(project) as there:
        found = steps(there)
    twin = project if board.is_host else compiled(tmp_path, board.twin, optimiser=ADAM)
    with twin.session() as here:
        assert steps(here) == found


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.4, shape).astype(np.float32)


NETS: dict[str, tuple[str, Options]] = {
    "fp16": ("cnn", Options(dtype="fp16")), "fp16 gradients": ("cnn", Options(grad="fp16")), "int8": ("int8", Options()),
    "integers only": ("int8", Options(grad="int8")), "recurrent": ("gru", Options(board="host-fused")),
    **{f"halves of {board}": ("cnn", Options(board=board, dtype="fp16")) for board in ("mps3-an547", "riscv-virt-zvfh", "pulp-virt")},
    "curves": ("curves", Options(optimiser=Optimiser(0.01, kind="adamw", clip_norm=1.0))),
}
TEXTS = {
    "gru": (
        """g (float[1,6,4] x) => (float[1,10] y) { t = Transpose<perm = [1, 0, 2]>(x) all, last = GRU<hidden_size = 5>(t, w, r)
           f = Flatten(last) y = Gemm<transB = 1>(f, fw, fb) }""",
        {"w": drawn(1, 15, 4), "r": drawn(1, 15, 5), "fw": drawn(10, 5), "fb": drawn(10)},
    ),
    "curves": (
        """g (float[1,24] x) => (float[1,10] y) { a = Gemm<transB = 1>(x, w1, b1) b = Tanh(a) c = Gemm<transB = 1>(b, w2, b2)
           d = Sigmoid(c) e = Erf(d) f = Softmax(e) y = Gemm<transB = 1>(f, w3, b3) }""",
        {"w1": drawn(12, 24), "b1": drawn(12), "w2": drawn(9, 12), "b2": drawn(9), "w3": drawn(10, 9), "b3": drawn(10)},
    ),
}


@pytest.mark.parametrize("kind", NETS)
def test_bits_of_every_format_of_numbers(kind: str, tmp_path: Path) -> None:
    """Halves, integers, elementary functions and recurrence, as the project's own device computes them."""
    name, options = NETS[kind]
    need_tools(load_board(options.board))
    if name in TEXTS:
        text, arrays = TEXTS[name]
        path = save_text(tmp_path / "model.onnx", text, **arrays)
    else:
        path = digits_cnn(tmp_path, int8=name == "int8")
    write(compile_model(path, options), tmp_path / "out")
    project = Project.open(tmp_path / "out")
    with in_node(project) as there, project.session() as here:
        assert steps(here) == steps(there)


def test_the_board_itself(tmp_path: Path) -> None:
    """Its own project is one as any other: commands run it in Node.js, its sizes are those of the module."""
    project = compiled(tmp_path, BROWSER)
    assert project.elf().suffix == ".wasm" and project.elf() == project.module()
    found = project.sizes()
    assert 1000 < found.flash_bytes < project.elf().stat().st_size and found.ram_bytes % 65536 == 0
    with project.session() as session:
        mine = steps(session)
        session.reset()
        assert steps(session) == mine


def test_a_damaged_module_has_no_sizes(tmp_path: Path) -> None:
    for data in (b"", b"\0asm\1\0\0\0", b"\0asm\1\0\0\0\5", b"\x7fELF"):
        (tmp_path / "model.wasm").write_bytes(data)
        with pytest.raises(ToolError, match=r"model\.wasm is not a readable WebAssembly module"):
            sizes(tmp_path / "model.wasm")


def test_c_of_ones_own_may_have_other_letters(tmp_path: Path) -> None:
    project = compiled(tmp_path, "host")
    with next((project.folder / "lib").glob("*.c")).open("ab") as file:
        file.write(b"/* caf\xe9 */\n")
    assert Project.open(project.folder, trust=True).module().is_file()


def test_several_cores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="shares each step among 2 cores; a browser runs it on one"):
        compiled(tmp_path, "host", cores=2).module()


def test_products_and_sums_are_rounded_once(tmp_path: Path) -> None:
    """tt_fused.c against the C library of this computer: random bits, ties, numbers that cancel, the smallest and the largest."""
    library = tmp_path / "fused.so"
    source = data_dir("runtime_c") / "tt_fused.c"
    subprocess.run([quick(), "-std=c99", "-O2", "-ffp-contract=off", "-fno-builtin", "-Dfmaf=tt_fmaf", "-shared", "-fPIC", str(source),
                    "-o", str(library)], check=True)
    ours, theirs = ctypes.CDLL(str(library)).tt_fmaf, ctypes.CDLL(find_library("m")).fmaf
    for function in (ours, theirs):
        function.argtypes, function.restype = [ctypes.c_float] * 3, ctypes.c_float
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 1 << 32, (3, 6000), np.uint32).view(np.float32)
    near = rng.standard_normal((3, 6000), np.float32)
    near[2] = -near[0] * near[1] * rng.choice(np.array([1, 1 + 2**-23, 2**-24, 2**24], np.float32), 6000)
    small = rng.integers(-9, 10, (3, 6000)).astype(np.float32) * np.array([[2.0**-75], [2.0**-74], [2.0**-149]], np.float32)
    edges = np.array([0.0, -0.0, 1.0, -1.0, 2**-126, 3.4028235e38, -3.4028235e38, np.inf, -np.inf, np.nan], np.float32)
    cases = np.concatenate([bits, near, small, np.stack(np.meshgrid(edges, edges, edges)).reshape(3, -1)], axis=1)
    for a, b, c in cases.T.tolist():
        mine, right = np.float32(ours(a, b, c)), np.float32(theirs(a, b, c))
        assert mine.tobytes() == right.tobytes() or (np.isnan(mine) and np.isnan(right)), (a.hex(), b.hex(), c.hex())


def test_the_pages_link_and_a_device(tmp_path: Path) -> None:
    """What the page does with a board on a serial port: train there and here, with the same bits; read, write and reset weights; and on a
    line that loses packets.
    """
    need_tools(load_board("netduinoplus2"))
    project = compiled(tmp_path, "netduinoplus2")
    command = qemu_command(project.elf(), project.board)
    found = node("page_device.mjs", project.module(), project.folder / "manifest.json", STEPS, *command)
    assert found["info"] | {"arena": 0} == {
        "model": "model", "board": "netduinoplus2", "hash": project.manifest.model_sha256, "arena": 0,
    }
    here, there = found["losses"]
    assert here == there and len(here) == STEPS and all(math.isfinite(loss) for loss in here)
    assert found["outputs"][0] == found["outputs"][1] == found["outputs"][2] and found["evaluated"][0] == found["evaluated"][1]
    assert (found["changed"], found["pushed"], found["lost"]) == ("", "", "") and found["reset"].startswith("conv1_weight[")
    assert found["silent"].startswith("the program did not answer within 0.7 s.") and found["gone"] == "the program has gone."
    assert found["replaced"].startswith("the program talks to another program now.")


@pytest.mark.parametrize("kind", ["plain", "partial", "int8", "half", "local"])
def test_what_the_page_keeps(kind: str, tmp_path: Path) -> None:
    """Its files are those of `tinytrain train`: weights go into the twin and give the same bits, the model's file is the same as pull's."""
    project = kept(tmp_path, kind)
    (tmp_path / "page.json").write_text(json.dumps(project_json([project])))
    found = node("page_keep.mjs", tmp_path / "page.json", tmp_path / "data.npz", tmp_path)
    assert found["samples"] and found["count"] == 120 and found["random"] == int(random_u32(5, 7))
    assert found["weights"] == "" and found["names"] == [f"klasse {i} äß" for i in range(10)]
    assert np.load(tmp_path / "samples.npz")["classes"].tolist() == found["names"]
    assert found["epochs"][1]["accuracy"] > 0.3 and sum(map(sum, found["epochs"][1]["confusion"])) < 120 / 4
    assert found["refused"] == [
        "data.npz is not an .npz that the page can read: Offset is outside the bounds of the DataView.",
        "data.npz is not an .npz that the page can read: x is damaged.",
        "data.npz is not an .npz that the page can read: x has 3 numbers, and a shape of 4.",
        "data.npz has no arrays x and y of numbers.",
        f"data.npz: {project.manifest.parameters[0].name} has numbers that the model cannot hold.",
        f"data.npz was learned by another model than {project.manifest.name} of this page.",
        f"data.npz has no {project.manifest.parameters[0].name}: it was not learned by this model.",
    ]
    with project.session() as session:
        restore(project, session, tmp_path / "learned.npz")
        export_learned(project, session)
    assert (tmp_path / "learned.onnx").read_bytes() == (project.folder / "learned.onnx").read_bytes()


def digits_cnn(folder: Path, *, int8: bool = False) -> Path:
    """The CNN; and quantised with some digits, which are in data.npz."""
    digits = load_digits()
    np.savez(folder / "data.npz", x=np.float32(digits.images[:120, None] / 16), y=digits.target[:120])
    onnx.save(model("cnn"), path := folder / "model.onnx")
    if int8:
        onnx.save(quantise_model(path, folder / "data.npz", lockstep.Options(), Quiet()).model, path := folder / "int8.onnx")
    return path


def kept(folder: Path, kind: str) -> Project:
    """The CNN; with channels of a weight and one bias that are trained; as int8; stored as fp16; with heads beside it."""
    parts = Scheme({"conv2": {"weight": Select(channels=(1, 4, 5))}, "fc": {"weight": Select(0.5), "bias": Select()}})
    options = Options(
        scheme=parts if kind == "partial" else "full", dtype="fp16" if kind == "half" else "fp32", optimiser=Optimiser(0.05),
        method="local" if kind == "local" else "backprop",
    )
    write(compile_model(digits_cnn(folder, int8=kind == "int8"), options), folder / "out")
    return Project.open(folder / "out")


def node(script: str, *arguments: object) -> dict[str, Any]:
    command = ["node", str(Path(__file__).with_name(script)), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_numbers_are_numpys(tmp_path: Path) -> None:
    """Halves, rounding, layouts, pixels; files that are packed, of halves and of long integers."""
    rng = np.random.default_rng(9)
    spread = rng.standard_normal(4000) * 10.0 ** rng.integers(-9, 6, 4000)
    floats = np.concatenate([spread, rng.integers(-9, 9, 99) + 0.5, [65519.9, 65520, 2**-24, 2**-25, 0, -0.0, 1e9]]).astype(np.float32)
    arrays = {
        "floats": floats, "cube": rng.random((3, 4, 5), np.float32), "rgba": rng.integers(0, 256, (6, 4), np.uint8),
        "wide": np.arange(-3, 4), "halves": rng.random(50).astype(np.float16),
    }
    np.savez_compressed(tmp_path / "given.npz", **arrays)  # type: ignore[arg-type]
    found = node("page_numbers.mjs", tmp_path / "given.npz", tmp_path / "made.npz")
    made = np.load(tmp_path / "made.npz")
    np.testing.assert_array_equal(made["halves"], np.arange(65536).astype(np.uint16).view(np.float16).astype(np.float64))
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(made["bits"], floats.astype(np.float16).view(np.uint16))
    np.testing.assert_array_equal(made["rounded"], np.rint(floats))
    np.testing.assert_array_equal(made["turned"], arrays["cube"].transpose(2, 0, 1).ravel())
    colours = arrays["rgba"][:, :3].astype(np.float64)
    np.testing.assert_allclose(made["grey"], colours.mean(1) / 255, rtol=1e-6)
    np.testing.assert_allclose(made["colours"], (255 - colours).ravel() / 127.5 - 1, rtol=1e-6)
    np.testing.assert_array_equal(made["wide"], arrays["wide"])
    np.testing.assert_array_equal(made["read"], arrays["halves"])
    assert found == {
        "kinds": ["picture", "picture", "series", "series", "sliders", "rows", "rows"], "kept": [0, 1, 2], "trained": 20, "same": True,
        "csv": [[1, 2, 3], [4, 5, 6]], "windows": [[1, 2], [3, 4], [5, 6]],
    }
