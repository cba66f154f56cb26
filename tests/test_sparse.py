# SPDX-License-Identifier: Apache-2.0
"""The benchmark of found schemes: its sums, and that docs/results.md shows its results."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the benchmark's tasks need scikit-learn")

ROOT = Path(__file__).resolve().parent.parent
BENCHMARK = ROOT / "benchmarks" / "sparse.py"
RESULTS = ROOT / "benchmarks" / "results" / "sparse.json"


def shown(path: Path) -> str:
    command = [sys.executable, str(BENCHMARK), "--show", "--results", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(task: str, method: str, budget: float, *accuracies: float, scheme: str = "weight") -> list[dict[str, Any]]:
    return [
        {
            "task": task, "budget": budget, "budget_bytes": 100, "method": method, "scheme": scheme, "rate": 0.1, "seed": seed,
            "accuracy": accuracy, "ram_bytes": 90, "backward_macs": 1, "command": "",
        }
        for seed, accuracy in enumerate(accuracies)
    ]


def test_margins_are_means_over_tasks_and_budgets(tmp_path: Path) -> None:
    made = [
        *rows("mnist", "full", 1.0, 0.9, 0.92), *rows("mnist", "found", 0.2, 0.8, 0.9), *rows("mnist", "last", 0.2, 0.7, 0.8),
        *rows("mnist", "found", 0.35, 0.9, 0.9, scheme="weight of more"), *rows("mnist", "last", 0.35, 0.88, 0.88),
        *rows("mnist", "random", 0.2, 0.84),
        *rows("har", "full", 1.0, 0.9, 0.9), *rows("har", "found", 0.2, 0.89, 0.91), *rows("har", "last", 0.2, 0.92, 0.92),
        *rows("har", "found", 0.35, 0.89, 0.91), *rows("har", "last", 0.35, 0.7, 0.7),
    ]
    (tmp_path / "rows.json").write_text(json.dumps(made))
    text = shown(tmp_path / "rows.json")
    assert "found − last   +3.33   mnist +6.00, har -2.00" in text, "of +10, +2 and −2; what har found for 35 % is what it has for 20 %"
    assert "found − random +1.00   mnist +1.00" in text and "found − bias" not in text
    assert "found        20%            90    85.00 ± 7.07    80.0    -6.00" in text


def test_results_are_kept_by_all_that_they_were_made_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The network, samples, epochs and options; and the scheme."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    sparse, dataset = importlib.import_module("sparse"), importlib.import_module("tinytrain.data.dataset").Dataset

    def given(weights: bytes = b"w", x: float = 0.0, epochs: int = 2) -> str:
        (tmp_path / "m.onnx").write_bytes(weights)
        data = dataset(np.full((2, 3), x, np.float32), np.zeros(2, np.int32))
        samples = SimpleNamespace(learn=data, validate=data, held=data)
        return str(sparse.given(SimpleNamespace(
            name="t", epochs=epochs, samples=lambda: samples, model=lambda folder: tmp_path / "m.onnx"), tmp_path))

    made = [given(), given(b"v"), given(x=1.0), given(epochs=3)]
    monkeypatch.setattr(sparse, "MOMENTUM", 0.0)
    made.append(given())
    assert len(set(made)) == 5 and made[-1] == given()
    runs = [sparse.Run("t", each, scheme, (1.0,), (0,)) for each in made for scheme in ("a", "b")]
    assert len({run.key for run in runs}) == len({run.folder for run in runs}) == len(runs)


def test_what_trains_no_weight_counts_in_no_mean(tmp_path: Path) -> None:
    made = [
        *rows("mnist", "full", 1.0, 0.9, 0.9), *rows("mnist", "found", 0.2, 0.8, 0.8), *rows("mnist", "last", 0.2, 0.1, 0.1, scheme="bias"),
        *rows("mnist", "found", 0.35, 0.9, 0.9, scheme="weight of more"), *rows("mnist", "last", 0.35, 0.88, 0.88),
    ]
    (tmp_path / "rows.json").write_text(json.dumps(made))
    text = shown(tmp_path / "rows.json")
    assert "10.0   -80.00   no weight" in text and "found − last   +2.00   mnist +2.00" in text


def test_schemes_by_chance_are_those_that_were_drawn_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    sparse = importlib.import_module("sparse")
    names = ("chance 10", "child 0", "last:auto, chance 2", "chance 7", "chance 1")
    chosen = sparse.by_chance([SimpleNamespace(name=name) for name in names])
    assert [one.name for one in chosen] == ["chance 1", "last:auto, chance 2", "chance 7"]


def test_one_figure_is_no_mean(tmp_path: Path) -> None:
    made = [*rows("mnist", "full", 1.0, 0.9), *rows("mnist", "found", 0.2, 0.8), *rows("mnist", "last", 0.2, 0.7)]
    (tmp_path / "rows.json").write_text(json.dumps(made))
    text = shown(tmp_path / "rows.json")
    assert "\nin points\n" in text and "mean over" not in text


def test_the_page_shows_the_results() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    missing = [line for line in shown(RESULTS).splitlines() if line not in page]
    assert not missing, f"run `python benchmarks/sparse.py --show` and paste it: {missing}"
