# SPDX-License-Identifier: Apache-2.0
"""ONNX's own test cases (`onnx.backend.test`) against the generated C on the host twin: passed, refused, or wrong.

    python benchmarks/conformance.py                  every case, result in benchmarks/results/conformance.json
    python benchmarks/conformance.py reduce softmax   only those with such a word in their name; nothing is written

How a case becomes a model of ours: of its inputs the first of floats stays an input, as the others are mostly weights, axes, shapes, and
become initializers; where its first axis is not a batch of 1, the input is (1, N) and a Reshape restores it, so that the case keeps its
size. Every output is compared, by the tolerances of the case. A refusal is no pass; an exception that is no refusal, or a result that
differs without a word, is a fault of tinytrain. A case that a firmware cannot be is refused here: of strings, of sequences, or without any
input of float32.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tinytrain.compiler import Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.errors import TinytrainError
from tinytrain.ir.types import Array
from tinytrain.jobs import Jobs

RESULT = Path(__file__).resolve().parent / "results" / "conformance.json"
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
TIMEOUT = 60.0
SHOWN = 12                                                # reasons of refusals in the summary


@dataclass(frozen=True, eq=False)
class Case:
    """A test of onnx: a model, what it is given and what is right."""

    kind: str
    name: str
    model: onnx.ModelProto
    inputs: list[Any]
    outputs: list[Any]
    rtol: float
    atol: float

    @property
    def op(self) -> str:
        """What it tests: the op of its one node, or the name without what is appended where it is a function written out."""
        nodes = self.model.graph.node
        if self.kind == "node" and len(nodes) > 1:
            return self.name.removeprefix("test_").split("_expanded")[0].split("_")[0]
        return str(nodes[0].op_type) if self.kind == "node" else self.kind


class NoModel(Exception):
    """Why a case is nothing that a firmware could be."""


@cache
def cases() -> dict[str, Case]:
    """All of them by kind/name. Those of nodes are made by the onnx package; the others it carries as files."""
    from onnx.backend.test.case.node import collect_testcases
    from onnx.backend.test.loader import load_model_tests

    found: list[Case] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for test in collect_testcases(None):              # type: ignore[arg-type]
            for given, want in test.data_sets[:1]:
                found.append(Case("node", test.name, test.model, list(given), list(want), test.rtol, test.atol))
    for kind in KINDS[1:]:
        for test in load_model_tests(kind=kind):
            folder = Path(test.model_dir)
            model = onnx.load(folder / "model.onnx")
            read = [[_stored(path) for path in sorted((folder / "test_data_set_0").glob(f"{what}_*.pb"), key=_number)]
                    for what in ("input", "output")]
            found.append(Case(kind, test.name, model, *read, test.rtol, test.atol))
    return {f"{case.kind}/{case.name}": case for case in found}


def _number(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def _stored(path: Path) -> Any:
    """The array of a file; None of what is none."""
    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
        return numpy_helper.to_array(tensor)
    except Exception:                                     # sequences and maps are other messages
        return None


def adapted(case: Case) -> tuple[onnx.ModelProto, Array]:
    """The case as a model with one input, and a sample for it. Raises NoModel."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    stored = {t.name for t in graph.initializer}
    entries = [value for value in graph.input if value.name not in stored]
    if any(value.type.WhichOneof("value") != "tensor_type" for value in (*entries, *graph.output)):
        raise NoModel("has sequences or optional tensors")
    arrays = [np.asarray(array) for array in case.inputs]
    if len(arrays) != len(entries) or any(a.dtype.kind not in "fiub" for a in arrays):
        raise NoModel("has inputs that are no numbers")
    first = next((i for i, a in enumerate(arrays) if a.dtype == np.float32 and a.size), None)
    if first is None:
        raise NoModel("has no input of float32")
    for i, (value, array) in enumerate(zip(entries, arrays, strict=True)):
        if i != first:
            graph.initializer.append(numpy_helper.from_array(array, value.name))
    entry, sample = entries[first], arrays[first]
    kept = onnx.ValueInfoProto()
    kept.CopyFrom(helper.make_tensor_value_info(entry.name, onnx.TensorProto.FLOAT, sample.shape))
    if not sample.shape or sample.shape[0] != 1:
        shape, given = f"{entry.name}_shape", f"{entry.name}_given"
        graph.initializer.append(numpy_helper.from_array(np.array(sample.shape, np.int64), shape))
        graph.node.insert(0, helper.make_node("Reshape", [given, shape], [entry.name], f"{entry.name}_reshape"))
        kept.CopyFrom(helper.make_tensor_value_info(given, onnx.TensorProto.FLOAT, (1, sample.size)))
        sample = sample.reshape(1, -1)
    del graph.input[:]
    graph.input.append(kept)
    return model, sample


