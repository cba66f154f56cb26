# SPDX-License-Identifier: Apache-2.0
"""A device that is killed five times while it trains, and goes on from what was saved: the end is that of one that nobody killed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_runs import save_data, save_model, sentence, succeed
from fake_firmware import need_tools

from tinytrain.device.counters import Step
from tinytrain.device.process import ProcessTransport
from tinytrain.device.session import Session
from tinytrain.target.board import load_board

KILLS = (0.07, 0.33, 0.5, 0.61, 0.97)                     # parts of all steps; the third is where an epoch ends


@pytest.mark.parametrize(("samples", "epochs"), [(20, 10), pytest.param(500, 200, marks=pytest.mark.long)], ids=["200", "100000"])
def test_steps_on_the_twin(samples: int, epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Int8 weights, rounded at random, with int8 momentum: what is saved has the state of all that. Each time --resume goes on."""
    need_tools(load_board("host"))
    data, out = save_data(tmp_path / "d.npz", count=samples), tmp_path / "out"
    succeed("quantize", save_model(tmp_path), "--data", data, "-o", tmp_path / "int8.onnx")
    succeed("compile", tmp_path / "int8.onnx", "--momentum", 0.9, "--momentum-type", "int8", "-o", out)
    train = ("train", out, "--data", data, "--holdout", 0, "--lr", "0.0001", "--epochs", epochs)
    succeed(*train)
    learned, model = weights(out), (out / "learned.onnx").read_bytes()
    assert model != (out / "model.onnx").read_bytes()
    for name in ("learned.npz", "learned.onnx", "history.json"):
        (out / name).unlink()

    step, steps = Session.train_step, 0
    kills = [int(part * samples * epochs) for part in KILLS]

    def until_killed(session: Session, *sample: np.ndarray) -> Step:
        nonlocal steps
        if kills and steps == kills[0]:
            kills.pop(0)
            transport = session.link.transport
            assert isinstance(transport, ProcessTransport)
            transport.kill()
        steps += 1
        return step(session, *sample)

    monkeypatch.setattr(Session, "train_step", until_killed)
    for _ in KILLS:
        assert "has ended by itself" in sentence(*train, "--resume")
    assert f"epoch {epochs}/{epochs}" in succeed(*train, "--resume")
    assert not kills and steps > samples * epochs
    assert weights(out) == learned
    assert (out / "learned.onnx").read_bytes() == model


def weights(out: Path) -> dict[str, bytes]:
    """And the optimiser's state, but not the record, which has times."""
    with np.load(out / "learned.npz") as file:
        return {name: file[name].tobytes() for name in file.files if name != "record.json"}
