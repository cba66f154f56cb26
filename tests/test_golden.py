# SPDX-License-Identifier: Apache-2.0
"""Graphs and C of the built-in models, word for word.

After a wanted change: `make test ARGS="--update-golden -k golden"`, then read the diff.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model
from tinytrain.ir.text import graph_text

FOLDER = Path(__file__).parent / "golden"


def entries_text(compiled: Compiled) -> str:
    return "\n".join(graph_text(plan.graph) for plan in compiled.plan.entries.values())


def last_kernel(header: str) -> str:
    """The last function of a kernel header, with its comment: here the SGD step of a bias."""
    return header[header.rindex("/* ") : header.rindex("#endif")]


CASES: dict[str, tuple[str, str, Callable[[Compiled], str]]] = {
    "cnn_full.txt": ("cnn", "full", entries_text),
    "cnn_last1.txt": ("cnn", "last:1", entries_text),
    "mlp_bias.txt": ("mlp", "bias", entries_text),
    "mlp_full_c.txt": ("mlp", "full", lambda compiled: compiled.files["mlp.c"]),
    "mlp_sgd_kernel_c.txt": ("mlp", "last:1", lambda compiled: last_kernel(compiled.files["mlp_kernels.h"])),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model, scheme, view = CASES[name]
    onnx.save(zoo.model(model), tmp_path / f"{model}.onnx")
    text = view(compile_model(tmp_path / f"{model}.onnx", Options(scheme=scheme)))
    # the hash of the model file depends on how protobuf writes it
    text = "\n".join(line for line in text.splitlines() if "_model_hash" not in line) + "\n"
    if request.config.getoption("--update-golden"):
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / name).write_text(text, encoding="utf-8")
    assert text == (FOLDER / name).read_text(encoding="utf-8"), f"tests/golden/{name} differs: see the head of {__name__} to accept it"
