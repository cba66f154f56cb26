# SPDX-License-Identifier: Apache-2.0
"""Methods of learning other than back-propagation: what the C does equals the reference, and what does not fit is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from ctypes_model import Library, assert_learns_as_reference

from tinytrain import zoo
from tinytrain.compiler import Options, compile_model
from tinytrain.errors import ModelError, TinytrainError
from tinytrain.gradient.methods import method
from tinytrain.ir.types import Role


@pytest.fixture
def cnn(tmp_path: Path) -> Path:
    onnx.save(zoo.model("cnn"), path := tmp_path / "cnn.onnx")
    return path


@pytest.mark.parametrize("name", ["local", "local:2", "local:3"])
def test_learns_as_the_reference(name: str, cnn: Path, tmp_path: Path) -> None:
    assert_learns_as_reference(Library(compile_model(cnn, Options(method=name)), tmp_path))


def test_infers_and_evaluates_as_the_model(cnn: Path) -> None:
    """What a method adds is only for learning."""
    plain, local = (compile_model(cnn, Options(method=name)).program.entries for name in ("backprop", "local"))
    for entry in ("infer", "evaluate"):
        assert [node.op for node in local[entry].nodes] == [node.op for node in plain[entry].nodes]


def test_added_parameters_are_marked_and_small(cnn: Path) -> None:
    added = [v for v in compile_model(cnn, Options(method="local:2")).program.stored(Role.PARAM) if v.source and v.source.auxiliary]
    assert [v.shape for v in added] == [(10, 8), (10,)]
    assert added[0].data is not None and 0.1 < np.std(added[0].data) < 1


def test_what_does_not_fit_is_said(cnn: Path) -> None:
    with pytest.raises(ModelError, match="cut in 3 blocks"):
        compile_model(cnn, Options(method="local:9"))
    with pytest.raises(ModelError, match="cut nowhere"):
        compile_model(cnn, Options(method="local", scheme="head"))
    for text, why in (("magic", "no such method"), ("local:1", "expected a number of blocks"), ("backprop:2", "takes no argument")):
        with pytest.raises(TinytrainError, match=why):
            method(text)
