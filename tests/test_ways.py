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
        "task": "har", "method": "full", "seed": 0, "rate": 0.1, "accuracy": 0.9, "old": 0.5, "before": 0.2, "ram_bytes": 1000,
        "temporary_bytes": 400, "step_instructions": 10**6, "steps": 2000, "command": "", **given,
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


def test_the_page_shows_the_results(bench: ModuleType) -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    missing = [line for line in shown(bench, bench.RESULTS).splitlines() if line not in page]
    assert not missing, f"run `python benchmarks/methods.py --show` and paste it: {missing}"
