# SPDX-License-Identifier: Apache-2.0
"""The tool as a user runs it: compile, train, resume, infer, schemes, verify, the lists, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli_runs import run, save_data, save_model, save_text, sentence, succeed
from fake_firmware import need_tools
from onnx.reference import ReferenceEvaluator

from tinytrain.errors import ModelError
from tinytrain.target.board import load_board

MOMENTUM = ("--momentum", 0.9, "--nesterov", "--weight-decay", 0.001, "--accumulate", 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mlp.onnx, data.npz, and the model compiled with momentum and accumulation as `out`."""
    folder = tmp_path_factory.mktemp("cli")
    model = save_model(folder)
    save_data(folder / "data.npz")
    succeed("compile", model, *MOMENTUM, "-o", folder / "out")
    return folder


def history(project: Path) -> list[dict[str, Any]]:
    """Epochs without their times, which differ between runs."""
    return [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in json.loads((project / "history.json").read_text())["epochs"]]


def trained(project: Path) -> dict[str, set[str]]:
    """Layer → kinds of parameter that are updated, by the manifest."""
    return {layer: set(kinds) for layer, kinds in json.loads((project / "manifest.json").read_text())["schemes"][0].items()}


def test_compile_says_what_it_made(folder: Path) -> None:
    text = succeed("compile", folder / "mlp.onnx", "-o", folder / "said", "--scheme", "last:1")
    assert "trained    170 weights in 1 layers: fc3" in text
    assert "lower bound" in text
    assert str(folder / "said" / "build" / "mlp.elf") in text
    assert "flash" in text
    assert trained(folder / "said") == {"fc3": {"bias", "weight"}}


def test_compile_for_a_board_without_building(folder: Path) -> None:
    out = folder / "deep" / "er" / "board"
    text = succeed("compile", folder / "mlp.onnx", "--board", "netduinoplus2", "--no-build", "-o", out)
    assert "Netduino Plus 2" in text
    assert "firmware" not in text
    files = {str(p.relative_to(out)) for p in out.rglob("*")}
    assert {"lib/mlp.c", "lib/mlp.h", "lib/CMakeLists.txt", "app/main.c", "app/link.ld", "Makefile", "CMakeLists.txt"} <= files
    assert {"manifest.json", "scheme.toml", "golden.npz"} <= files
    assert "build" not in files


def test_force_replaces_a_project_and_nothing_else(folder: Path) -> None:
    out = folder / "again"
    succeed("compile", folder / "mlp.onnx", "--no-build", "-o", out)
    (out / "stale").touch()
    succeed("compile", folder / "mlp.onnx", "--no-build", "--force", "-o", out)
    assert not (out / "stale").exists()
    mine = folder / "mine"
    mine.mkdir()
    assert "exists already; nothing was written" in sentence("compile", folder / "mlp.onnx", "--no-build", "--force", "-o", mine)


def test_train_writes_history_and_weights(folder: Path) -> None:
    """learned.onnx in the ONNX reference evaluator equals the device that starts from learned.npz."""
    out, data = folder / "out", folder / "data.npz"
    text = succeed("train", out, "--data", data, "--epochs", 2, "--lr", 0.05, "--holdout", 0.2)
    epochs = history(out)
    assert [e["epoch"] for e in epochs] == [1, 2]
    assert [e["steps"] for e in epochs] == [32, 32]
    assert epochs[1]["loss"] < epochs[0]["loss"]
    assert all(0 <= e["accuracy"] <= 1 and e["validation_loss"] > 0 for e in epochs)
    assert text.splitlines()[0].startswith(f"data       {data}: 40 samples of 64 numbers, ")
    said = [line for line in text.splitlines() if line.startswith("epoch ")]
    assert [line[:16] for line in said] == ["epoch 0/2   loss", "epoch 1/2   loss", "epoch 2/2   loss"]
    assert said[0].endswith("before training") and all("   validation loss " in line and "   accuracy " in line for line in said)
    untrained = json.loads((out / "history.json").read_text())["untrained"]
    assert untrained["epoch"] == 0 and untrained["validation_loss"] > epochs[1]["validation_loss"]
    assert "\r" not in text and "\x1b" not in text, "a progress bar where nobody looks at a terminal"
    before = succeed("infer", out, "--data", data)
    after = succeed("infer", out, "--data", data, "--learned", "-o", folder / "y.npz")
    assert "accuracy" in before and "accuracy" in after
    x = np.load(data)["x"]
    evaluator = ReferenceEvaluator(onnx.load(out / "learned.onnx"))
    expected = np.concatenate([evaluator.run(None, {"x": row[None]})[0] for row in x])
    np.testing.assert_allclose(np.load(folder / "y.npz")["y"], expected, rtol=1e-5, atol=1e-5)
    hits = float(np.mean(expected.argmax(axis=1) == np.load(data)["y"]))
    assert f"{hits:.2%}" in after


