# SPDX-License-Identifier: Apache-2.0
"""Networks of benchmarks/models: trained, they are those of the reference, and bit for bit the same on boards as on their twins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_runs import save_text
from test_benchmarks import load
from test_traces import need

from tinytrain.compiler import Options, compile_model
from tinytrain.emit.golden import first_sample
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.graph import Program
from tinytrain.ir.types import Array, Role

BENCH = load("models_train")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "models.md"
QUICK = [("gru", "mps2-an500", "full"), ("cnn_1d", "mps3-an547", "full")]
LONG = [pytest.param(key, marks=pytest.mark.long) for key in BENCH.ALL if key not in QUICK]


@pytest.mark.parametrize("key", [*QUICK, *LONG], ids="-".join)
def test_model_trains_as_the_reference_does(key: tuple[str, str, str]) -> None:
    need(key[1])
    (row,) = BENCH.rows([key], 2)
    assert row.right, BENCH.text(row)
    assert row.scheme == row.asked


def test_result_has_every_row_and_its_table_is_in_the_documentation() -> None:
    rows = [BENCH.Row(**row) for row in json.loads(BENCH.RESULTS.read_text())]
    assert [row.key for row in rows] == BENCH.ALL
    assert all(row.right for row in rows)
    table = "\n".join(map(BENCH.text, rows))
    assert f"\n```\n{table}\n```\n" in PAGE.read_text(encoding="utf-8"), "run `make bench-models ARGS=--keep` and paste it"


def layer(folder: Path, bias: Array) -> Program:
    """A ReLU on each of as many sums of the sample as there are biases."""
    text = "bent (float[1,4] x) => (float[1,3] y) { h = Gemm<transB=1>(x, w, b) r = Relu(h) y = Gemm<transB=1>(r, v, c) }"
    rng = np.random.default_rng(0)
    w, v = (rng.normal(0, 1, shape).astype(np.float32) for shape in ((len(bias), 4), (3, len(bias))))
    model = save_text(folder / "bent.onnx", text, w=w, b=bias, v=v, c=np.zeros(3, np.float32))
    return compile_model(model, Options(optimiser=Optimiser(0.1))).program


def test_samples_at_a_bend_are_left_out(tmp_path: Path) -> None:
    """Biases that bring every sum of the first sample to 0: which ReLUs are open is then a matter of rounding."""
    program = layer(tmp_path, np.zeros(8, np.float32))
    x, _ = first_sample(program)
    np.testing.assert_array_equal(BENCH.settled(program, 1).x[0], x)
    w = next(v.data for v in program.stored(Role.PARAM) if v.shape == (8, 4))
    assert w is not None
    bent = layer(tmp_path, -w @ x.reshape(-1))
    np.testing.assert_array_equal(BENCH.settled(bent, 1).x[0], first_sample(bent, 1)[0])


@pytest.mark.parametrize("wrong", [1.001, 0.999, np.nan])
def test_a_wrong_update_is_seen(wrong: float, tmp_path: Path) -> None:
    steps = BENCH.settled(layer(tmp_path, np.zeros(8, np.float32)), 2)
    made = steps.reference
    assert steps.apart(made) == 0
    for name, before in steps.before.items():
        after = made.parameters[name].copy()
        at = np.unravel_index(abs(after - before).argmax(), after.shape)
        after[at] = before[at] + wrong * (after[at] - before[at])
        assert not steps.apart(replace(made, parameters={**made.parameters, name: after})) <= BENCH.TOLERANCE
    assert not steps.apart(replace(made, losses=made.losses * np.float32(wrong))) <= BENCH.TOLERANCE
