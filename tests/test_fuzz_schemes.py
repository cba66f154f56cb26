# SPDX-License-Identifier: Apache-2.0
"""Damaged scheme files: a scheme that fits the model, or one sentence; never a traceback, a hang or much memory."""

from __future__ import annotations

import math
import random
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from cli_runs import save_model, sentence, tree
from mutations import BYTES, swapped

from tinytrain.compiler import Options, load_forward
from tinytrain.errors import SchemeError
from tinytrain.ir.graph import Graph
from tinytrain.schemes.choose import choose
from tinytrain.schemes.scheme import Scheme, load

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHORT, LONG = 250, 3000
SECONDS, BYTES_MOST = 20.0, 200_000_000
VALID = b"""# a scheme
preset = "last:2"

[layers."conv2"]
weight = { out = [3, 4, 5] }
bias = true
rate = 0.5

[layers."fc"]
weight = "0:12"
bias = false

[layers."conv1"]
weight = 0.25
"""
TOKENS = swapped([
    b"true", b"false", b"0.25", b'"0:12"', b"[3, 4, 5]", b"{ out = [3, 4, 5] }", b"0.5", b"1", b"0", b"-1", b"1e39", b"1e-50", b"nan",
    b"inf", b"2024-01-01", b"07:32:00", b'"0:60000000"', b'"5:2"', b'"\xef\xbc\x90:3"', b"[0, 0]", b"[true]", b"[3, 1]", b"[1, [2]]", b"[]",
    b"[1e3]", b"{ in = 0.5 }", b"{ in = { in = 1 } }", b"{}", b"[[[[[[[[", b"0xffffffffffffffffffff", b"9" * 5000, b'"""', b"'''", b'"',
    b"\\", b"\\u0007", b"\x07", b"\x7f", b"\xff", b"\xef\xbb\xbf", b"=", b".", b"[", b"]", b"weight", b"bias", b"rate", b"gamma", b"layers",
    b"preset", b"conv2", b"fc", b'"last:2"', b"\n", b"\r", b"#",
])


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return load_forward(save_model(tmp_path_factory.mktemp("model"), "cnn"), Options())[2]


def check(found: Scheme, text: str, graph: Graph) -> None:
    """All that the file says and nothing else; it fits the model, and is written and read back the same. Raises SchemeError."""
    said = tomllib.loads(text.removeprefix("\ufeff"))
    assert list(found.layers) == list(said.get("layers", {}))
    for name, kinds in found.layers.items():
        given = {kind: value for kind, value in said["layers"][name].items() if kind != "rate" and value is not False}
        assert set(kinds) == {kind for kind, value in given.items() if value != {"in": False} and value != {"out": False}}
        assert found.rates.get(name) == said["layers"][name].get("rate")
    assert all(math.isfinite(rate) for rate in found.rates.values())
    _, trained = choose(found, graph)
    assert len(trained) == sum(map(len, found.layers.values()))
    again = tomllib.loads(found.to_toml())
    assert again.get("preset", "") == found.preset
    assert list(again.get("layers", {})) == list(found.layers)


def cases(count: int, folder: Path, graph: Graph) -> int:
    """Reads `count` damaged files and chooses by them; the number that fitted."""
    path = folder / "s.toml"
    fitted = 0
    for seed in range(count):
        rng = random.Random(f"scheme {seed}")
        damaged = VALID
        for _ in range(rng.randint(1, 2)):
            damaged = (TOKENS if rng.random() < 0.6 or not damaged else rng.choice(BYTES))(damaged, rng)
        path.write_bytes(damaged)
        began = time.monotonic()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        where = str(path)                                 # what the sentence must name
        try:
            found = load(path)
            where = "layer "
            check(found, damaged.decode("utf-8"), graph)
            fitted += 1
        except SchemeError as error:
            assert len(error.sentences) == 1 and error.hint, (seed, error)
            assert error.sentences[0].isprintable() and error.sentences[0].endswith(".") and len(error.sentences[0]) < 2000, (seed, error)
            assert where in error.sentences[0], (seed, error)
        assert time.monotonic() - began < SECONDS, seed
        assert tracemalloc.get_traced_memory()[1] - before < BYTES_MOST, seed
    return fitted


@pytest.fixture(autouse=True)
def traced() -> object:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_damaged_schemes(graph: Graph, tmp_path: Path) -> None:
    assert 0 < cases(SHORT, tmp_path, graph) < SHORT


@pytest.mark.long
def test_many_damaged_schemes(graph: Graph, tmp_path: Path) -> None:
    assert 0 < cases(LONG, tmp_path, graph) < LONG


def test_the_valid_one_is_valid(graph: Graph, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_bytes(VALID)
    check(load(tmp_path / "s.toml"), VALID.decode(), graph)


@pytest.mark.parametrize("old", [b"true", b'"0:12"', b"0.5", b"fc", b"[3, 4, 5]"])
def test_through_the_command_line(old: bytes, tmp_path: Path) -> None:
    model = save_model(tmp_path, "cnn")
    (tmp_path / "s.toml").write_bytes(VALID.replace(old, b"2024-01-01", 1))
    before = tree(tmp_path)
    sentence("compile", model, "--scheme", tmp_path / "s.toml", "--no-build", "-o", tmp_path / "out")
    assert tree(tmp_path) == before