def test_learned_convolutions_go_back_in_onnx_layout(tmp_path: Path) -> None:
    model, data = save_model(tmp_path, "cnn"), save_data(tmp_path / "d.npz", count=12, shape=(1, 8, 8))
    succeed("compile", model, "-o", tmp_path / "out")
    succeed("train", tmp_path / "out", "--data", data, "--holdout", 0)
    succeed("infer", tmp_path / "out", "--data", data, "--learned", "-o", tmp_path / "y.npz")
    evaluator = ReferenceEvaluator(onnx.load(tmp_path / "out" / "learned.onnx"))
    expected = np.concatenate([evaluator.run(None, {"x": row[None]})[0] for row in np.load(data)["x"]])
    np.testing.assert_allclose(np.load(tmp_path / "y.npz")["y"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("holdout", [0.1, 0.25])
def test_resumed_training_equals_uninterrupted(folder: Path, holdout: float) -> None:
    """Velocities are part of the checkpoint, and no epoch ends between two updates: the losses are the same numbers.

    36 and 30 samples are left to train with: a whole number of fours, and not.
    """
    out, data = folder / "out", ("--data", folder / "data.npz", "--holdout", holdout, "--lr", 0.02, "--schedule", "constant")
    succeed("train", out, *data, "--epochs", 3, "--force")
    whole, weights = history(out), (out / "learned.onnx").read_bytes()
    assert {e["steps"] for e in whole} == {36 if holdout == 0.1 else 28}
    succeed("train", out, *data, "--epochs", 1, "--force")
    assert len(history(out)) == 1
    succeed("train", out, *data, "--epochs", 3, "--resume")
    assert history(out) == whole
    assert (out / "learned.onnx").read_bytes() == weights


def test_resume_without_history_begins(folder: Path) -> None:
    out = folder / "fresh"
    succeed("compile", folder / "mlp.onnx", "-o", out)
    succeed("train", out, "--data", folder / "data.npz", "--resume")
    assert len(history(out)) == 1


@pytest.mark.parametrize("loss", ["ce-soft", "mse", "bce"])
def test_losses_of_vectors(loss: str, folder: Path) -> None:
    """A training set of one sample, seen again and again, is learned; there is no accuracy to tell of."""
    out = folder / loss
    data = save_data(folder / f"{loss}.npz", vectors=10, count=1)
    succeed("compile", folder / "mlp.onnx", "--loss", loss, "-o", out)
    text = succeed("train", out, "--data", data, "--epochs", 8, "--lr", 0.05, "--holdout", 0)
    losses = [e["loss"] for e in history(out)]
    assert losses[-1] < losses[0]
    assert "accuracy" not in text
    assert "accuracy" not in succeed("infer", out, "--data", data)


def test_inference_only(folder: Path) -> None:
    out = folder / "none"
    assert "trained    0 weights in 0 layers: none" in succeed("compile", folder / "mlp.onnx", "--loss", "none", "-o", out)
    succeed("infer", out, "--data", folder / "data.npz")
    message = sentence("train", out, "--data", folder / "data.npz")
    assert f"{out} was compiled for inference only; expected a project with a loss." in message
    assert "Compile it with --loss ce" in message


def test_scheme_is_written_edited_and_used(folder: Path) -> None:
    file = folder / "scheme.toml"
    succeed("scheme", folder / "mlp.onnx", "--last", 2, "-o", file)
    assert file.read_text() == succeed("scheme", folder / "mlp.onnx", "--scheme", "last:2")
    file.write_text(file.read_text().replace("weight = true", "weight = false", 1))
    text = succeed("compile", folder / "mlp.onnx", "--scheme", file, "--no-build", "-o", folder / "edited")
    assert "trained    186 weights in 2 layers: fc2, fc3" in text
    assert trained(folder / "edited") == {"fc2": {"bias"}, "fc3": {"bias", "weight"}}


def test_verify(folder: Path) -> None:
    text = succeed("verify", folder / "mlp.onnx", "--samples", 3, "--scheme", "last:1")
    assert "fc3_weight" in text and "3 of 3 entries compared" in text and "fc1_weight" not in text
    assert "equal: limit 1e-06 against differences" in text


def test_lists() -> None:
    assert "STM32F405" in succeed("boards") and "riscv-virt" in succeed("boards")
    assert "conv2d" in succeed("ops")
    assert "arm-none-eabi-gcc" in succeed("doctor")
    assert "Compile an ONNX model" in succeed("--help")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        run("--debug", "compile", tmp_path / "nope.onnx", "-o", tmp_path / "out")
    with pytest.raises(ModelError):
        run("compile", tmp_path / "nope.onnx", "-o", tmp_path / "out", "--debug")


@pytest.mark.parametrize("board", ["host", "netduinoplus2"])
def test_ctrl_c_leaves_a_resumable_state_and_no_orphan(board: str, tmp_path: Path) -> None:
    need_tools(load_board(board))
    model, data, out = save_model(tmp_path), save_data(tmp_path / "d.npz", count=10), tmp_path / "out"
    succeed("compile", model, "--board", board, "-o", out)
    start = "from tinytrain.cli.main import main; main()"
    command = [sys.executable, "-c", start, "train", str(out), "--data", str(data), "--epochs", "100000"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        deadline = time.monotonic() + 300
        while not (out / "history.json").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert errors.endswith("tinytrain: interrupted.\n") and "Traceback" not in errors
    assert [p for p in processes() if str(out) in p] == []
    done = len(history(out))
    assert done >= 1
    assert not [p.name for p in out.iterdir() if p.name.startswith(".")], "a temporary file was left"
    succeed("train", out, "--data", data, "--epochs", done + 1, "--resume")
    assert len(history(out)) == done + 1


def processes() -> list[str]:
    """Command lines of all running processes."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            found.append((Path("/proc") / pid / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def test_bad_options_are_usage_errors(folder: Path) -> None:
    compile_ = ("compile", folder / "mlp.onnx", "--no-build", "-o", folder / "never")
    for option in ("--lr", "--momentum", "--weight-decay"):
        assert f"Invalid value for '{option}': nan is not a finite number." in sentence(*compile_, option, "nan")
    assert "is not in the range" in sentence(*compile_, "--lr", "-1")
    assert "--nesterov has no effect with momentum 0" in sentence(*compile_, "--nesterov")
    assert "--momentum is that of SGD" in sentence(*compile_, "--optimiser", "adam", "--momentum", 0.9)
    for shape in ("x", "x=", "x=1,-3", "x=1,1" + "0" * 150):
        assert f"--shape {shape}: expected INPUT=1,3,32,32." in sentence(*compile_, "--shape", shape)
    train = ("train", folder / "out", "--data", folder / "data.npz")
    for option in ("--lr", "--timeout", "--holdout"):
        assert f"Invalid value for '{option}': nan is not a finite number." in sentence(*train, option, "nan")
    assert "Invalid value for '--seed'" in sentence(*train, "--seed", "-1")
    assert not (folder / "never").exists()


def test_one_output_trains_with_bce(tmp_path: Path) -> None:
    model = save_text(
        tmp_path / "one.onnx", "one (float[1,64] x) => (float[1,1] y) { y = Gemm<transB=1>(x, w) }",
        w=np.random.default_rng(0).normal(0, 0.1, (1, 64)).astype(np.float32),
    )
    data = save_data(tmp_path / "d.npz", vectors=1)
    succeed("compile", model, "--loss", "bce", "-o", tmp_path / "out")
    succeed("train", tmp_path / "out", "--data", data, "--epochs", 4, "--lr", 0.05)
    losses = [e["loss"] for e in history(tmp_path / "out")]
    assert losses[-1] < losses[0]
