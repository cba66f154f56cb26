# SPDX-License-Identifier: Apache-2.0
"""Sums of products of halves on Helium, in their form in C, whose bits are those of the board: as good as the halves they are made of."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from kernel_cases import HERE, WARNINGS
from kernel_runs import compile_c

from tinytrain.ir.types import Array
from tinytrain.paths import data_dir

BOUND = 2 * 2.0**-11                                      # of the largest magnitude
SEEDS = 8
LENGTHS = (1, 3, 9, 16, 27, 32, 64, 100, 144, 288, 576, 1024, 4096)
TILES = {"direct": (3, 8), "direct_double": (3, 16), "rows_of_eight": (3, 16), "outer_double": (3, 16), "outer_words": (6, 8)}
KINDS = ("either sign", "one sign", "rectified", "normal")


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    library = tmp_path_factory.mktemp("sums") / "half_sums.so"
    includes = f"-I{data_dir('runtime_c')}"
    compile_c(["gcc", *WARNINGS, "-O2", "-shared", "-fPIC", includes, str(HERE / "half_sums.c"), "-o", str(library), "-lm"])
    return ctypes.CDLL(str(library))


def drawn(generator: np.random.Generator, kind: str, *shape: int) -> Array:
    """Of one sign chains grow the fastest; rectified maps have few products that are large."""
    if kind in ("rectified", "normal"):
        made = generator.normal(size=shape)
        return np.asarray((np.maximum(made, 0) if kind == "rectified" and shape[0] in (3, 6) else made).astype(np.float16))
    return np.asarray(generator.uniform(0.0 if kind == "one sign" else -1.0, 1.0, shape).astype(np.float16))


def worst(sums: ctypes.CDLL, tile: str, count: int, least: int, kind: str, generator: np.random.Generator) -> float:
    """The largest error of at least so many results of one kernel, over the largest magnitude among them."""
    across, along = TILES[tile]
    tiles = -(-least // (across * along))
    gap = largest = 0.0
    for _ in range(tiles):
        a, b = drawn(generator, kind, across, count), drawn(generator, kind, count, along)
        got, want = np.zeros((across, along), np.float32), a.astype(np.float64) @ b.astype(np.float64)
        passed = np.ascontiguousarray(a.T) if tile.startswith("outer") else a
        getattr(sums, tile)(*(ctypes.c_void_p(array.ctypes.data) for array in (got, passed, b)), count, tiles * got.size)
        stored = got.astype(np.float16).astype(np.float64)
        gap, largest = max(gap, float(np.abs(stored - want).max())), max(largest, float(np.abs(want).max()))
    return gap / largest if largest else gap


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tile", TILES)
def test_sums_are_near_those_in_float64(sums: ctypes.CDLL, tile: str, kind: str) -> None:
    """Rounded to halves, of all lengths up to 4,096, whether a kernel has one tile of results or many."""
    wrong = []
    for least, seeds in ((1, SEEDS), (64, SEEDS), (256, SEEDS), (2048, 3)):
        for count in LENGTHS:
            for seed in range(seeds):
                found = worst(sums, tile, count, least, kind, np.random.default_rng(seed))
                if found > BOUND:
                    wrong.append(f"{least} results of {count} products, seed {seed}: {found * 2**11:.2f} · 2^-11 of the largest")
    assert not wrong, "\n".join(wrong)


def test_sums_in_halves_alone_are_not() -> None:
    """Without fp32 sums between the chains, the same products miss the bound by far."""
    generator = np.random.default_rng(11)
    a, b = drawn(generator, "one sign", 64, 1024), drawn(generator, "one sign", 64, 1024)
    total = np.zeros(64, np.float16)
    for step in range(1024):
        total = (total.astype(np.float64) + a[:, step].astype(np.float64) * b[:, step].astype(np.float64)).astype(np.float16)
    want = (a.astype(np.float64) * b.astype(np.float64)).sum(axis=1)
    assert np.abs(total - want).max() > 4 * BOUND * np.abs(want).max()
