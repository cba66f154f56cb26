# SPDX-License-Identifier: Apache-2.0
"""The same input gives the same bytes, wherever and whenever; and a manifest says what the input was."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli_runs import save_data, save_model, succeed, tree

from tinytrain import zoo
from tinytrain.compiler import Options, compile_model, describe, load_forward
from tinytrain.origins import origin
from tinytrain.schemes.scheme import preset


def manifest(project: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((project / "manifest.json").read_text())
    return made


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("options", [("--scheme", "last:1", "--emit-graph"), ("--dtype", "fp16", "--momentum", "0.9")], ids=str)
def test_the_same_bytes_in_any_folder(options: tuple[str, ...], tmp_path: Path) -> None:
    """By two programs that hash differently, from two places, into two others."""
    made = []
    for seed in ("1", "2"):
        folder = tmp_path / seed / "in"
        folder.mkdir(parents=True)
        model = save_model(folder, "cnn")
        out = tmp_path / seed / "out"
        given = model.name if seed == "1" else str(model)
        done = subprocess.run(
            [sys.executable, "-m", "tinytrain", "compile", given, "--board", "netduinoplus2", "--no-build", "-o", str(out), *options],
            cwd=folder, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert done.returncode == 0, done.stderr
        made.append(tree(out))
    assert made[0] == made[1]


def test_a_manifest_names_every_input(tmp_path: Path) -> None:
    model, scheme, data = save_model(tmp_path, "cnn"), tmp_path / "scheme.toml", save_data(tmp_path / "data.npz", shape=(1, 8, 8))
    precision = tmp_path / "precision.toml"
    precision.write_text('[layers]\nfc = "fp32"\n')
    succeed("scheme", "write", model, "--last", 2, "-o", scheme)
    options = ("--scheme", scheme, "--dtype", "fp16", "--precision", precision, "--data", data)
    succeed("compile", model, *options, "-o", tmp_path / "out", "--no-build")
    said = manifest(tmp_path / "out")
    assert [(one["kind"], one["name"]) for one in said["inputs"]] == [
        ("model", "cnn.onnx"), ("precision", "precision.toml"), ("calibration", "data.npz"), ("scheme", "scheme.toml"),
    ]
    assert all(one["sha256"] == sha256(tmp_path / one["name"]) for one in said["inputs"])
    assert said["versions"]["numpy"] == np.__version__ and said["versions"]["onnx"] == onnx.__version__
    assert said["licence"]["code"] == "Apache-2.0"
    assert (tmp_path / "out" / "LICENSE").read_text().lstrip().startswith("Apache License")
    assert "## Licence" in (tmp_path / "out" / "README.md").read_text()


def test_an_input_has_the_hash_that_it_had_when_it_was_read(tmp_path: Path) -> None:
    scheme = tmp_path / "own.toml"
    scheme.write_text(preset("last:1", load_forward(save_model(tmp_path), Options())[2]).to_toml())
    compiled, before = compile_model(tmp_path / "mlp.onnx", Options(scheme=str(scheme))), sha256(scheme)
    scheme.write_text("changed since")
    assert {"kind": "scheme", "name": "own.toml", "sha256": before} in describe(compiled)["inputs"]


def test_data_beside_a_model_are_inputs_too(tmp_path: Path) -> None:
    onnx.save(zoo.model("mlp"), tmp_path / "mlp.onnx", save_as_external_data=True, location="mlp.bin", size_threshold=0)
    succeed("compile", tmp_path / "mlp.onnx", "-o", tmp_path / "out", "--no-build")
    assert [(one["name"], one["sha256"]) for one in manifest(tmp_path / "out")["inputs"]] == [
        (name, sha256(tmp_path / name)) for name in ("mlp.onnx", "mlp.bin")
    ]


def test_a_folder_has_one_hash(tmp_path: Path) -> None:
    for name in ("a/one", "b/one"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.png").write_bytes(b"1")
    first = origin("calibration", tmp_path / "a" / "one")
    assert first == origin("calibration", tmp_path / "b" / "one")
    (tmp_path / "b" / "one" / "1.png").rename(tmp_path / "b" / "one" / "2.png")
    assert first != origin("calibration", tmp_path / "b" / "one")
