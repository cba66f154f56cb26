# SPDX-License-Identifier: Apache-2.0
"""Metrics against scikit-learn, and what is said of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tinytrain.report import metrics
from tinytrain.report.metrics_text import metric_lines, said_lines

RNG = np.random.default_rng(0)


def test_classes_are_those_of_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    labels, outputs = RNG.integers(0, 4, 200), RNG.normal(size=(200, 5)).astype(np.float32)
    found = metrics.classes(outputs, labels, ("a", "b", "c", "d", "e"))
    said = outputs.argmax(axis=1)
    np.testing.assert_array_equal(found.confusion, sklearn.confusion_matrix(labels, said, labels=range(5)))
    precision, recall, f1, _ = sklearn.precision_recall_fscore_support(labels, said, labels=range(5), zero_division=np.nan)
    np.testing.assert_allclose(found.precision, precision)
    np.testing.assert_allclose(found.recall, recall)
    np.testing.assert_allclose(found.f1, f1)
    assert found.accuracy == pytest.approx(sklearn.accuracy_score(labels, said))
    assert np.isnan(found.recall[4])                      # no sample of it


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_is_that_of_scikit_learn(ties: bool) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    positive, scores = RNG.random(300) < 0.2, RNG.normal(size=300)
    scores = np.round(scores, 0 if ties else 9) + positive
    assert metrics.area(scores, positive) == pytest.approx(sklearn.roc_auc_score(positive, scores), abs=1e-12)
    assert metrics.area(scores, np.ones(300, bool)) is None


def test_numbers_are_those_of_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    targets, outputs = RNG.normal(size=(50, 3)), RNG.normal(size=(50, 3))
    found = metrics.errors(outputs, targets)
    np.testing.assert_allclose(found.mse, sklearn.mean_squared_error(targets, outputs, multioutput="raw_values"))
    np.testing.assert_allclose(found.mae, sklearn.mean_absolute_error(targets, outputs, multioutput="raw_values"))
    np.testing.assert_allclose(found.r2, sklearn.r2_score(targets, outputs, multioutput="raw_values"))
    assert np.isnan(metrics.errors(outputs, np.ones((50, 3))).r2).all()


def test_a_threshold_lies_above_the_part_of_normal_samples_that_was_asked_for() -> None:
    samples = np.zeros((200, 4))
    errors = np.concatenate([np.linspace(0.01, 1, 100), np.linspace(0.9, 3, 100)])
    odd = np.arange(200) >= 100
    found = metrics.reconstruction(np.sqrt(errors)[:, None].repeat(4, 1), samples, odd, percentile=95)
    np.testing.assert_allclose(found.errors, errors)
    assert found.threshold == pytest.approx(0.96) and found.alarms == pytest.approx(0.04)
    assert found.found == np.mean(errors[odd] > found.threshold) and found.auc is not None and found.auc > 0.99
    assert metrics.reconstruction(samples + 2, samples, threshold=1.5).threshold == 1.5
    alone = metrics.reconstruction(samples + 2, samples)
    assert alone.auc is None and alone.found is None and alone.alarms is None


def test_yes_or_no() -> None:
    targets = np.array([[0, 1], [1, 1], [0, 0]])
    logits = metrics.binary(np.array([[-1, 2], [-0.5, 0.1], [-3, 1]]), targets)
    np.testing.assert_array_equal(logits.confusion, [[2, 1], [1, 2]])
    assert logits.threshold == 0 and logits.accuracy == pytest.approx(4 / 6)
    assert metrics.binary(np.array([[0.2, 0.9], [0.4, 0.6], [0.1, 0.7]]), targets).threshold == 0.5
    assert metrics.binary(np.array([[0.2, 0.9], [0.4, 0.6], [0.1, 0.7]]), targets, 0.3).confusion[1, 1] == 3


CASES = {
    "classes": (metrics.classes(np.eye(3)[[0, 1, 1, 2]], np.array([0, 1, 0, 0]), ("cat", "dog")), [
        "accuracy   50.00% of 4 samples",
        "  class  samples  precision  recall  F1",
        "  cat    3        100.0%     33.3%   50.0%",
        "  dog    1        50.0%      100.0%  66.7%",
        "  2      0        0.0%       -       0.0%",
        "  true class, taken for  cat  dog  2",
        "  cat                    1    1    1",
        "  dog                    0    1    0",
        "  2                      0    0    0",
    ]),
    "many classes": (metrics.classes(np.eye(30)[[5, 5, 7]], np.array([7, 7, 7])), "taken      7 for 5 2 times"),
    "binary": (metrics.binary(np.array([[-1.0], [2], [3]]), np.array([[0], [1], [0]])), [
        "accuracy   66.67% of 3 outputs, which say yes above 0",
        "yes        1 of 1 found (recall 100.0%), precision 50.0%",
        "no         1 of 2 found, 1 taken for yes",
        "AUC        0.5000",
    ]),
    "numbers": (metrics.errors(np.array([[1.0], [3.0]]), np.array([[1.0], [1.0]])), ["errors     MSE 2, MAE 1, RMSE 1.41421"]),
    "given back": (metrics.reconstruction(np.array([[1.0], [2], [3]]), np.zeros((3, 1)), np.array([False, False, True])), [
        "errors     MSE 4.66667 between samples and what the model gives back of them, 1 to 9",
        "threshold  4: 99 % of the 2 normal samples do not exceed it",
        "found      100.00% of 1 samples that are not normal lie above it",
        "alarms     0.00% of 2 normal samples lie above it",
        "AUC        1.0000",
    ]),
    "given back by nobody knows whom": (metrics.reconstruction(np.ones((3, 1)), np.zeros((3, 1))), [
        "errors     MSE 1 between samples and what the model gives back of them, 1 to 1",
        "threshold  1: 99 % of the 3 samples do not exceed it: suggested, where all of them are normal",
    ]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_said(case: str) -> None:
    metric, expected = CASES[case]
    lines = metric_lines(metric)
    assert expected in lines if isinstance(expected, str) else lines == expected
    json.dumps(metric.plain(), allow_nan=False)


def test_what_is_said_without_targets() -> None:
    assert said_lines(np.eye(3)[[0, 2, 2]], ("a", "b", "c")) == ["said       a 1, c 2"]
    assert said_lines(np.array([[1.0], [2.0]]), ()) == ["outputs    1 to 2, mean 1.5"]
