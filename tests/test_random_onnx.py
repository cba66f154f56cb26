# SPDX-License-Identifier: Apache-2.0
"""Random ONNX graphs of every op that `tinytrain ops` lists: they compute what onnxruntime does, or are refused in words."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import onnx_growers_elements  # noqa: F401
import onnx_growers_layers  # noqa: F401
import onnx_growers_moves  # noqa: F401
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_net import GROWERS, Net, Unfit

from tinytrain.errors import TinytrainError
from tinytrain.frontend.onnx_import import Imported, import_model
from tinytrain.frontend.prepare import prepare
from tinytrain.frontend.supported import supported
from tinytrain.ir.pack import packed
from tinytrain.verify.reference import run

pytest.importorskip("onnxruntime")
QUANTISED = {name for name, (_, integer) in supported().items() if integer and "Linear" in name} | {"com.microsoft.QGemm"}


@st.composite
def nets(draw: st.DrawFn, op: str = "") -> Net:
    """A few nodes, one of them `op` if one is named."""
    net = Net(draw, op)
    before, after = draw(st.integers(0, 3)), draw(st.integers(0, 2 if op else 8))
    for name in (*(draw(ANY) for _ in range(before)), op, *(draw(ANY) for _ in range(after))):
        if name:
            grow(net, name)
    if not net.nodes or len(net.values) == len(net.inputs):
        net.add("Relu", net.inputs[0])
    net.finish()
    return net


ANY = st.sampled_from(sorted(GROWERS))


def grow(net: Net, op: str) -> None:
    """Where it does not fit, it is tried again with other operands."""
    for _ in range(3):
        with suppress(Unfit):
            GROWERS[op](net, op)
            return


def computed(imported: Imported, samples: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Every output, in ONNX layout."""
    given = []
    for port in imported.inputs:
        x = samples[port.name]
        bare = x.reshape(x.shape[1:]) if len(port.perm) < x.ndim else x
        given.append(np.ascontiguousarray(bare.transpose(port.perm)).reshape(port.type.shape))
    whole = given[0] if len(given) == 1 else packed(given, [port.type.dtype for port in imported.inputs])
    found = []
    for port, made in zip(imported.outputs, run(imported.graph, [whole]).outputs, strict=True):
        shape = port.onnx_shape
        bare = shape[len(shape) - len(port.perm) :]
        found.append(made.reshape([bare[a] for a in port.perm]).transpose(np.argsort(port.perm).astype(int)).reshape(shape))
    return found


def outcome(net: Net) -> str:
    """"" where it is right, or why it was refused."""
    names = {n.name: n.op_type for n in net.model.graph.node}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(net.model, path)
        try:
            imported = import_model(prepare(path))
        except TinytrainError as error:
            said = error.sentences[0]
            assert "is damaged or of another kind" not in said, str(error)
            assert any(said.startswith(f"{name} ({op}) in ") for name, op in names.items()), f"names no node: {error}"
            return str(error)
    for name, got in zip(net.outputs, computed(imported, {name: net.array(name) for name in net.inputs}), strict=True):
        want = net.array(name)
        assert got.shape == want.shape, f"{name}: {got.shape}, not {want.shape}"
        np.testing.assert_allclose(got, want, rtol=0, atol=net.tolerance(name), err_msg=name)
    return ""


def test_every_op_is_grown() -> None:
    assert set(GROWERS) == set(supported()) - QUANTISED, "an op without a grower"


def tried(op: str, count: int) -> None:
    @given(nets(op))
    @settings(max_examples=count)
    def graphs(net: Net) -> None:
        outcome(net)

    graphs()


@pytest.mark.parametrize("op", sorted(GROWERS))
def test_graphs_of_an_op(op: str) -> None:
    tried(op, 3)


@pytest.mark.long
@pytest.mark.parametrize("op", sorted(GROWERS))
def test_many_graphs_of_an_op(op: str) -> None:
    tried(op, 40)


def test_graphs_of_all_ops() -> None:
    """Most are taken: who refuses everything makes no mistakes."""
    refused: list[str] = []
    seen: set[str] = set()

    @given(nets())
    @settings(max_examples=120)
    def graphs(net: Net) -> None:
        refused.append(outcome(net))
        if not refused[-1]:
            seen.update(n.op_type for n in net.nodes)

    graphs()
    assert sum(map(bool, refused)) <= 0.4 * len(refused), Counter(refused)
    assert len(seen) >= len(GROWERS) / 2