def run(key: str) -> dict[str, str]:
    """{"result": passed, refused or wrong, "why": what was said or found}."""
    case = cases()[key]
    try:
        model, sample = adapted(case)
    except NoModel as why:
        return {"result": "refused", "why": f"it {why}"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.onnx"
        path.write_bytes(model.SerializeToString())
        try:
            found, notes = _computed(path, sample)
        except TinytrainError as refusal:
            if "is damaged or of another kind" in str(refusal):
                return {"result": "wrong", "why": f"it takes a fault of its own for one of the file: {refusal.sentences[0]}"}
            return {"result": "refused", "why": refusal.sentences[0].replace(f" in {path}", "").replace(str(path), "the model")}
        except Exception as error:                        # a fault of ours, which is what is looked for
            return {"result": "wrong", "why": f"{type(error).__name__}: {error}"[:300]}
    for name, got, want in zip((o.name for o in model.graph.output), found, case.outputs, strict=True):
        if why := _difference(got, np.asarray(want), case):
            return {"result": "refused", "why": f"it says: {notes[0]}"} if notes else {"result": "wrong", "why": f"{name} {why}"}
    return {"result": "passed", "why": ""}


def _computed(path: Path, sample: Array) -> tuple[list[Array], tuple[str, ...]]:
    """Outputs of the host twin, in ONNX layout and flat; and what the compiler says that the device does not do as the file says."""
    compiled = compile_model(path, Options(loss=None, fold_batchnorm=False, exact_seconds=0.0))
    write(compiled, path.parent / "out")
    project = Project.open(path.parent / "out")
    port = project.manifest.input
    with project.session(timeout=TIMEOUT) as session:
        x = sample.reshape(port.onnx_shape)[0] if len(port.perm) < len(port.onnx_shape) else sample.reshape(port.onnx_shape)
        numbers = session.infer(np.ascontiguousarray(x.transpose(port.perm)))
    found = [part.reshape(-1) for part in project.manifest.output.apart(numbers[None])]
    return found, compiled.imported.notes[len(compiled.prepared.notes) :]


def _difference(got: Array, want: Array, case: Case) -> str:
    """How the two differ; "" where they are as near as the case asks."""
    if got.size != want.size:
        return f"has {got.size} elements, not {want.size}"
    want = want.reshape(-1).astype(np.float64)
    close = np.isclose(got.astype(np.float64), want, case.rtol, case.atol, equal_nan=True)
    at = int(np.argmin(close)) if close.size else 0
    return "" if close.all() else f"is {got[at]:.9g} at {at}, not {want[at]:.9g}; {int((~close).sum())} of {want.size} differ"


def summary(results: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Counts by kind and by op."""
    found = cases()
    kinds = {kind: Counter(r["result"] for key, r in results.items() if found[key].kind == kind) for kind in KINDS}
    ops: dict[str, Counter[str]] = {}
    for key, r in results.items():
        ops.setdefault(found[key].op, Counter())[r["result"]] += 1
    return {
        "onnx": onnx.__version__,
        "kinds": {kind: dict(sorted(count.items())) for kind, count in kinds.items() if count},
        "ops": {op: dict(sorted(count.items())) for op, count in sorted(ops.items())},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="ONNX's own test cases against the host twin.")
    parser.add_argument("words", nargs="*", help="only cases with one of these in their name")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("-v", "--verbose", action="store_true", help="a line for each case")
    given = parser.parse_args()
    keys = [key for key, case in cases().items() if (not given.words or any(word in key for word in given.words))
            and (not given.kind or case.kind in given.kind)]
    results: dict[str, dict[str, str]] = {}
    for done, (key, result) in enumerate(Jobs(processes=given.jobs).run(run, keys, str), start=1):
        results[key] = result
        if given.verbose or result["result"] == "wrong":
            print(f"{result['result']:8} {key} {result['why']}", flush=True)
        elif done % 100 == 0:
            print(f"{done:,} of {len(keys):,} cases", file=sys.stderr, flush=True)
    told = summary(results)
    for kind, count in told["kinds"].items():
        print(f"{kind:18} {'   '.join(f'{count.get(what, 0):5,} {what}' for what in ('passed', 'refused', 'wrong'))}")
    if not given.words and not given.kind:
        refused = {key: r for key, r in sorted(results.items()) if r["result"] != "passed"}
        RESULT.write_text(json.dumps({**told, "not passed": refused}, indent=1) + "\n", encoding="utf-8")
        print(f"written to {RESULT}")
    return 1 if any(r["result"] == "wrong" for r in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
