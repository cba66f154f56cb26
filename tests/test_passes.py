# SPDX-License-Identifier: Apache-2.0
"""Each pass keeps what a graph computes, and does what it says."""

from __future__ import annotations

import numpy as np
import pytest
from random_graphs import random_graph, sample

from tinytrain import passes
from tinytrain.gradient.train_step import build_program
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph, Program
from tinytrain.ir.types import S32, Array, Role, Source, Value
from tinytrain.ir.verify import verify
from tinytrain.ops import shape
from tinytrain.ops.activation import Relu, Sigmoid
from tinytrain.ops.conv import Conv2d
from tinytrain.ops.dense import Dense
from tinytrain.ops.depthwise import DepthwiseConv2d
from tinytrain.ops.elementwise import Add, Sub
from tinytrain.ops.pool import AveragePool, MaxPool
from tinytrain.ops.windowed import Pad
from tinytrain.passes.absorb_transposes import absorb_transposes
from tinytrain.passes.drop_dead import drop_dead, drop_dead_nodes
from tinytrain.passes.fold_pads import fold_pads
from tinytrain.passes.fuse_epilogues import fuse_epilogues
from tinytrain.passes.pack_masks import pack_masks
from tinytrain.passes.save_slices import save_slices
from tinytrain.passes.sink_views import sink_views
from tinytrain.planner import plan_program
from tinytrain.schemes.scheme import Scheme, Select, layers, resolve
from tinytrain.verify.reference import ReferenceModel, run

LOSSES = ("ce", "mse", "bce", "ce-soft")
SCHEMES = ("full", "last:2", "bias", "none", "last:1")
RNG = np.random.default_rng(5)


