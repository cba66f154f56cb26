# SPDX-License-Identifier: Apache-2.0
"""Weights in pieces: the pass that gives them to their readers, and kernels whose results are those of the whole weight, bit for bit."""

from __future__ import annotations

import ctypes
import dataclasses
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from kernel_cases import WARNINGS

from tinytrain import passes, zoo
from tinytrain.compiler import Compiled, Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.emit.golden import golden_vectors
from tinytrain.emit.kernels import KernelCall, render
from tinytrain.emit.select import select
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph
from tinytrain.ir.op import Example, Op, Want, f32, registry
from tinytrain.ir.text import op_text
from tinytrain.ir.types import Array, Role, Value
from tinytrain.ir.verify import verify
from tinytrain.ops.activation import Relu
from tinytrain.ops.conv import Conv2d, Conv2dGradX
from tinytrain.ops.dense import Dense
from tinytrain.ops.depthwise import DepthwiseConv2d
from tinytrain.ops.elementwise import Add
from tinytrain.ops.pieces import ReadsPieces, in_pieces
from tinytrain.ops.shape import Concat
from tinytrain.ops.windowed import Pad
from tinytrain.passes.fuse_epilogues import fuse_epilogues
from tinytrain.passes.read_pieces import read_pieces
from tinytrain.paths import data_dir
from tinytrain.schemes.scheme import Scheme, Select
from tinytrain.verify.reference import run

RNG = np.random.default_rng(3)


def stored(g: Builder, name: str, *shape: int, role: Role = Role.CONST) -> Value:
    return g.const(name, RNG.standard_normal(shape).astype(np.float32), role)


