# SPDX-License-Identifier: Apache-2.0
"""Accumulated gradients: the same sample N times is one step with that sample, whatever the optimiser; then the sums start anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Array

ADAM, MOMENTUM = {"kind": "adam"}, {"momentum": 0.9, "nesterov": True}


def learned(optimiser: Optimiser, folder: Path) -> dict[str, Array]:
    """What the host twin stores after two updates with one sample each."""
    (folder / "mlp.onnx").write_bytes(zoo.model("mlp").SerializeToString())
    compiled: Compiled = compile_model(folder / "mlp.onnx", Options(optimiser=optimiser))
    write(compiled, folder / "project", force=True)
    samples = np.random.default_rng(0).standard_normal((2, 64)).astype(np.float32)
    with Project.open(folder / "project").session() as session:
        for x in samples:
            for _ in range(optimiser.accumulate):
                session.train_step(x, np.int32(3))
        return session.get_params()


@pytest.mark.parametrize("rule", [{}, MOMENTUM, ADAM, {**ADAM, "bias_factor": 0.5, "weight_decay": 0.01}], ids=str)
def test_accumulating_one_sample_is_a_step_with_it(rule: dict[str, float], tmp_path: Path) -> None:
    single = learned(Optimiser(0.01, **rule), tmp_path)  # type: ignore[arg-type]
    summed = learned(Optimiser(0.01, accumulate=4, **rule), tmp_path)  # type: ignore[arg-type]
    for name, array in single.items():
        np.testing.assert_allclose(summed[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
    sums = [array for name, array in summed.items() if name.startswith("sum_")]
    assert len(sums) == 6 and not any(array.any() for array in sums)
