# SPDX-License-Identifier: Apache-2.0
"""Channels in another order: the same results, bit for bit where they are integers; and the learned weights find their way back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_models import ModelMaker, imported
from random_graphs import random_graph, sample
from test_int8_training import int8_model

from tinytrain import passes
from tinytrain.compiler import Options, compile_model, load_model
from tinytrain.errors import SchemeError
from tinytrain.ir.graph import Graph
from tinytrain.ir.types import S8, Role
from tinytrain.schemes.choose import choose
from tinytrain.schemes.permute_channels import channel_groups, permute_channels
from tinytrain.schemes.scheme import Scheme, Select
from tinytrain.verify.reference import run


def shuffled(graph: Graph, seed: int = 0) -> tuple[Graph, int]:
    """The graph with the channels of every group in a random order, and how many groups that were."""
    rng = np.random.default_rng(seed)
    groups = dict.fromkeys(channel_groups(graph).values())
    free = {group: rng.permutation(group.size).tolist() for group in groups if not group.pinned and group.size > 1}
    moved, _ = permute_channels(graph, free)
    return moved, len(free)


def residual() -> ModelMaker:
    """Two blocks with a shortcut that all share channels, a depthwise and a strided convolution, and a flattened head."""
    net = ModelMaker(1, 1, 8, 8)
    net.conv(6, 1, pads=[1, 1, 1, 1])
    block = net.node("Relu")
    net.conv(10, 6)
    net.node("Relu")
    net.conv(6, 10, 3, pads=[2, 2, 2, 2])
    net.node("Add", block)
    net.node("Conv", net.weight(6, 1, 3, 3), net.weight(6), group=6, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 0])
    net.node("Relu")
    net.node("Flatten")
    net.dense(5, 6 * 4 * 3)
    return net


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_give_the_same(seed: int) -> None:
    graph = passes.run(random_graph(seed, 10), passes.FORWARD)
    moved, _ = shuffled(graph, seed)
    x = sample(graph, seed)
    before, after = (run(g, [x], dtype=np.float64).outputs[0] for g in (graph, moved))
    np.testing.assert_allclose(after, before, rtol=1e-10, atol=1e-12)


def test_random_graphs_have_groups_to_permute() -> None:
    assert sum(shuffled(passes.run(random_graph(seed, 10), passes.FORWARD))[1] for seed in range(20)) > 5


def test_int8_gives_the_same_bits(tmp_path: Path) -> None:
    graph = passes.run(load_model(int8_model(residual().model(), tmp_path), Options())[1].graph, passes.FORWARD)
    moved, count = shuffled(graph)
    assert count == 2, "the residual channels, and those inside the block"
    x = np.random.default_rng(1).integers(-3, 4, graph.inputs[0].shape).astype(np.float32)
    np.testing.assert_array_equal(run(moved, [x]).outputs[0], run(graph, [x]).outputs[0])
    changed = [v for v in moved.stored(Role.CONST) if v.source and v.type.dtype is S8 and v.source.take]
    assert len(changed) == 5, "every convolution, and the head behind the flattened map"


def test_halves_move_too(tmp_path: Path) -> None:
    """A scheme of parts that are no runs of channels, of a model whose weights are stored as fp16."""
    onnx.save(residual().model(), tmp_path / "m.onnx")
    parts = Scheme({"n_conv_2": {"weight": Select(channels=(1, 3, 5))}, "n_conv_4": {"weight": Select(channels=(3, 5), side="out")}})
    made = compile_model(tmp_path / "m.onnx", Options(scheme=parts, dtype="fp16", exact_seconds=0.0))
    assert any(v.source and v.source.take for v in made.program.stored(Role.CONST, Role.PARAM))


def test_learned_weights_go_back_to_their_places(tmp_path: Path) -> None:
    graph = passes.run(imported(residual().model(), tmp_path).graph, passes.FORWARD)
    moved, _ = shuffled(graph)
    before = {v.source.initializer: v for v in graph.stored(Role.CONST) if v.source}
    after = {v.source.initializer: v for v in moved.stored(Role.CONST) if v.source}
    assert before.keys() == after.keys() and any(v.source and v.source.take for v in after.values())
    for name, v in after.items():
        whole = before[name]
        assert v.source is not None and whole.source is not None and v.data is not None and whole.data is not None
        onnx = whole.source.to_onnx(whole.data)
        np.testing.assert_array_equal(v.source.to_onnx(v.data), onnx)
        np.testing.assert_array_equal(v.source.to_ir(onnx, v.shape), v.data)


def test_layers_that_share_channels_share_their_order(tmp_path: Path) -> None:
    # n_conv_2 reads and n_conv_4 makes the six channels of the shortcut
    graph = passes.run(imported(residual().model(), tmp_path).graph, passes.FORWARD)
    nested = Scheme({"n_conv_2": {"weight": Select(channels=(1, 3, 5))}, "n_conv_4": {"weight": Select(channels=(3, 5), side="out")}})
    moved, trained = choose(nested, graph)
    assert [how.want.channels for how in trained.values()] == [(0, 3), (0, 2)]
    first, second = trained
    assert first.source is not None and second.source is not None
    assert sorted(dict(first.source.take)[3][:3]) == [1, 3, 5] and sorted(dict(second.source.take)[0][:2]) == [3, 5]
    fractions = Scheme({"n_conv_2": {"weight": Select(0.5)}, "n_conv_4": {"weight": Select(0.34, side="out")}})
    assert [how.want.channels for how in choose(fractions, graph)[1].values()] == [(0, 3), (0, 2)]
    apart = Scheme({"n_conv_2": {"weight": Select(channels=(1, 3))}, "n_conv_4": {"weight": Select(channels=(2, 4, 5), side="out")}})
    with pytest.raises(SchemeError, match="'n_conv_2' and 'n_conv_4' count the same channels, but neither"):
        choose(apart, graph)
    ranges = Scheme({"n_conv_2": {"weight": Select(channels=(1, 2))}, "n_conv_4": {"weight": Select(channels=(3, 4, 5), side="out")}})
    moved, trained = choose(ranges, graph)
    assert moved is graph and [how.want.channels for how in trained.values()] == [(1, 3), (3, 6)]


def test_fraction_of_channels_that_cannot_move_is_the_best_run(tmp_path: Path) -> None:
    net = ModelMaker(1, 8, 5, 5)
    net.conv(4, 8)
    graph = passes.run(imported(net.model(), tmp_path).graph, passes.FORWARD)
    moved, trained = choose(Scheme({"n_conv_0": {"weight": Select(0.5)}}), graph)
    assert moved is graph
    ((weight, how),) = trained.items()
    assert weight.data is not None and how.want.channels is not None
    sums = [float(np.square(weight.data[..., first : first + 4]).sum()) for first in range(5)]
    assert how.want.channels[0] == int(np.argmax(sums)) and how.want.channels[1] == how.want.channels[0] + 4


def test_mcunet_gives_the_same_bits(shared_data: Path) -> None:
    graph = passes.run(load_model(shared_data / "models" / "mcunet5fps_10cls_qdq_int8.onnx", Options())[1].graph, passes.FORWARD)
    moved, count = shuffled(graph)
    assert count > 20
    x = np.random.default_rng(1).standard_normal(graph.inputs[0].shape).astype(np.float32)
    np.testing.assert_array_equal(run(moved, [x]).outputs[0], run(graph, [x]).outputs[0])
