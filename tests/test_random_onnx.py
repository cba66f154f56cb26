# SPDX-License-Identifier: Apache-2.0
"""Random ONNX graphs of every op that `tinytrain ops` lists: they compute what onnxruntime does, or are refused in words."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_growers_elements  # noqa: F401
import onnx_growers_layers  # noqa: F401
import onnx_growers_moves  # noqa: F401
import pytest
from ctypes_model import Library, built
from hypothesis import Phase, settings
from hypothesis import given as drawn
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from onnx_net import GROWERS, Net, Unfit

from tinytrain.compiler import Compiled, Options, compile_model, load_model
from tinytrain.errors import TinytrainError
from tinytrain.frontend.onnx_import import Imported, import_model
from tinytrain.frontend.prepare import prepare
from tinytrain.frontend.supported import supported
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.pack import packed
from tinytrain.ir.types import Role
from tinytrain.verify.reference import ReferenceModel, run

pytest.importorskip("onnxruntime")
QUANTISED = {name for name, (_, integer) in supported().items() if integer and "Linear" in name} | {"com.microsoft.QGemm"}


@st.composite
def nets(draw: st.DrawFn, op: str = "", first: str = "") -> Net:
    """A few nodes, one of them `op` if one is named, the first of them `first`."""
    net = Net(draw, op)
    before, after = draw(st.integers(0, 3)), draw(st.integers(0, 2 if op else 8))
    for name in (first, *(draw(ANY) for _ in range(before)), op, *(draw(ANY) for _ in range(after))):
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


def given(imported: Imported, samples: dict[str, np.ndarray]) -> np.ndarray:
    """What the device is given for these inputs in ONNX layout."""
    arrays = []
    for port in imported.inputs:
        x = samples[port.name]
        bare = x.reshape(x.shape[1:]) if len(port.perm) < x.ndim else x
        arrays.append(np.ascontiguousarray(bare.transpose(port.perm)).reshape(port.type.shape))
    return packed(arrays, [port.type.dtype for port in imported.inputs]).reshape(imported.graph.inputs[0].shape)


def computed(imported: Imported, samples: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Every output, in ONNX layout."""
    found = []
    for port, made in zip(imported.outputs, run(imported.graph, [given(imported, samples)]).outputs, strict=True):
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
    for name, got in zip(net.outputs, computed(imported, net.samples), strict=True):
        want = net.array(name)
        assert got.shape == want.shape, f"{name}: {got.shape}, not {want.shape}"
        np.testing.assert_allclose(got, want, rtol=0, atol=net.tolerance(name), err_msg=name)
    return ""


def test_every_op_is_grown() -> None:
    assert set(GROWERS) == set(supported()) - QUANTISED, "an op without a grower"


def tried(op: str, count: int) -> None:
    @drawn(nets(op))
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

    @drawn(nets())
    @settings(max_examples=120)
    def graphs(net: Net) -> None:
        refused.append(outcome(net))
        if not refused[-1]:
            seen.update(n.op_type for n in net.nodes)

    graphs()
    assert sum(map(bool, refused)) <= 0.4 * len(refused), Counter(refused)
    assert len(seen) >= len(GROWERS) / 2


def test_generated_c_of_random_graphs(tmp_path: Path) -> None:
    """In one library: each infers and, where something can be learned, learns as the reference does, or says what has no gradient."""
    made: list[tuple[Net, Compiled]] = []
    trained, refused = 0, 0

    @drawn(st.sampled_from(sorted(GROWERS)).flatmap(lambda op: nets(op, "Gemm")))
    @settings(max_examples=32, phases=[Phase.generate])  # a smaller graph would be one more compilation
    def graphs(net: Net) -> None:
        nonlocal trained, refused
        path = tmp_path / f"net{len(made)}.onnx"
        onnx.save(net.model, path)
        reals = [name for name in net.outputs if net.array(name).dtype == np.float32]
        options = Options(loss=",".join(f"{name}=mse" for name in reals) or None, optimiser=Optimiser(1e-3), exact_seconds=0.0)
        with suppress(TinytrainError):                    # of the import, which other tests mind
            load_model(path, options)
            try:
                made.append((net, compile_model(path, options)))
                trained += "train" in made[-1][1].program.entries
            except TinytrainError as error:
                refused += 1
                assert any(said in str(error) for said in ("has no gradient", "has nothing to train", "does not depend on")), error
                made.append((net, compile_model(path, replace(options, loss=None))))

    graphs()
    assert trained >= 10 and refused
    library = built([compiled for _, compiled in made], tmp_path, "-O0")
    for net, compiled in made:
        assert_computes(net, Library(compiled, tmp_path, library=library))


def assert_computes(net: Net, library: Library) -> None:
    compiled, device, reference = library.compiled, library.instance(), ReferenceModel(library.compiled.program)
    x = given(compiled.imported, net.samples)
    close(device.infer(x), reference.infer(x), net)
    if "train" in compiled.program.entries:
        kind = compiled.program.entries["train"].inputs[1].type
        target = np.random.default_rng(1).standard_normal(kind.shape).astype(np.float32)
        close(device.train_step(x, target), reference.train_step(x, target), net)
        stored = device.stored()
        for v in compiled.program.stored(Role.PARAM, Role.STATE):
            close(stored[v.name], reference.state[v], net)


def close(found: ArrayLike, wanted: ArrayLike, net: Net) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * float(np.abs(wanted).max(initial=1.0)), err_msg=repr(net))
