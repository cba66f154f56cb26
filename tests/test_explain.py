# SPDX-License-Identifier: Apache-2.0
"""Why a model was compiled as it was, what it computes, and what two projects differ in."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runs import run, save_model, save_text, sentence, succeed

from tinytrain.answers.explain import explained
from tinytrain.answers.graph import GRADIENT, graph_files
from tinytrain.compiler import Compiled, Options, compile_model


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    model = save_model(tmp_path_factory.mktemp("models"), "cnn")
    return compile_model(model, Options(board="netduinoplus2", scheme="last:2"))


def section(text: str, title: str) -> dict[str, str]:
    """First words of a section's lines → the lines."""
    found = next(part for part in text.split("\n\n") if part.startswith(title)).splitlines()[1:]
    return {line.split()[0]: line for line in found}


def test_each_decision_has_its_reason(compiled: Compiled) -> None:
    text = explained(compiled)
    assert "computes add, relu as it stores" in section(text, "model")["conv1"]
    trained = section(text, "trained")
    assert "frozen: not in last:2; it lies before all that is trained" in trained["conv1.weight"]
    assert trained["fc.bias"].endswith("trained: in last:2")
    train = compiled.plan.entries["train"]
    kernels = section(text, "kernels of train")
    assert len(kernels) == len(train.graph.nodes)
    assert "no code" in kernels["2"] and "not depthwise_channel vfp: x has 8 channels, which must be one" in kernels["1"]
    assert "mve" not in "".join(kernels.values())         # the board has none, which goes without saying
    memory = section(text, "memory of train")
    assert "14,960 to 17,008  nodes 0 to 9" in memory["b"] and "at the peak, 19,104 B" in memory["b"]
    assert f"  nodes 4 to {len(train.graph.nodes) - 1}  " in memory["loss"]
    assert "kept from step to step" in memory["fc_weight"]


def test_batch_norms_are_folded_or_say_why_not(tmp_path: Path) -> None:
    text = (
        "norms (float[1, 2, 4, 4] x) => (float[1, 2] y) <float[2, 2, 1, 1] w, float[2] a, float[2] b, float[2] c, float[2] d> {"
        " n = BatchNormalization(x, a, b, c, d) h = Conv(n, w) m = BatchNormalization(h, a, b, c, d)"
        " r = Relu(m) k = BatchNormalization(r, a, b, c, d) p = GlobalAveragePool(k) y = Flatten(p) }"
    )
    ones = np.ones(2, np.float32)
    model = save_text(tmp_path / "norms.onnx", text, w=np.ones((2, 2, 1, 1), np.float32), a=ones, b=ones, c=ones, d=ones)
    became = section(explained(compile_model(model, Options())), "model")
    assert "kept: it scales an input of the model" in became["BatchNormalization_0"]
    assert "folded into Conv_1" in became["BatchNormalization_2"]
    assert "kept: Relu_3 (Relu), before it, has no weights to fold it into" in became["BatchNormalization_4"]
    kept = section(explained(compile_model(model, Options(fold_batchnorm=False))), "model")
    assert "kept: it was asked for" in kept["BatchNormalization_2"]


def test_what_is_left_out_says_why(tmp_path: Path) -> None:
    text = (
        "left (float[1, 4] x) => (float[1, 3] y) <float[4, 3] w, float[4, 3] v>"
        " { i = Identity(x) dead = Relu(x) s = Add(w, v) y = MatMul(i, s) }"
    )
    model = save_text(tmp_path / "left.onnx", text, w=np.ones((4, 3), np.float32), v=np.ones((4, 3), np.float32))
    became = section(explained(compile_model(model, Options())), "model")
    assert "computed when compiling" in became["Add_2"]
    assert all("dropped: it changes nothing, or nothing reads what it gives" in became[name] for name in ("Identity_0", "Relu_1"))


def test_the_graph_is_onnx_that_viewers_read(compiled: Compiled) -> None:
    files = graph_files(compiled)
    assert set(files) == {"graph/train.onnx", "graph/train.txt"}
    model = onnx.load_from_string(files["graph/train.onnx"])
    onnx.checker.check_model(model)
    train = compiled.plan.entries["train"].graph
    assert [node.op_type for node in model.graph.node] == [node.op.name for node in train.nodes]
    domains = [node.domain for node in model.graph.node]
    assert domains == sorted(domains) and domains.count(GRADIENT) == 8
    assert model.graph.output[0].name == "loss" and len(model.graph.output) == 1 + len(train.updates)
    assert model.graph.node[1].doc_string.startswith("kernel conv2d: ")
    assert files["graph/train.txt"].decode().startswith("graph train(")


def test_options_of_compile(tmp_path: Path) -> None:
    """Written into the project, and known to its manifest."""
    text = succeed("compile", save_model(tmp_path), "-o", tmp_path / "out", "--no-build", "--explain", "--emit-graph")
    assert "\nmemory of train\n" in text
    assert (tmp_path / "out" / "graph" / "train.onnx").is_file()
    assert "are the same: " in succeed("diff", tmp_path / "out", tmp_path / "out")


def test_projects_that_differ(tmp_path: Path) -> None:
    model = save_model(tmp_path)
    for name, scheme in (("a", "full"), ("b", "last:1")):
        succeed("compile", model, "-o", tmp_path / name, "--no-build", "--scheme", scheme)
    result = run("diff", tmp_path / "a", tmp_path / "b")
    assert result.exit_code == 1
    rows = {line.split()[0]: line for line in result.output.splitlines()}
    assert "  -" in rows["memory.arena_bytes"] and rows["fc1_weight"].split()[1:] == ["trained", "32×64", "not", "trained"]
    assert "lines gone" in rows["lib/mlp.c"] and "lib/tt_math.h" not in rows
    assert "is not a compiled project" in sentence("diff", tmp_path / "a", tmp_path)


def test_files_that_were_changed_by_hand(tmp_path: Path) -> None:
    """The manifest still has the hash that each was written with."""
    projects = [tmp_path / "a", tmp_path / "b"]
    succeed("compile", save_model(tmp_path), "-o", projects[0], "--no-build")
    shutil.copytree(*projects)
    changed = projects[1] / "lib" / "mlp.c"
    text = changed.read_text()
    for new, said in ((f"{text}int more;\n", "0 lines gone, 1 new"), (text.replace("\n", "\r\n"), "other ends of lines")):
        changed.write_bytes(new.encode())
        assert said in run("diff", "--trust", *projects).output
    changed.unlink()
    assert "mlp.c: cannot be read" in sentence("diff", "--trust", *projects)
