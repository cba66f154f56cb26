# SPDX-License-Identifier: Apache-2.0
"""Damaged and hostile models: each is refused in one sentence, or compiles and computes what ONNX does.

They are tried in a process of their own with bounds on memory, which says what it is about to do: a crash of a library is a failed test.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import signal
import traceback
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from frontend_models import infer
from model_mutations import MODELS, damaged
from onnx.reference import ReferenceEvaluator
from oracle_session import session_of

from tinytrain.compiler import Compiled, Options, compile_model
from tinytrain.errors import TinytrainError
from tinytrain.frontend.onnx_import import Imported

SECONDS = 20                                              # for one model
BYTES = 2 * 2**30                                         # more than the process has before
LARGEST = 1e4                                             # numbers beyond are not compared: sums of fp32 lose what the others are


class TooSlow(BaseException):
    """Not to be taken for an error of the file."""


def try_models(first: int, count: int, folder: Path) -> None:
    """Compile damaged models; a line in folder/log before each, and one after it that says how it ended."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
    signal.signal(signal.SIGALRM, _too_slow)
    with (folder / "log").open("w", buffering=1) as log:
        for seed, name in product(range(first, first + count), MODELS):
            print(json.dumps([f"{name} {seed}", "began"]), file=log)
            signal.alarm(SECONDS)
            outcome = _outcome(damaged(name, seed), folder / f"{name}.onnx", "mse" if seed % 4 == 0 else None)
            signal.alarm(0)
            print(json.dumps([f"{name} {seed}", outcome]), file=log)


def _too_slow(*_: object) -> None:
    raise TooSlow


def _outcome(content: bytes, path: Path, loss: str | None) -> str:
    """"right", "refused", or what is wrong."""
    path.write_bytes(content)
    try:
        compiled = compile_model(path, Options(loss=loss, exact_seconds=0))
    except TinytrainError as error:
        return _fault(error, path) or "refused"
    except TooSlow:
        return f"more than {SECONDS} s"
    except BaseException:
        return traceback.format_exc()
    try:
        return _compared(compiled, content)
    except AssertionError as error:
        return f"computes something else: {error}"
    except BaseException:
        return traceback.format_exc()


def _fault(error: TinytrainError, path: Path) -> str:
    """What is wrong with a refusal."""
    text = str(error)
    if isinstance(error.__cause__, MemoryError):
        return f"out of memory: {text}"
    lines = text.splitlines()                             # a sentence, what to try, and maybe what else is refused
    if len(lines) < 2 or not all(line.isprintable() and len(line) < 2000 for line in lines):
        return f"no sentence with a hint: {text!r}"
    if not error.sentences[0].endswith("."):
        return f"no sentence: {text!r}"
    return "" if path.name in text or path.stem in text else f"does not name the file: {text!r}"


def _compared(compiled: Compiled, content: bytes) -> str:
    """Whether the import computes what onnxruntime or the evaluator of onnx makes of the file."""
    imported, model = compiled.imported, onnx.load_from_string(content)
    if any(np.abs(v.data).max(initial=0) > LARGEST for v in imported.graph.values() if v.data is not None and v.data.dtype == np.float32):
        return "right"
    sample = np.random.default_rng(5).normal(size=imported.input.onnx_shape).astype(np.float32)
    want = _truth(model, sample)
    if want is None or not np.isfinite(want).all():
        return "right"
    got = infer(imported, sample)
    assert got.shape == want.shape, f"{got.shape}, not {want.shape}"
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=_tolerance(imported, want))
    return "right"


def _tolerance(imported: Imported, want: np.ndarray) -> float:
    """Integers may differ by a step or two: of each layer, and what follows from it."""
    scales = [v.type.quant.scale[0] for n in imported.graph.nodes for v in n.outputs if v.type.quant and v.type.dtype.np == np.int8]
    return 1e-4 * float(np.abs(want).max(initial=1)) + 2.01 * (scales[-1] if scales else 0)


def _truth(model: onnx.ModelProto, sample: np.ndarray) -> np.ndarray | None:
    stored = {t.name for t in model.graph.initializer}
    name = next(i.name for i in model.graph.input if i.name not in stored)
    # onnxruntime's quantised operators saturate on some CPUs
    quantised = any("Linear" in n.op_type for n in model.graph.node)
    for run in (_evaluator,) if quantised else (_onnxruntime, _evaluator):
        try:
            return np.asarray(run(model, {name: sample}), np.float32)
        except Exception:
            continue
    return None


def _onnxruntime(model: onnx.ModelProto, given: dict[str, np.ndarray]) -> Any:
    return session_of(model).run(None, given)[0]


def _evaluator(model: onnx.ModelProto, given: dict[str, np.ndarray]) -> Any:
    return ReferenceEvaluator(model).run(None, given)[0]


def tried(first: int, count: int, folder: Path) -> None:
    """`count` files of each model; fails with all that went wrong."""
    process = multiprocessing.get_context("spawn").Process(target=try_models, args=(first, count, folder))
    process.start()
    process.join()
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    outcomes: dict[str, str] = dict(lines)
    wrong = {case: outcome for case, outcome in outcomes.items() if outcome not in ("right", "refused")}
    assert process.exitcode == 0, f"the process ended with {process.exitcode} at {lines[-1]}"
    assert not wrong, "\n".join(f"{case}: {outcome}" for case, outcome in wrong.items())
    assert len(outcomes) == count * len(MODELS)
    assert {"right", "refused"} <= set(outcomes.values())


def test_damaged_models(tmp_path: Path) -> None:
    tried(0, 60, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("first", range(1000, 1500, 100))
def test_many_damaged_models(first: int, tmp_path: Path) -> None:
    tried(first, 100, tmp_path)
