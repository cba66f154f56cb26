# SPDX-License-Identifier: Apache-2.0
"""What the loss scale is for, and what a user sees of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runs import save_data, save_model, sentence, succeed
from ctypes_model import Library
from numpy_device import made, on_numpy
from test_loss_scale import compiled, samples

from tinytrain import zoo
from tinytrain.compiler import Compiled
from tinytrain.device.project import Project
from tinytrain.errors import DeviceError
from tinytrain.gradient.loss_scale import LossScale
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.graph import LOSS_SCALE
from tinytrain.ir.types import F16, Array
from tinytrain.ops.loss_scale import EXPONENT, PATIENCE, SKIPPED
from tinytrain.passes.halve_weights import restored
from tinytrain.schemes.scheme import Scheme, Select
from tinytrain.verify.reference import run

FAINT = np.float32(2e-4)


def faint_task(folder: Path, scale: LossScale) -> Compiled:
    """Outputs and targets of 2e-4: their gradients are too small for fp16. Behind the convolutions nothing is trained."""
    model = zoo.model("cnn")
    model.graph.node[-1].output[0] = "z"
    model.graph.node.append(onnx.helper.make_node("Mul", ["z", "faint"], ["y"], name="faint"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.full(1, FAINT, np.float32), "faint"))
    scheme = Scheme({name: {"weight": Select(), "bias": Select()} for name in ("conv1", "conv2")})
    return compiled(model, folder, loss="mse", scheme=scheme, loss_scale=scale, optimiser=Optimiser(0.03 / float(FAINT) ** 2))


def faint_samples(count: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(4)
    templates = rng.standard_normal((10, 8, 8, 1))
    labels = rng.integers(0, 10, count)
    x = templates[labels] + 0.3 * rng.standard_normal((count, 8, 8, 1))
    return x.astype(np.float32), (FAINT * np.eye(10)[labels]).astype(np.float32)


def flushed(program: Compiled, x: Array, target: Array) -> float:
    """Part of the stored gradients that are 0, of those that are not in fp32."""
    graph = program.program.entries["train"]
    wide = {v: replace(v, type=v.type.computed) for v in graph.values() if v.type.dtype is F16}
    stored = run(graph, [x, target], keep=wide).values
    exact = run(restored(graph, wide), [x, target], keep=wide.values()).values
    there = {v: exact[wide[v]] != 0 for v in wide}
    return float(sum((there[v] & (stored[v] == 0)).sum() for v in wide) / sum(mask.sum() for mask in there.values()))


def test_a_task_that_fails_at_scale_1_is_learned_with_auto(tmp_path: Path) -> None:
    x, target = faint_samples(400)
    losses: dict[str, tuple[float, float]] = {}
    for name, scale in (("one", LossScale(1.0, 0)), ("auto", LossScale())):
        (tmp_path / name).mkdir()
        program = faint_task(tmp_path / name, scale)
        lost = flushed(program, x[0], target[0])
        assert lost > 0.9 if name == "one" else lost < 0.1, (name, lost)
        device = Library(program, tmp_path / name).instance()
        history = [device.train_step(*pair) for _ in range(3) for pair in zip(x, target, strict=True)]
        losses[name] = float(np.mean(history[:100]) / FAINT**2), float(np.mean(history[-100:]) / FAINT**2)
    assert losses["one"][1] > 0.9 * losses["one"][0], losses
    assert losses["auto"][1] < 0.3 * losses["auto"][0], losses


def test_train_counts_overflow_and_says_where_it_stops(tmp_path: Path) -> None:
    model, data, out = save_model(tmp_path, "cnn"), save_data(tmp_path / "data.npz", shape=(1, 8, 8)), tmp_path / "out"
    succeed("compile", model, "-o", out, "--grad", "fp16", "--loss-scale", "auto", "--loss-scale-steps", 4)
    text = succeed("train", out, "--data", data, "--epochs", 2)
    assert "overflowed" in text and "skipped" not in text
    learned = dict(np.load(out / "learned.npz"))
    assert learned[f"state/{LOSS_SCALE}"][SKIPPED] > 0 and learned[f"state/{LOSS_SCALE}"][EXPONENT] > 10
    resumed = succeed("train", out, "--data", data, "--epochs", 3, "--resume")
    assert "epoch 3/3" in resumed


def test_a_device_that_gives_up_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On the host twin's place a NumPy device; every gradient overflows."""
    onnx.save(zoo.model("cnn"), tmp_path / "cnn.onnx")
    program = made(tmp_path / "cnn.onnx", tmp_path / "out", grad="fp16", loss="mse")
    on_numpy(monkeypatch, program)
    x, target = next(samples(program, 1))
    with Project.open(tmp_path / "out").session() as session:
        for _ in range(PATIENCE - 1):
            session.train_step(x, target + np.float32(1e15))
        with pytest.raises(DeviceError, match="infinite, or not a number, in 20 training steps in a row or more, at whatever loss"):
            session.train_step(x, target + np.float32(1e15))


def test_train_stops_where_every_step_overflows(tmp_path: Path) -> None:
    """In a sentence, as any training that diverges: also to a search. What is on disk stays as it was."""
    model, data, out = save_model(tmp_path), save_data(tmp_path / "data.npz", vectors=10), tmp_path / "out"
    succeed("compile", model, "-o", out, "--grad", "fp16", "--loss", "mse")
    given = dict(np.load(data))
    np.savez(data, x=given["x"], y=given["y"] + np.float32(1e15))
    assert f"in {PATIENCE} training steps in a row or more, at whatever loss scale; weights stay as they are." in sentence(
        "train", out, "--data", data, exit_code=3
    )
    assert not (out / "learned.npz").exists()


@pytest.mark.parametrize(("options", "message"), [
    (("--loss-scale", 3), "--loss-scale 3: expected auto, or a power of two from 2^-20 to 2^20."),
    (("--loss-scale", "nan"), "--loss-scale nan: expected auto, or a power of two from 2^-20 to 2^20."),
    (("--loss-scale", 2**21), "--loss-scale 2097152: expected auto, or a power of two from 2^-20 to 2^20."),
    (("--loss-scale", 64, "--loss-scale-steps", 9), "--loss-scale-steps has no effect with --loss-scale 64, which stays as it is"),
    (("--grad", "fp32", "--on-overflow", "step"), "--on-overflow is for gradients that are stored as fp16; expected --grad fp16"),
])
def test_options_that_do_not_fit(options: tuple[object, ...], message: str, tmp_path: Path) -> None:
    model = save_model(tmp_path)
    assert message in sentence("compile", model, "-o", tmp_path / "out", "--no-build", "--grad", "fp16", *options)


def test_a_scale_of_the_command_line(tmp_path: Path) -> None:
    model = save_model(tmp_path)
    succeed("compile", model, "-o", tmp_path / "out", "--no-build", "--grad", "fp16", "--loss-scale", 2**-20, "--on-overflow", "step")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["optimiser"]["loss_scale"] == {"start": 2**-20, "steps": 0, "on_overflow": "step"}
