# SPDX-License-Identifier: Apache-2.0
"""Whatever is wrong, the user reads one sentence (where, what was found, what is expected) and what to try; the exit code is 2.

Nothing is left behind by a refused call: the folder is compared before and after.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runs import run, save_data, save_model, save_text, sentence, succeed, tree
from fake_firmware import need_tools
from onnx import TensorProto

from tinytrain.device import emulators
from tinytrain.device.process import ProcessTransport
from tinytrain.target.board import load_board

Change = Callable[[onnx.ModelProto], object]
UNREADABLE = Path("/proc/self/mem")                       # opens, but its first byte cannot be read: even root gets an error
needs_proc = pytest.mark.skipif(not UNREADABLE.exists(), reason="needs Linux's /proc")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    succeed("compile", save_model(folder), "-o", folder / "out", "--lr", 0.02)
    succeed("train", folder / "out", "--data", save_data(folder / "d.npz"))
    return folder


@pytest.fixture
def project(built: Path, tmp_path: Path) -> Path:
    """A built and trained project of its own: its seals go with it."""
    return shutil.copytree(built / "out", tmp_path / "out")


def refused(folder: Path, *arguments: object, exit_code: int = 2) -> str:
    """The message of a call that must change nothing in `folder`."""
    before = tree(folder)
    text = sentence(*arguments, exit_code=exit_code)
    assert tree(folder) == before
    lines = text.rstrip().splitlines()
    assert lines[0].startswith("tinytrain: ") and lines[0].endswith("."), text
    assert len(lines) >= 2, f"what to try is missing: {text}"
    return text


def external(location: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
    return change


def giant(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].dims[:] = [2**20, 2**20]


def not_a_number(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.raw_data = np.float32(np.nan).tobytes() + tensor.raw_data[4:]


def dynamic(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "N"


def element_type(tag: int) -> Change:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = tag
    return change


MODELS: dict[str, tuple[Change, str]] = {
    "op": (lambda m: setattr(m.graph.node[1], "op_type", "Bernoulli"), "relu_b (Bernoulli) in {model}: this op is not supported"),
    "dynamic": (dynamic, "{model}: input x has the dynamic shape (1,N); every dimension but the batch must be known when compiling."),
    "float64": (element_type(TensorProto.DOUBLE), "{model}: tensor x is of type float64; expected float32."),
    "string": (element_type(TensorProto.STRING), "{model}: tensor x is of type string; expected float32."),
    "missing": (external("w.bin"), "{model}: tensor fc1_weight has its data in w.bin, but {folder}/w.bin does not exist."),
    "outside": (external("../w.bin"), "../w.bin, which lies outside the model's folder {folder}; expected a file inside it."),
    "absolute": (external("/etc/passwd"), "{model}: tensor fc1_weight has its data in /etc/passwd, which"),
    "giant": (giant, "of shape (1048576,1048576) would have 1,099,511,627,776 elements; at most"),
    "nan": (not_a_number, "{model}: initializer fc1_weight holds 1 of 2,048 values that are NaN or infinite, the first at [0,0]; expected"),
}


@pytest.mark.parametrize("case", MODELS)
def test_model(case: str, tmp_path: Path) -> None:
    change, expected = MODELS[case]
    path = save_model(tmp_path)
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    assert expected.format(model=path, folder=tmp_path) in refused(tmp_path, "compile", path, "-o", tmp_path / "out")


@pytest.mark.parametrize("content", [b"hello", None], ids=["corrupt", "truncated"])
def test_corrupt_model(content: bytes | None, tmp_path: Path) -> None:
    path = save_model(tmp_path)
    path.write_bytes(path.read_bytes()[:6000] if content is None else content)
    expected = f"{path} ({path.stat().st_size:,} bytes) is corrupt, truncated or not an ONNX file; expected a complete ONNX model."
    assert expected in refused(tmp_path, "compile", path, "-o", tmp_path / "out")


def test_attribute(tmp_path: Path) -> None:
    path = save_text(tmp_path / "m.onnx", "m (float[1,4] x) => (float[1,4] y) { y = LeakyRelu<alpha=-0.5>(x) }")
    text = refused(tmp_path, "compile", path, "-o", tmp_path / "out")
    assert f"LeakyRelu_0 (LeakyRelu) in {path}: alpha is -0.5, expected 0 or more." in text


def test_loss_that_does_not_fit_the_output(tmp_path: Path) -> None:
    model = "map (float[1,2,4,4] x) => (float[1,2,4,4] y) { y = Mul(x, s) }"
    path = save_text(tmp_path / "map.onnx", model, s=np.ones((2, 1, 1), np.float32))
    text = refused(tmp_path, "compile", path, "-o", tmp_path / "out")
    assert "map: loss ce does not fit the output of shape (2, 4, 4):" in text
    assert "Try --loss mse or bce or huber or l1, or end the model in one row of class scores." in text


@pytest.mark.parametrize(("change", "expected"), [
    ({"shift": 5}, "label 13 of sample 0 is out of range; the model has 10 outputs, expected 0 to 9."),
    ({"shape": (60,)}, "its samples have the shape (60); expected (64) as in the model."),
    ({"vectors": 10}, "a label has 10 values; expected one integer for each sample."),
], ids=["label", "shape", "vectors"])
def test_data(change: dict[str, int], expected: str, project: Path, tmp_path: Path) -> None:
    data = save_data(tmp_path / "d.npz", **change)  # type: ignore[arg-type]
    assert f"{data}: {expected}" in refused(tmp_path, "train", project, "--data", data)


def test_inference_does_without_targets_but_says_why(project: Path, tmp_path: Path) -> None:
    wrong, none = save_data(tmp_path / "wrong.npz", shift=5), tmp_path / "none.npz"
    np.savez(none, x=np.load(wrong)["x"])
    assert f"accuracy   unknown: {wrong}: label 13 of sample 0 is out of range" in succeed("infer", project, "--data", wrong)
    assert "accuracy" not in succeed("infer", project, "--data", none)


def test_data_file_of_the_wrong_kind(project: Path, tmp_path: Path) -> None:
    (tmp_path / "d.txt").write_text("1 2 3")
    (tmp_path / "d.npz").write_text("1 2 3")
    text = refused(tmp_path, "train", project, "--data", tmp_path / "d.txt")
    assert "d.txt is a file of the kind .txt; expected .npz, .npy, .csv" in text
    assert "d.npz: is damaged or of another kind (" in refused(tmp_path, "infer", project, "--data", tmp_path / "d.npz")
    assert "none.npz does not exist; expected a data file" in refused(tmp_path, "train", project, "--data", tmp_path / "none.npz")


def test_fewer_samples_than_one_update_takes(tmp_path: Path) -> None:
    out, data = tmp_path / "out", save_data(tmp_path / "d.npz", count=6)
    succeed("compile", save_model(tmp_path), "--accumulate", 8, "-o", out)
    assert f"{data} gives 6 samples to train with; {out} makes one update from 8." in sentence("train", out, "--data", data)


@needs_proc
def test_unreadable_files(project: Path, built: Path, tmp_path: Path) -> None:
    for name in ("m.onnx", "d.npz", "s.toml"):
        (tmp_path / name).symlink_to(UNREADABLE)
    model, compile_ = tmp_path / "m.onnx", ("-o", tmp_path / "never")
    assert f"{model}: cannot be read (Input/output error); expected an ONNX file." in sentence("compile", model, *compile_)
    assert "d.npz: is damaged or of another kind (" in sentence("train", project, "--data", tmp_path / "d.npz")
    text = sentence("compile", built / "mlp.onnx", "--scheme", tmp_path / "s.toml", *compile_)
    assert "s.toml: cannot be read (Input/output error); expected a scheme file." in text
    assert not (tmp_path / "never").exists()


@needs_proc
def test_folder_that_cannot_be_written(built: Path) -> None:
    text = refused(built, "compile", built / "mlp.onnx", "--no-build", "-o", "/proc/out")
    assert "/proc/out cannot be made: No such file or directory" in text
    assert "nothing was written" in text


def test_output_that_exists_or_is_no_folder(built: Path) -> None:
    model = built / "mlp.onnx"
    text = refused(built, "compile", model, "-o", built / "out")
    assert f"{built / 'out'} exists already; nothing was written.\nChoose another -o, or give --force to replace it." in text
    assert f"{model} exists already; nothing was written.\nChoose another -o.\n" in refused(built, "compile", model, "--force", "-o", model)
    assert f"{model / 'x'} cannot be made: File exists ({model}); nothing" in refused(built, "compile", model, "-o", model / "x")
    text = refused(built, "train", model, "--data", built / "d.npz")
    assert f"{model} is not a compiled project: it has no readable manifest.json." in text
    text = refused(built, "infer", built / "out", "--data", built / "d.npz", "-o", built / "no" / "y.npz")
    assert f"y.npz cannot be written: there is no folder {built / 'no'}." in text
    text = refused(built, "infer", built / "out", "--data", built / "d.npz", "-o", built / "out")
    assert f"{built / 'out'} cannot be written: it is a folder; expected a file." in text
    text = refused(built, "quantize", model, "--data", built / "d.npz", "-o", built / "q", "--report", built / "out" / ".." / "q")
    assert "are not all different files; one would replace another." in text


def test_manifest_of_something_else(project: Path, built: Path, tmp_path: Path) -> None:
    for text, found in (('{"board": "host"}', "lacks name, model_sha256, input"), ("[1]", "is no JSON object")):
        (project / "manifest.json").write_text(text)
        message = refused(tmp_path, "infer", project, "--data", built / "d.npz")
        assert f"{project / 'manifest.json'} {found}" in message and "; expected the manifest of a compiled project." in message


def test_board(built: Path) -> None:
    text = refused(built, "compile", built / "mlp.onnx", "--board", "arduino", "-o", built / "never")
    assert "There is no board 'arduino'; known boards are host, browser, esp32-c3, hifive1, host-fused, host-mve, lm3s6965evb," in text
    assert "Did you mean netduinoplus2?" in text
    assert "See `tinytrain boards`;" in refused(built, "compile", built / "mlp.onnx", "--board", "zzz", "-o", built / "never")
    text = refused(built, "compile", built / "mlp.onnx", "--board", "pulp-virt", "--cores", "9", "-o", built / "never")
    assert "pulp-virt has 8 cores for a step; --cores asks for 9." in text


def dense(path: Path, inputs: int, hidden: int) -> Path:
    rng = np.random.default_rng(0)
    return save_text(
        path, f"big (float[1,{inputs}] x) => (float[1,10] y) {{ h = Gemm<transB=1>(x, w1) r = Relu(h) y = Gemm<transB=1>(r, w2) }}",
        w1=rng.normal(0, 0.03, (hidden, inputs)).astype(np.float32), w2=rng.normal(0, 0.03, (10, hidden)).astype(np.float32),
    )


def test_arena_larger_than_the_ram(tmp_path: Path) -> None:
    text = refused(tmp_path, "compile", dense(tmp_path / "big.onnx", 500, 80), "--board", "netduinoplus2", "-o", tmp_path / "out")
    assert "big needs " in text and "netduinoplus2 has 131,072 of ram, 65,536 of ccm." in text
    assert "The peak of train is in Gemm" in text
    assert "Nearest that fit:\n  --board netduinoplus2 --scheme last:1 " in text and "--board raspberry-pi-pico --scheme full" in text
    succeed("compile", tmp_path / "big.onnx", "--board", "netduinoplus2", "--scheme", "last:1", "--no-build", "-o", tmp_path / "out")


def test_weights_larger_than_the_flash(tmp_path: Path) -> None:
    model = dense(tmp_path / "big.onnx", 1000, 400)
    text = refused(tmp_path, "compile", model, "--board", "netduinoplus2", "--scheme", "last:1", "--no-build", "-o", tmp_path / "out")
    assert "big has 1,616,000 bytes of weights, netduinoplus2 has 1,048,576 bytes of flash for them and the code." in text


def test_flash_that_only_the_linker_finds_too_small(tmp_path: Path) -> None:
    board = load_board("netduinoplus2")
    need_tools(board)
    model = dense(tmp_path / "big.onnx", 1000, 259)
    text = refused(tmp_path, "compile", model, "--board", board.name, "--scheme", "last:1", "-o", tmp_path / "out")
    assert "big does not fit: code and constants need more than the 1048576 bytes of flash of netduinoplus2." in text
    assert "Nearest that fit:\n" in text and "--board netduinoplus2 --scheme last:1 --dtype fp16 " in text


def test_missing_tools(tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = shutil.which("make")
    assert make is not None
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    call = ("compile", built / "mlp.onnx", "-o", tmp_path / "out")
    assert "`make` is not installed; it builds the project.\nInstall it: apt-get install make." in refused(tmp_path, *call)
    (tmp_path / "bin" / "make").symlink_to(make)
    text = refused(tmp_path, *call, "--board", "mps2-an386")
    assert "Board mps2-an386 needs the C compiler arm-none-eabi-gcc, which is not installed.\nInstall it: apt-get install" in text


def test_missing_emulator(tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = load_board("mps2-an386")
    need_tools(board)
    succeed("compile", built / "mlp.onnx", "--board", board.name, "-o", tmp_path / "out")
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, *rest, **more: None if "qemu" in name else found(name, *rest, **more))
    text = refused(tmp_path, "train", tmp_path / "out", "--data", built / "d.npz")
    assert "Board mps2-an386 needs the emulator qemu-system-arm, which is not installed.\nInstall it: apt-get install qemu" in text


@pytest.mark.parametrize(("script", "timeout", "expected"), [
    ("exec sleep 600", 0.4, "the host twin did not answer hello within 0.4 s.\nGive it longer with --timeout"),
    ("echo no licence >&2; exit 3", 60, "the host twin has ended by itself (exit code 3). It said: no licence"),
], ids=["silent", "ended"])
def test_firmware_that_does_not_answer(
    script: str, timeout: float, expected: str, project: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulators, "start_twin", lambda program: ProcessTransport("the host twin", ["sh", "-c", script]))
    assert expected in refused(tmp_path, "train", project, "--force", "--data", built / "d.npz", "--timeout", timeout)


@needs_proc
def test_firmware_that_stops_in_the_middle(project: Path, tmp_path: Path) -> None:
    """The program is frozen while it trains: the tool gives up at the timeout and ends it; the finished epochs stay."""
    frozen: list[int] = []

    def freeze() -> None:
        while not frozen:
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    if os.readlink(f"/proc/{pid}/exe") == str(project.resolve() / "build" / "mlp.elf"):
                        time.sleep(0.2)
                        os.kill(int(pid), signal.SIGSTOP)
                        frozen.append(int(pid))
                except OSError:
                    continue

    thread = threading.Thread(target=freeze, daemon=True)
    thread.start()
    text = sentence("train", project, "--data", save_data(tmp_path / "d.npz"), "--epochs", 100_000, "--timeout", 4, "--force")
    thread.join(60)
    assert "the host twin did not answer " in text and "within 4 s.\nGive it longer with --timeout, or reset the board." in text
    assert ended(frozen[0]), "the frozen program is still there"
    assert not [p.name for p in project.iterdir() if p.name.startswith(".")]


def ended(pid: int) -> bool:
    """Soon; a zombie that nobody has waited for yet has ended too."""
    for _ in range(3000):
        try:
            if " Z " in Path(f"/proc/{pid}/stat").read_text():
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_loss_that_is_not_finite(project: Path, built: Path, tmp_path: Path) -> None:
    text = refused(tmp_path, "train", project, "--data", built / "d.npz", "--lr", "1e30", "--force", exit_code=3)
    assert "The loss is not finite after 2 samples of epoch 1; what was learned in this epoch is dropped." in text
    assert "Train with a lower learning rate (--lr)." in text


def test_weights_that_are_not_finite(project: Path, tmp_path: Path) -> None:
    """The loss before the one update is finite, what the update leaves is not."""
    data = save_data(tmp_path / "one.npz", count=1)
    text = refused(tmp_path, "train", project, "--data", data, "--lr", "3e38", "--holdout", 0, "--force", exit_code=3)
    assert "The loss is not finite after epoch 1: " in text and "what was learned in this epoch is dropped." in text


def test_learned_weights(project: Path, built: Path, tmp_path: Path) -> None:
    call = ("infer", project, "--data", built / "d.npz", "--learned")
    np.savez(project / "learned.npz", other=np.zeros(3))
    assert "learned.npz does not hold the parameters of this project" in refused(tmp_path, *call)
    (project / "learned.npz").unlink()
    assert "learned.npz does not exist; expected the weights of an earlier training." in refused(tmp_path, *call)
    again = ("train", project, "--data", built / "d.npz", "--resume")
    assert "learned.npz does not exist; expected the weights of an earlier training." in refused(tmp_path, *again)


SCHEMES = {
    '[layers."fc9"]\nweight = true': "The scheme updates layer 'fc9', which mlp does not have.\nNearest names: fc",
    '[layers."fc2"]\ngamma = true': "The scheme updates 'gamma' of layer 'fc2', which has weight, bias.",
    '[layers."fc2"\nweight = true': "{file}: is not valid TOML: Expected ']'",
    '[layer."fc2"]\nweight = true': '{file}: has layer; expected tables like [layers."fc1"].',
    'layers.fc2 = 1': "{file}: layer 'fc2' must hold lines like `weight = true`",
    '[layers."fc2"]\nweight = "a"': "{file}: layer 'fc2' updates \"a\" of its weight; expected `weight = true`, a fraction as 0.25, ",
}


@pytest.mark.parametrize("text", SCHEMES, ids=["layer", "kind", "toml", "table", "no table", "value"])
def test_scheme_file(text: str, built: Path, tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(text + "\n")
    call = ("compile", built / "mlp.onnx", "--scheme", file, "-o", tmp_path / "out")
    assert SCHEMES[text].format(file=file) in refused(tmp_path, *call)


def test_scheme_name(built: Path) -> None:
    for name in ("last:0", "last:x", "smallest:0", "smallest:100", "last:1" + "0" * 150, "some"):
        text = refused(built, "scheme", built / "mlp.onnx", "--scheme", name)
        presets = "full, last:K, head, bias, bias-last:K, batchnorm, smallest:PERCENT, none, last:auto or spread:auto"
        expected = f"{presets}, or the path of a .toml"
        assert f"Unknown scheme '{name}'; expected {expected}" in text
    assert "gone.toml: cannot be read (No such file or directory)" in refused(built, "scheme", built / "mlp.onnx", "--scheme", "gone.toml")


def test_unknown_options_are_usage_errors(built: Path) -> None:
    assert "'hinge' is not one of 'ce', 'ce-soft'" in sentence("compile", built / "mlp.onnx", "--loss", "hinge", "-o", built / "never")
    assert run("compile").exit_code == 2
    assert run("fly").exit_code == 2
