# SPDX-License-Identifier: Apache-2.0
"""The benchmark of all methods of learning: its lines are those of the tool, its sums, and that docs/results.md shows its results."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from test_benchmarks import load

import tinytrain
from tinytrain import zoo
from tinytrain.data.dataset import Dataset
from tinytrain.gradient.methods import METHODS

pytest.importorskip("sklearn", reason="the benchmark's tasks need scikit-learn")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return load("methods")


@pytest.fixture
def place(bench: ModuleType, tmp_path: Path) -> Any:
    """The scikit-learn digits' network, and samples that nobody learned."""
    onnx.save(zoo.model("cnn"), tmp_path / "cnn.onnx")
    rng = np.random.default_rng(0)
    samples = Dataset(rng.normal(size=(20, 1, 8, 8)).astype(np.float32), np.arange(20, dtype=np.int32) % 10)
    return bench.Place(tmp_path / "cnn.onnx", samples, 0.01, tmp_path, 1)


def test_every_method_of_the_tool_has_a_line(bench: ModuleType) -> None:
    named = {way.choices.get("method", "backprop").partition(":")[0] for way in bench.WAYS}
    assert named == set(METHODS)
    assert len({way.name for way in bench.WAYS}) == len(bench.WAYS)


def test_schemes_that_fill_a_budget_stay_in_it(bench: ModuleType, place: Any) -> None:
    trained = {}
    for name in ("last:auto", "spread:auto", "random"):
        scheme = bench.way_of(name).scheme(place)
        room = tinytrain.load(place.model).compile(bench.BOARD, scheme=scheme).compiled.room
        assert room is not None and room.ram_bytes <= place.budget_bytes
        trained[name] = scheme.layers
    other = bench.Place(place.model, place.samples, place.rate, place.folder, 2)
    assert bench.way_of("random").scheme(other).layers != trained["random"], "a seed has a scheme of its own"


def test_head_and_biases(bench: ModuleType, place: Any) -> None:
    layers = bench.way_of("head + biases").scheme(place).layers
    assert [sorted(kinds) for kinds in layers.values()] == [["bias"], ["bias"], ["bias", "weight"]]


def row(**given: Any) -> dict[str, Any]:
    return {
        "task": "har", "method": "full", "seed": 0, "rate": 0.1, "failed": False, "accuracy": 0.9, "old": 0.5, "before": 0.2,
        "ram_bytes": 1000, "temporary_bytes": 400, "step_instructions": 10**6, "steps": 2000, "scheme": "", "command": "", **given,
    }


def shown(bench: ModuleType, results: Path) -> str:
    done = CliRunner().invoke(bench.main, ["--show", "--results", str(results)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_sums(bench: ModuleType, tmp_path: Path) -> None:
    rows = [
        row(), row(seed=1, accuracy=0.8), row(method="head", ram_bytes=500, accuracy=0.7, old=0.6),
        row(task="digits", accuracy=0.6), row(task="digits", method="head", accuracy=0.7, ram_bytes=700),
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    lines = [line.split() for line in shown(bench, tmp_path / "rows.json").splitlines()]
    assert ["full", "85.0", "±", "7.1", "80.0", "50.0", "1,000", "400", "2.00", "G"] in lines
    assert ["head", "(2", "tasks)", "-2.5", "+5.0", "60%", "-15.0"] in lines


def test_a_failed_training_lowers_the_mean_and_is_said(bench: ModuleType, tmp_path: Path) -> None:
    """The old world that it has not left, and steps that nobody counted, flatter nobody."""
    rows = [row(), row(seed=1, failed=True, accuracy=0.2, old=0.9, steps=0), row(task="digits", failed=True, accuracy=0.1, steps=0)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    lines = [line.split() for line in shown(bench, tmp_path / "rows.json").splitlines()]
    assert ["full", "55.0", "±", "49.5", "20.0", "50.0", "1,000", "400", "2.00", "G", "1", "of", "2", "failed"] in lines
    assert ["full", "10.0", "±", "0.0", "10.0", "50.0", "1,000", "400", "0.00", "G", "1", "of", "1", "failed"] in lines


def test_a_failed_candidate_wins_no_rate(bench: ModuleType) -> None:
    good, bad = {"failed": False, "accuracy": 0.3, "loss": 2.0}, {"failed": True, "accuracy": 0.9, "loss": 0.1}
    assert max(good, bad, key=bench.rank) is good
    worse = {**bad, "accuracy": 0.2}
    assert max(worse, bad, key=bench.rank) is bad, "where all failed"


def test_a_training_that_fails_is_a_row(bench: ModuleType, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it really took."""
    monkeypatch.setattr(bench.tasks, "start", lambda *_: bench.tasks.Start(place.model, place.model, 0.1, 0.1))
    found = bench.learn(place.folder, bench.Run("digits", "full", 100.0, 0, True))
    assert found["failed"] and found["steps"] >= 360, found
    assert 'layers."fc"' in found["scheme"]


def test_of_several_schemes_the_dearest_counts(bench: ModuleType, place: Any) -> None:
    costs = {
        name: bench.costs(tinytrain.load(place.model).compile(bench.BOARD, **bench.way_of(name).choices), bench.way_of(name))
        for name in ("full", "green")
    }
    assert costs["green"]["temporary_bytes"] == costs["full"]["temporary_bytes"]
    assert costs["green"]["step_instructions"] > costs["full"]["step_instructions"]


def test_one_scheme_is_one_row_and_a_rate_at_the_edge_has_a_mark(bench: ModuleType, tmp_path: Path) -> None:
    same = {"task": "digits", "scheme": "a", "rate": bench.RATES["digits"]}
    edge = row(task="digits", method="head", rate=bench.way_of("head").rate("digits") * bench.CANDIDATES[-1])
    rows = [row(task="digits"), row(**same, method="last:auto"), row(**same, method="spread:auto"), edge]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    lines = [line.split("  ")[0] for line in shown(bench, tmp_path / "rows.json").splitlines()]
    assert {"full", "last:auto, spread:auto", "head *", "last:auto (digits)"} <= set(lines)
    assert not {"spread:auto", "spread:auto (digits)"} & set(lines)


def test_the_page_shows_the_results(bench: ModuleType) -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    missing = [line for line in shown(bench, bench.RESULTS).splitlines() if line not in page]
    assert not missing, f"run `python benchmarks/methods.py --show` and paste it: {missing}"
