# SPDX-License-Identifier: Apache-2.0
"""Rare classes count as much as frequent ones: by the samples that an epoch shows, or by the weights that the loss gives them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_runs import save_data, save_model, sentence, succeed

from tinytrain.data.dataset import Dataset
from tinytrain.errors import DataError
from tinytrain.learn.samples import order_of

Y = np.repeat(np.arange(3, dtype=np.int32), (60, 30, 7))


def samples(y: np.ndarray) -> Dataset:
    return Dataset(np.zeros((len(y), 1), np.float32), y)


def test_each_class_has_as_many_samples_in_an_epoch() -> None:
    """97 in all: 32, and one more of one class; a sample comes again only when all of its class were there."""
    seen = np.zeros(len(Y), int)
    for epoch in range(1, 4):
        order = order_of(samples(Y), 5, epoch, balanced=True)
        assert len(order) == len(Y) and sorted(np.bincount(Y[order])) == [32, 32, 33]
        times = np.bincount(order, minlength=len(Y))
        assert all(np.ptp(times[label == Y]) <= 1 for label in range(3))
        assert np.array_equal(order, order_of(samples(Y), 5, epoch, balanced=True))
        assert not np.array_equal(order, order_of(samples(Y), 5, epoch + 1, balanced=True))
        seen += times
    assert (seen[Y == 0] > 0).sum() > 33, "epochs choose among the samples of a frequent class"
    assert np.ptp(np.diff(np.flatnonzero(Y[order] == 2))) > 0, "classes do not take turns"


def test_what_has_no_classes_cannot_be_balanced(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="are no labels"):
        order_of(samples(np.zeros((4, 2), np.float32)), 0, 1, balanced=True)
    model, data = save_model(tmp_path), save_data(tmp_path / "d.npz", vectors=10)
    succeed("compile", model, "--loss", "mse", "--no-build", "-o", tmp_path / "out")
    text = sentence("train", tmp_path / "out", "--data", data, "--balanced")
    assert "--balanced balances classes, and these targets are no labels" in text
