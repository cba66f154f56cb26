# SPDX-License-Identifier: Apache-2.0
"""What skl2onnx writes of small models compiles, gives scikit-learn's probabilities, and learns."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ctypes_model import Library, assert_learns_as_reference

from tinytrain.compiler import Options, compile_model
from tinytrain.gradient.update import Optimiser

pytest.importorskip("sklearn", reason="needs the extra exporters")
skl2onnx = pytest.importorskip("skl2onnx", reason="needs the extra exporters")
from sklearn.linear_model import LinearRegression, LogisticRegression  # noqa: E402
from sklearn.neural_network import MLPClassifier, MLPRegressor  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import MinMaxScaler, StandardScaler  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 6)).astype(np.float32)
KINDS = X[:, :3].argmax(1)
TWO = (X[:, 0] > X[:, 1]).astype(int)

MODELS: dict[str, tuple[Callable[[], Any], np.ndarray]] = {
    "perceptron": (lambda: MLPClassifier((8,), max_iter=20, random_state=0), KINDS),
    "perceptron-of-two": (lambda: MLPClassifier((8,), max_iter=20, random_state=0), TWO),
    "logistic": (LogisticRegression, KINDS), "logistic-of-two": (LogisticRegression, TWO),
    "names": (lambda: LogisticRegression(), np.array(["ant", "bee", "cat"])[KINDS]),
    "scaled": (lambda: make_pipeline(StandardScaler(), MLPClassifier((8,), activation="tanh", max_iter=20, random_state=0)), KINDS),
    "regressor": (lambda: MLPRegressor(hidden_layer_sizes=(8,), max_iter=20, random_state=0), X[:, :2]),
    "scaled-linear": (lambda: make_pipeline(MinMaxScaler(), LinearRegression()), X[:, 0]),
}


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("zipped", [False, True], ids=["row", "by-name"])
@pytest.mark.parametrize("name", MODELS)
def test_learns(name: str, zipped: bool, opset: int, tmp_path: Path) -> None:
    make, wanted = MODELS[name]
    model = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                   # stopped before it has converged
        model.fit(X, wanted)
    classifies = hasattr(model, "classes_")
    options = {id(model): {"zipmap": zipped}} if classifies else None
    made = skl2onnx.to_onnx(model, X[:1], options=options, target_opset={"": opset, "ai.onnx.ml": 3})
    (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
    chosen = Options(loss="ce" if classifies else "mse", optimiser=Optimiser(0.01), exact_seconds=0.0)
    compiled = compile_model(tmp_path / "model.onnx", chosen)
    assert len(compiled.imported.outputs) == 1 and all(one.decided for one in compiled.frozen)
    library = Library(compiled, tmp_path)
    device = library.instance()
    given = np.array([device.infer(x) for x in X[:10]])
    expected = (model.predict_proba if classifies else model.predict)(X[:10].astype(np.float64))
    np.testing.assert_allclose(given, expected.reshape(given.shape), rtol=1e-4, atol=1e-5)
    assert_learns_as_reference(library)
    targets = np.unique(wanted, return_inverse=True)[1].astype(np.int32) if classifies else np.asarray(wanted, np.float32)
    losses = [np.mean([device.train_step(x, y.reshape(-1)) for x, y in zip(X, targets, strict=True)]) for _ in range(4)]
    assert losses[-1] < losses[0]
