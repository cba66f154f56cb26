# SPDX-License-Identifier: Apache-2.0
"""Running the command line in tests, and the small models and data it is run on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from click.testing import CliRunner, Result
from onnx import numpy_helper, parser

from tinytrain import zoo
from tinytrain.cli.main import main


def run(*arguments: object) -> Result:
    """`tinytrain arguments...`; any exception that would show a traceback fails the test."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def succeed(*arguments: object) -> str:
    """What it prints on standard output; how far slow work is, which depends on the computer, goes to standard error."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def sentence(*arguments: object, exit_code: int = 2) -> str:
    """The message of a call that must fail: with exit code 2, or 3 where training fails."""
    result = run(*arguments)
    assert result.exit_code == exit_code, result.output
    assert "Traceback" not in result.output
    return result.stderr


def save_model(folder: Path, name: str = "mlp") -> Path:
    path = folder / f"{name}.onnx"
    onnx.save(zoo.model(name), path)
    return path


def save_text(path: Path, text: str, **arrays: np.ndarray) -> Path:
    """A model in ONNX text syntax with its initializers."""
    model = parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> ' + text)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    onnx.save(model, path)
    return path


def save_data(path: Path, *, vectors: int = 0, count: int = 40, shift: int = 0, shape: tuple[int, ...] = (64,)) -> Path:
    """Ten separable classes around seeded centres; with `vectors`, that many target values in 0 to 1 a sample in place of a label."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, count)
    x = (rng.normal(0, 1, (10, *shape))[y] + rng.normal(0, 0.5, (count, *shape))).astype(np.float32)
    soft = rng.random((count, vectors)).astype(np.float32)
    np.savez(path, x=x, y=soft if vectors else y + shift)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    """Everything in a folder, hidden files too: to tell that a refused call wrote nothing."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}