def ops_of(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


def read(op: Op, x: tuple[int, ...], axis: int, *pieces: tuple[int, ...], role: Role = Role.CONST) -> Graph:
    """w = concat(pieces); y = op(x, w)"""
    g = Builder("g")
    w = g.emit(Concat(axis, len(pieces)), *(stored(g, f"w{n}", *shape, role=role) for n, shape in enumerate(pieces)))
    return verify(g.graph([g.emit(op, g.input("x", x), w, name="y")]))


def shown(value: Graph | str) -> str:
    return ",".join(op_text(node.op) for node in value.nodes) if isinstance(value, Graph) else ""


@pytest.mark.parametrize("graph", [
    read(Conv2d(pad=Pad(1, 1, 1, 1)), (4, 4, 5), 3, (3, 3, 3, 2), (3, 3, 3, 3)), read(Conv2d(), (4, 4, 5), 0, (1, 1, 1, 5), (4, 1, 1, 5)),
    read(Conv2d(group=2), (4, 4, 6), 3, (4, 1, 1, 1), (4, 1, 1, 2)), read(Dense(), (7,), 1, (3, 2), (3, 4), (3, 1)),
    read(Dense(), (7,), 0, (1, 7), (1, 7)), read(DepthwiseConv2d(), (4, 4, 3), 2, (2, 2, 1), (2, 2, 2)),
], ids=shown)
def test_pieces_take_the_place_of_the_whole(graph: Graph) -> None:
    after = verify(read_pieces(graph))
    (join, reader), (node,) = graph.nodes, after.nodes
    assert node.op == dataclasses.replace(reader.op, pieces=join.op) and node.outputs == reader.outputs
    assert node.inputs == (reader.inputs[0], *join.inputs)
    x = RNG.standard_normal(graph.inputs[0].shape)
    np.testing.assert_array_equal(run(after, [x]).outputs[0], run(graph, [x]).outputs[0])
    assert node.op.cost(*(v.type for v in node.inputs)) == reader.op.cost(*(v.type for v in reader.inputs))
    assert read_pieces(after) is after


@pytest.mark.parametrize(("graph", "why"), [
    (read(Conv2d(group=2), (4, 4, 2), 0, (2, 1, 1, 1), (2, 1, 1, 1)), "conv2d reads pieces along axis 3 of its weight, not 0"),
    (read(Conv2d(), (4, 4, 2), 1, (2, 1, 2, 2), (2, 2, 2, 2)), "conv2d reads pieces along axis 0 or 3 of its weight, not 1"),
    (read(DepthwiseConv2d(), (4, 4, 2), 0, (1, 2, 2), (2, 2, 2)), "depthwise_conv2d reads pieces along axis 2 of its weight, not 0"),
    (read(Add(), (4, 3), 0, (1, 3), (3, 3)), "add reads operand 1 as one array"),
], ids=shown)
def test_declined(graph: Graph, why: str) -> None:
    join, reader = graph.nodes
    declined = reader.op.reads_pieces(1, join.op)
    assert not declined and declined.why == why
    assert read_pieces(graph) is graph


def test_only_stored_pieces_of_a_weight_are_read() -> None:
    g = Builder("g")
    made = g.emit(Relu(), stored(g, "a", 2, 5))
    y = g.emit(Dense(), g.input("x", (5,)), g.emit(Concat(0, 2), made, stored(g, "b", 1, 5)))
    graph = g.graph([y, g.emit(Dense(), g.emit(Concat(0, 2), stored(g, "c", 2), stored(g, "d", 3)), stored(g, "w", 2, 5))])
    assert read_pieces(graph) is graph


def test_whole_weight_stays_for_whoever_reads_it() -> None:
    g = Builder("g")
    w = g.emit(Concat(0, 2), stored(g, "a", 2, 5), stored(g, "b", 1, 5))
    y = g.emit(Dense(), g.input("x", (5,)), w)
    for outputs, kept in (([y], 0), ([y, w], 1), ([y, g.emit(Relu(), w)], 1)):
        after = verify(read_pieces(g.graph(outputs)))
        assert ops_of(after).count("concat") == kept
        assert any(isinstance(node.op, Dense) and node.op.pieces for node in after.nodes)


def test_epilogue_operands_stand_behind_the_pieces() -> None:
    g = Builder("g")
    w = g.emit(Concat(3, 2), stored(g, "a", 3, 1, 1, 2), stored(g, "b", 3, 1, 1, 1))
    y = g.emit(Relu(), g.emit(Add(), g.emit(Conv2d(), g.input("x", (2, 2, 3)), w), stored(g, "bias", 3)))
    graph = g.graph([y])
    x = RNG.standard_normal((2, 2, 3))
    for first, second in ((read_pieces, fuse_epilogues), (fuse_epilogues, read_pieces)):
        (node,) = verify(second(first(graph))).nodes
        assert [v.name for v in node.inputs] == ["x", "a", "b", "bias"]
        assert node.op == Conv2d(pieces=Concat(3, 2), then=(Add(), Relu()))
        np.testing.assert_array_equal(run(second(first(graph)), [x]).outputs[0], run(graph, [x]).outputs[0])


def test_pieces_must_fit_together() -> None:
    with pytest.raises(ValueError, match="differ outside of axis"):
        Dense(pieces=Concat(0, 2)).infer(*f32((5,), (2, 5), (1, 4)))
    with pytest.raises(ValueError, match="must split both evenly"):
        Conv2dGradX(shape=(4, 4, 3), pieces=Concat(3, 2)).infer(*f32((4, 4, 2), (2, 1, 1, 1), (2, 1, 1, 1)))


@pytest.mark.parametrize(("op", "x", "w", "axis"), [
    (Conv2d((2, 1), Pad(1, 0, 1, 2)), (7, 5, 6), (5, 3, 2, 6), -1), (Conv2d((2, 1), Pad(1, 0, 1, 2)), (7, 5, 6), (5, 3, 2, 6), 0),
    (Dense(), (3, 6), (5, 6), -1), (Dense(), (3, 6), (5, 6), 0), (DepthwiseConv2d(pad=Pad(1, 1, 1, 1)), (4, 6, 5), (3, 3, 5), -1),
], ids=str)
def test_gradient_of_a_slice_is_that_slice_of_the_gradient(op: Op, x: tuple[int, ...], w: tuple[int, ...], axis: int) -> None:
    found = []
    for channels in ((2, 5), None):
        g = Builder("g")
        data, weight = g.input("x", x), g.input("w", w)
        y = g.emit(op, data, weight)
        dx, dw = op.vjp(g, (data, weight), (y,), (dy := g.input("dy", y.shape),), (None, Want(channels, axis)))
        assert dx is None and dw is not None
        rng = np.random.default_rng(2)
        found.append(run(g.graph([dw]), {v: rng.standard_normal(v.shape) for v in (data, weight, dy)}).outputs[0])
    part, full = found
    assert full.shape == w and np.abs(full).min() > 0
    np.testing.assert_allclose(part, full.take(range(2, 5), axis), rtol=1e-6, atol=1e-6)


def whole(example: Example) -> Example:
    """An example in pieces with its weight in one."""
    op = example.op
    assert isinstance(op, ReadsPieces)
    others = example.inputs[op.arity :]
    return Example(dataclasses.replace(op, pieces=None), (*op.whole(example.inputs), *others), example.integers)


def pairs() -> list[tuple[Example, KernelCall, KernelCall]]:
    """Every example in pieces, and some larger ones: with each kernel for it, and the same of the whole weight."""
    found = []
    larger = [in_pieces(Example(Conv2d(), f32((3, 5, 48), (20, 1, 1, 48))), 3, (12,))]
    for example in [e for op in registry().values() for e in op.examples if isinstance(e.op, ReadsPieces) and e.op.pieces] + larger:
        calls: list[dict[tuple[tuple[str, ...], bool], KernelCall]] = []
        for e in (example, whole(example)):
            g = Builder("case")
            outputs = g.emit_all(e.op, *(g.input("x", t.shape, t.dtype, t.quant) for t in e.inputs))
            chosen = {(isa, spare): select(g.nodes[0], isa, spare=spare).kernel for isa in ((), ("dsp",)) for spare in (False, True)}
            calls.append({how: KernelCall(e.op, e.inputs, tuple(v.type for v in outputs), kernel) for how, kernel in chosen.items()})
        found += [(example, *pair) for pair in dict.fromkeys((calls[0][how], calls[1][how]) for how in calls[0])]
    return found


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Callable[[KernelCall, list[Array]], list[Array]]:
    """Runs a kernel on the host."""
    folder = tmp_path_factory.mktemp("pieces")
    symbols = {call: f"k{n}" for n, call in enumerate(dict.fromkeys(call for _, *calls in pairs() for call in calls))}
    text = [f'#include "tt_{part}.h"' for part in ("dsp", "integer", "math", "random", "requantise", "simd_scalar", "types", "update")]
    text += [render(call, symbol).replace("static void", "void") for call, symbol in symbols.items()]
    (folder / "k.c").write_text("\n".join(text))
    flags = [flag for flag in WARNINGS if not flag.startswith("-W")]
    subprocess.run(["gcc", *flags, "-O0", "-shared", "-fPIC", f"-I{data_dir('runtime_c')}", "k.c", "-o", "k.so"], cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "k.so"))

    def compute(call: KernelCall, arrays: list[Array]) -> list[Array]:
        outputs = [np.zeros(t.shape, t.dtype.np) for t in call.outs]
        scratch = [np.zeros(call.scratch_bytes // 8 + 1, np.uint64)] if call.kernel.scratch else []
        library[symbols[call]](*(ctypes.c_void_p(a.ctypes.data) for a in (*arrays, *outputs, *scratch)))
        return outputs

    return compute


def inputs(example: Example) -> Iterator[Array]:
    rng = np.random.default_rng(7)
    for i, kind in enumerate(example.inputs):
        values = rng.standard_normal(kind.shape) if kind.dtype.is_float else rng.integers(*example.bounds(i), kind.shape)
        yield np.ascontiguousarray(values, kind.dtype.np)


def test_kernels_in_pieces_have_the_bits_of_the_whole(kernels: Callable[[KernelCall, list[Array]], list[Array]]) -> None:
    seen = set()
    for example, apart, together in pairs():
        op = example.op
        assert isinstance(op, ReadsPieces)
        arrays = list(inputs(example))
        joined = [np.ascontiguousarray(a) for a in op.joined(arrays)]
        got, want = kernels(apart, arrays), kernels(together, [*joined, *arrays[op.arity :]])
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a.view(f"u{a.itemsize}"), b.view(f"u{b.itemsize}"), err_msg=str(apart))
        seen.add((op.name, apart.kernel))
    takers = {
        (e.op.name, k) for e, *_ in pairs() for k in e.op.kernels
        if k.isa in (None, "dsp") and k.accepts(e.op, *e.inputs)
        and all(k.dtypes[min(i, len(k.dtypes) - 1)] is t.dtype for i, t in enumerate(e.inputs[: e.op.arity]))
    }
    missing = takers - seen
    assert not missing


def compiled(folder: Path, model: str, layer: str, part: Select) -> Compiled:
    (folder / "m.onnx").write_bytes(zoo.model(model).SerializeToString())
    scheme = Scheme({layer: {"weight": part}, **({"conv1": {"bias": Select()}} if model == "cnn" else {"fc1": {"bias": Select()}})})
    return compile_model(folder / "m.onnx", Options(scheme=scheme, optimiser=Optimiser(0.05, momentum=0.9)))


def learned(folder: Path, made: Compiled) -> dict[str, Array]:
    golden = golden_vectors(made.program, 3)
    write(made, folder / "project", force=True)
    with Project.open(folder / "project").session() as session:
        for x, target in zip(golden.x, golden.target, strict=True):
            session.train_step(x, target)
        return session.get_params()


@pytest.mark.parametrize(("model", "layer", "part"), [
    ("cnn", "conv2", Select(channels=(2, 3, 4))), ("cnn", "conv2", Select(channels=(0, 5, 6), side="out")),
    ("mlp", "fc2", Select(channels=(1, 30))),
])
def test_model_learns_the_same_without_room_for_the_whole(
    model: str, layer: str, part: Select, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the weight put together in the arena, and with its pieces read where they are: forward and backward pass, three steps."""
    apart = compiled(tmp_path, model, layer, part)
    train = apart.program.entries["train"]
    assert "concat" not in ops_of(train)
    assert len([n for n in train.nodes if isinstance(n.op, ReadsPieces) and n.op.pieces]) == 2
    monkeypatch.setattr(passes, "KERNELS", tuple(step for step in passes.KERNELS if step is not read_pieces))
    together = compiled(tmp_path, model, layer, part)
    assert "concat" in ops_of(together.program.entries["train"])
    assert apart.plan.arena_bytes < together.plan.arena_bytes
    got, want = learned(tmp_path, apart), learned(tmp_path, together)
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_array_equal(got[name], want[name], err_msg=name)