def inputs(graph: Graph, seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [np.array([1], np.int32) if v.type.dtype is S32 else rng.standard_normal(v.shape) for v in graph.inputs]


def stepped(step: passes.Pass, graph: Graph, seed: int = 0) -> Graph:
    """The graph after a pass: sound, equal in float64, and the same object when the pass is applied once more in vain."""
    after = verify(step(graph), step.__name__)
    want, got = (run(g, inputs(g, seed), dtype=np.float64) for g in (graph, after))
    for a, b in zip(want.outputs, got.outputs, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-12, err_msg=step.__name__)
    assert [v.name for v in want.updates] == [v.name for v in got.updates]
    for old, new in zip(want.updates, got.updates, strict=True):
        np.testing.assert_allclose(got.updates[new], want.updates[old], rtol=1e-10, atol=1e-12, err_msg=f"{step.__name__}: {old.name}")
    return after


@pytest.mark.parametrize("block", range(6))
def test_each_pass_keeps_the_values(block: int) -> None:
    for seed in range(25 * block, 25 * block + 25):
        forward = verify(random_graph(seed))
        for step in passes.FORWARD:
            forward = stepped(step, forward, seed)
        optimiser = Optimiser(0.01, (0.0, 0.9)[seed % 2], accumulate=(1, 1, 3)[seed % 3])
        scheme = resolve(SCHEMES[seed % 5] if len(layers(forward)) > 1 else "full", forward)
        for graph in build_program(forward, LOSSES[seed % 4], scheme, optimiser).entries.values():
            for step in passes.DEFAULT:
                graph = stepped(step, graph, seed)


# --- fold_pads ----------------------------------------------------------------------------------------------------


def weight(g: Builder, *size: int) -> Value:
    source = Source("w", size, size, tuple(range(len(size))))
    return g.const("w", RNG.standard_normal(size).astype(np.float32), source=source)


def padded(g: Builder, value: float = 0.0, channels: int = 0) -> Value:
    """An asymmetric pad around a map of 5x4x2."""
    return g.emit(shape.Pad((0, 1, 0), (2, 3, channels), value), g.input("x", (5, 4, 2)))


@pytest.mark.parametrize(
    ("conv", "size"),
    [
        (Conv2d(), (3, 3, 3, 2)), (Conv2d((2, 2), Pad(1, 0, 0, 1)), (3, 3, 2, 2)), (Conv2d(dilation=(2, 1), group=2), (2, 2, 3, 1)),
        (DepthwiseConv2d((2, 1)), (3, 3, 2)),
    ],
    ids=["plain", "stride", "group", "depthwise"],
)
def test_pads_fold_into_convolutions(conv: Conv2d | DepthwiseConv2d, size: tuple[int, ...]) -> None:
    g = Builder("g")
    graph = g.graph([g.emit(conv, padded(g), weight(g, *size))])
    after = drop_dead_nodes(stepped(fold_pads, graph))
    (node,) = after.nodes
    old = conv.pad
    assert isinstance(node.op, (Conv2d, DepthwiseConv2d)) and node.op.pad == Pad(old.top, old.left + 1, old.bottom + 2, old.right + 3)
    assert fold_pads(after) is after


def test_one_pad_folds_into_all_its_readers() -> None:
    g = Builder("g")
    t = padded(g)
    graph = g.graph([g.emit(Add(), g.emit(Conv2d(), t, weight(g, 2, 3, 3, 2)), g.emit(DepthwiseConv2d(), t, weight(g, 3, 3, 2)))])
    assert [n.op.name for n in passes.run(graph, (fold_pads, drop_dead_nodes)).nodes] == ["conv2d", "depthwise_conv2d", "add"]


@pytest.mark.parametrize("case", ["value", "channels", "average", "maximum", "relu too", "kept"])
def test_other_pads_stay(case: str) -> None:
    g = Builder("g")
    t = padded(g, value=0.5 if case == "value" else 0.0, channels=1 if case == "channels" else 0)
    if case in ("average", "maximum"):
        y = g.emit_all(AveragePool((2, 2), (1, 1)) if case == "average" else MaxPool((2, 2), (1, 1)), t)[0]
    else:
        y = g.emit(Conv2d(), t, weight(g, 2, 3, 3, t.shape[2]))
    graph = g.graph([y, *([g.emit(Relu(), t)] if case == "relu too" else []), *([t] if case == "kept" else [])])
    assert fold_pads(graph) is graph


# --- fuse_epilogues -----------------------------------------------------------------------------------------------


def dense(g: Builder, x: Value, outputs: int = 4) -> Value:
    return g.emit(Dense(), x, weight(g, outputs, x.shape[-1]))


def fused(graph: Graph) -> list[str]:
    return [n.op.name + "".join(f"+{e.name}" for e in getattr(n.op, "then", ())) for n in stepped(fuse_epilogues, graph).nodes]


def test_a_chain_becomes_one_kernel() -> None:
    g = Builder("g")
    t = dense(g, g.input("x", (3,)))
    assert fused(g.graph([g.emit(Relu(), g.emit(Add(), t, weight(g, 4)))])) == ["dense+add+relu"]


def test_the_later_producer_takes_the_sum() -> None:
    g = Builder("g")
    x = g.input("x", (4,))
    first, second = dense(g, x), dense(g, x)
    assert fused(g.graph([g.emit(Add(), first, second)])) == ["dense", "dense+add"]


@pytest.mark.parametrize("case", ["twice by one", "by two", "kept", "updated", "not commutative"])
def test_what_is_read_elsewhere_is_not_fused(case: str) -> None:
    g = Builder("g")
    x = g.input("x", (4,))
    t = dense(g, x)
    if case == "twice by one":
        assert fused(g.graph([g.emit(Add(), t, t)])) == ["dense", "add"]
    elif case == "by two":
        assert fused(g.graph([g.emit(Relu(), t), g.emit(Sigmoid(), t)])) == ["dense", "relu", "sigmoid"]
    elif case == "kept":
        assert fused(g.graph([g.emit(Relu(), t), t])) == ["dense", "relu"]
    elif case == "updated":
        state = g.value("s", t.type, Role.STATE, np.zeros(4, np.float32))
        assert fused(g.graph([g.emit(Relu(), t)], {state: t})) == ["dense", "relu"]
    else:
        assert fused(g.graph([g.emit(Sub(), x, t)])) == ["dense", "sub"]


# --- sink_views ---------------------------------------------------------------------------------------------------


def test_views_sink_below_elementwise_ops() -> None:
    g = Builder("g")
    t = g.emit(shape.Reshape((2, 3)), dense(g, g.input("x", (4,)), 6))
    after = stepped(sink_views, g.graph([g.emit(Relu(), t)]))
    assert [n.op.name for n in after.nodes] == ["dense", "relu", "reshape"]


@pytest.mark.parametrize("case", ["twice by one", "by two", "kept", "channels"])
def test_views_stay_where_they_are_needed(case: str) -> None:
    g = Builder("g")
    t = g.emit(shape.Reshape((2, 3)), g.input("x", (6,)))
    outputs = {
        "twice by one": lambda: [g.emit(Add(), t, t)],
        "by two": lambda: [g.emit(Relu(), t), g.emit(Sigmoid(), t)],
        "kept": lambda: [g.emit(Relu(), t), t],
        "channels": lambda: [g.emit(Add(), t, weight(g, 3))],
    }[case]()
    graph = g.graph(outputs)
    assert stepped(sink_views, graph) is graph


# --- drop_dead, absorb_transposes, pack_masks ---------------------------------------------------------------------


def test_dead_nodes_go_and_outputs_with_them() -> None:
    g = Builder("g")
    x = g.input("x", (4, 4, 1))
    y, index = g.emit_all(MaxPool((2, 2), (2, 2)), x)
    g.emit(Relu(), g.emit(Relu(), y))
    graph = g.graph([y])
    assert [len(n.outputs) for n in stepped(drop_dead_nodes, graph).nodes] == [2]
    assert [len(n.outputs) for n in stepped(drop_dead, graph).nodes] == [1]
    both = g.graph([y, index])
    assert [len(n.outputs) for n in drop_dead(both).nodes] == [2]
    assert drop_dead(drop_dead(graph)) is not graph


@pytest.mark.parametrize("layout", ["gemm, transB", "matmul"])
def test_absorbed_transposes_keep_the_way_back_to_onnx(layout: str) -> None:
    """C, H, W of ONNX: the columns of the weight follow our H, W, C."""
    onnx = RNG.standard_normal((5, 24) if layout == "gemm, transB" else (24, 5)).astype(np.float32)
    source = Source("w", onnx.shape, onnx.shape, (0, 1) if layout == "gemm, transB" else (1, 0))
    g = Builder("g")
    x = g.input("x", (3, 4, 2))
    flat = g.emit(shape.Reshape((24,)), g.emit(shape.Transpose((2, 0, 1)), x))
    graph = g.graph([g.emit(Dense(), flat, g.const("w", source.to_ir(onnx, (5, 24)), source=source))])
    after = drop_dead_nodes(stepped(absorb_transposes, graph))
    assert [n.op.name for n in after.nodes] == ["reshape", "dense"]
    moved = after.nodes[1].inputs[1]
    assert moved.source is not None and moved.data is not None
    np.testing.assert_array_equal(moved.source.to_onnx(moved.data), onnx)
    np.testing.assert_array_equal(moved.source.to_ir(onnx, (5, 24)), moved.data)


def test_masks_free_the_activations() -> None:
    """ReLU maps of 1,024 bytes that the backward pass reads only as signs: 32 bytes each while the loss is computed."""
    g = Builder("g")
    x = g.input("x", (16, 16, 1))
    for n in range(4):
        g.origin = f"n{n}"
        x = g.emit(Relu(), g.emit(Add(), g.emit(DepthwiseConv2d((1, 1), Pad(1, 1, 1, 1)), x, weight(g, 3, 3, 1)), weight(g, 1)))
    g.origin = "head"
    x = g.emit_all(AveragePool((16, 16), (1, 1)), x)[0]
    forward = g.graph([g.emit(Dense(), g.emit(shape.Reshape((1,)), x), weight(g, 3, 1))])
    program = build_program(forward, "ce", resolve("bias", forward), Optimiser())

    def arena(steps: tuple[passes.Pass, ...]) -> int:
        lowered: Program = program.map(lambda graph: passes.run(graph, steps))
        return plan_program(lowered, exact_seconds=0).arena_bytes

    without = tuple(step for step in passes.DEFAULT if step is not pack_masks)
    assert arena(passes.DEFAULT) < arena(without) - 1500


def test_slices_of_maps_are_saved_in_their_place() -> None:
    """Maps of 16 channels, of which the gradient of a slice of the next weight reads four, and ReLU's gradient the signs."""
    g = Builder("g")
    x = g.input("x", (8, 8, 16))
    for n in range(4):
        g.origin = f"n{n}"
        x = g.emit(Relu(), g.emit(Conv2d(), x, weight(g, 16, 1, 1, 16)))
    g.origin = "head"
    forward = g.graph([g.emit(Dense(), g.emit(shape.Reshape((x.type.numel,)), x), weight(g, 3, x.type.numel))])
    scheme = Scheme({f"n{n}": {"weight": Select(channels=(0, 1, 2, 3))} for n in range(4)})
    program = build_program(forward, "ce", scheme, Optimiser(0.1))

    def lowered(steps: tuple[passes.Pass, ...]) -> Program:
        return program.map(lambda graph: passes.run(graph, steps))

    both, alone = lowered(passes.DEFAULT), lowered(tuple(step for step in passes.DEFAULT if step is not save_slices))
    arenas = [plan_program(of, exact_seconds=0).arena_bytes for of in (both, alone)]
    assert arenas[0] < arenas[1] - 5000
    models = [ReferenceModel(of) for of in (both, alone)]
    image = sample(forward)
    for _ in range(3):
        assert models[0].train_step(image, np.array([1], np.int32)) == models[1].train_step(image, np.array([1], np.int32))


def test_random_graphs_repeat() -> None:
    first, second = random_graph(3), random_graph(3)
    assert [n.op for n in first.nodes] == [n.op for n in second.nodes]
    np.testing.assert_array_equal(sample(first), sample(second))
