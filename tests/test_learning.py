# SPDX-License-Identifier: Apache-2.0
"""The learning benchmark in its smallest form: rows are written as they finish, and a second run measures only what is missing."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tinytrain.compiler import Options
from tinytrain.gradient.update import Optimiser

pytest.importorskip("sklearn", reason="needs scikit-learn for its handwritten digits")

BENCHMARK = Path(__file__).resolve().parent.parent / "benchmarks" / "int8_learning.py"
KEYS = {"task", "method", "rounding", "seed", "accuracy", "ram_bytes", "command"}


def run(folder: Path, *more: str) -> str:
    command = [sys.executable, str(BENCHMARK), "--task", "digits", "--epochs", "1", *more]
    command += ["--results", str(folder / "rows.json"), "--out", str(folder / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False, env={**os.environ, "COLUMNS": "120"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rows_are_measured_once(tmp_path: Path) -> None:
    run(tmp_path, "--method", "int8_qas", "--rounding", "stochastic", "--seed", "0")
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert (row["method"], row["rounding"]) == ("int8_qas", "stochastic") and set(row) == KEYS
    assert 0.5 < row["accuracy"] <= 1                      # after the change of the world it was about 0.1
    (tmp_path / "rows.json").write_text(json.dumps([{**row, "accuracy": 0.123}]))
    text = run(tmp_path, "--method", "fp32", "--method", "int8_qas", "--rounding", "none", "--rounding", "stochastic", "--seed", "0")
    assert "1 of 2 rows" in text
    again = json.loads((tmp_path / "rows.json").read_text())
    assert [other["method"] for other in again] == ["fp32", "int8_qas"]
    assert again[1] == {**row, "accuracy": 0.123}
    assert set(again[0]) == KEYS and 0.5 < again[0]["accuracy"] <= 1
    assert row["ram_bytes"] < again[0]["ram_bytes"]


@pytest.fixture
def learning(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARK.parent))
    return importlib.import_module("int8_learning")


def test_table_says_the_spread_over_seeds(learning: Any, tmp_path: Path) -> None:
    rows = [learning.Row("digits", "fp32", "none", seed, accuracy, 100, "") for seed, accuracy in ((1, 0.9), (0, 0.8))]
    assert "85.00 ± 7.07" in learning.table(rows)
    learning.save(tmp_path / "rows.json", rows)
    assert [row["seed"] for row in json.loads((tmp_path / "rows.json").read_text())] == [0, 1]


def test_every_method_is_one_that_the_tool_has(learning: Any) -> None:
    for method in learning.METHODS:
        optimiser, options = Optimiser(0.1, **method.optimiser), Options(**method.options)
        assert optimiser.learning_rate == 0.1 and options.board == "host", method.name
