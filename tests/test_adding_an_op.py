# SPDX-License-Identifier: Apache-2.0
"""docs/adding-an-op.md adds an op: its blocks, in a copy of the source tree, are all that it takes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from tinytrain.paths import data_dir

# a file's name on a line of its own, and what it holds, or what is appended to it
BLOCK = re.compile(r"^`([\w./]+)`\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the page changes, beside the rest as it is; run from a wheel there are no tests beside the package."""
    tree = tmp_path_factory.mktemp("tree")
    ignored = shutil.ignore_patterns("__pycache__", "golden")
    for name in ("tinytrain", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    shutil.copytree(data_dir("codegen"), tree / "codegen")
    for name in ("runtime_c", "boards", "pyproject.toml"):
        (tree / name).symlink_to(ROOT / name)
    for name, text in BLOCK.findall((ROOT / "docs" / "adding-an-op.md").read_text(encoding="utf-8")):
        with (tree / name).open("a", encoding="utf-8") as file:
            file.write(text)
    return tree


def run(tree: Path, *args: str) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(tree), str(tree / "tests")))}
    done = subprocess.run([sys.executable, *args], cwd=tree, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_the_op_of_the_page_computes_learns_and_is_part_of_random_graphs(overlay: Path) -> None:
    files = ("tests/test_cumulate.py", "tests/test_random_onnx.py", "tests/test_architecture.py")
    said = run(overlay, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, "-k", "CumSum or cumulate or grown")
    assert re.search(r"\d+ passed", said) and "failed" not in said
    modules = ("tinytrain/ops/cumulate.py", "tinytrain/frontend/handlers_cumulate.py", *files[:1], "tests/onnx_growers_moves.py")
    run(overlay, "-m", "ruff", "check", "--no-cache", *modules)


# what tests/test_kernels.py does on the host, with the cases of the one op
KERNELS = """
import sys
from pathlib import Path

from kernel_cases import all_cases
from kernel_runs import host_results
from tinytrain.report.text import ops_text
from tinytrain.verify.checks import assert_matches

cases = [case for case in all_cases() if case.op.name == "cumulate"]
found = host_results(cases, Path(sys.argv[1]), False)
for case in cases:
    assert (case.kernel.macro == "cumulate_rows") == (case.op.inner(case.example.inputs[0].shape) > 1)
    assert_matches(case.decode(bytes.fromhex(found[str(case)])), case.want(), [t.dtype for t in case.outputs], str(case))
print(len(cases), "cases equal")
print(ops_text())
"""


def test_its_kernel_equals_the_reference_under_sanitizers(overlay: Path) -> None:
    said = run(overlay, "-c", KERNELS, str(overlay))
    assert re.match(r"\d{2} cases equal\n", said)
    assert "\ncumulate " in said and "\nCumSum " in said
