# SPDX-License-Identifier: Apache-2.0
"""Whole training steps: what the C keeps and computes equals the reference, for models of every odd shape."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ctypes_model import Library, assert_learns_as_reference
from onnx_models import ModelMaker
from random_graphs import random_graph

from tinytrain import passes
from tinytrain.compiler import Options, compile_model
from tinytrain.emit.fit import needs_of
from tinytrain.emit.project import Emitter
from tinytrain.emit.select import Kernels
from tinytrain.errors import ModelError
from tinytrain.gradient.train_step import build_program, program_of
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Program
from tinytrain.ir.op import Want
from tinytrain.ir.types import F32, Role, TensorType
from tinytrain.ops.elementwise import Add, Mul
from tinytrain.ops.loss_mean import Mse
from tinytrain.ops.shape import Reshape
from tinytrain.ops.steps import Floor
from tinytrain.planner import plan_program
from tinytrain.schemes.choose import Trained
from tinytrain.schemes.scheme import resolve
from tinytrain.target.board import load_board
from tinytrain.verify.reference import ReferenceModel


def library(program: Program, folder: Path, *flags: str) -> Library:
    """A program as it is, without the front end before it."""
    board = load_board("host")
    plan = plan_program(program, align=8, needs=needs_of(Kernels(board.isa)), exact_seconds=0)
    made: Any = types.SimpleNamespace(program=program, plan=plan, files=Emitter(program, plan, board, bytes(32)).files())
    return Library(made, folder, *flags)


def check_random(seeds: range, folder: Path, length: int) -> None:
    for seed in seeds:
        forward = passes.run(random_graph(seed, length), passes.FORWARD)
        optimiser = Optimiser(0.002, (0.0, 0.9)[seed % 2], seed % 4 == 3, (0.0, 0.01)[seed % 3 == 1], (1, 1, 3)[seed % 3])
        scheme = resolve(("full", "last:2", "bias", "none", "last:1")[seed % 5], forward)
        program = build_program(forward, ("ce", "mse", "bce", "ce-soft")[seed % 4], scheme, optimiser)
        assert_learns_as_reference(library(program.map(lambda graph: passes.run(graph, passes.DEFAULT)), folder, "-O0"))


@pytest.mark.parametrize("block", range(4))
def test_random_graphs_learn_as_the_reference(block: int, tmp_path: Path) -> None:
    check_random(range(1000 + 10 * block, 1010 + 10 * block), tmp_path, 8)


@pytest.mark.long
def test_many_random_graphs_learn_as_the_reference(tmp_path: Path) -> None:
    check_random(range(5000, 5800), tmp_path, 12)


# --- models of odd shapes -----------------------------------------------------------------------------------------


def residual(m: ModelMaker) -> None:
    start = m.conv(4, 2, pads=[1] * 4)
    m.conv(4, 4, pads=[1] * 4)
    m.node("Relu")
    m.node("Add", start)
    m.node("Add", m.last)
    head(m, 4 * 36)


def concat_of_one_value(m: ModelMaker) -> None:
    m.conv(2, 2, pads=[1] * 4)
    m.node("Concat", m.last, m.last, axis=1)
    head(m, 6 * 36)


def shared_weights(m: ModelMaker) -> None:
    weight, bias = m.weight(2, 2, 3, 3), m.weight(2)
    for _ in range(2):
        m.node("Conv", weight, bias, pads=[1] * 4)
        m.node("Relu")
    head(m, 72)


def one_weight_in_two_layouts(m: ModelMaker) -> None:
    m.node("Flatten")
    square = m.weight(72, 72, low=-0.1, high=0.1)
    m.node("Gemm", square, transB=1)
    m.node("Tanh")
    m.node("MatMul", square)
    m.dense(3, 72)


def overlapping_pools(m: ModelMaker) -> None:
    m.conv(3, 2)
    m.node("MaxPool", kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
    m.node("AveragePool", kernel_shape=[2, 2], pads=[0, 0, 1, 1])
    head(m, 48)


def keras_padding(m: ModelMaker) -> None:
    m.node("Pad", m.stored(np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64)))
    m.conv(3, 2, strides=[2, 2])
    m.node("Relu")
    head(m, 27)


def norm(m: ModelMaker) -> None:
    m.conv(3, 2, pads=[1] * 4)
    m.batch_norm(3)
    m.node("Relu")
    m.node("GlobalAveragePool")
    head(m, 3)


def dropout(m: ModelMaker) -> None:
    m.node("Flatten")
    m.dense(12, 72)
    m.node("Dropout")
    m.node("Relu")
    m.node("Dropout")
    m.dense(3, 12)


def constant_branch(m: ModelMaker) -> None:
    head(m, 72)
    logits = m.last
    m.node("Mul", m.stored(np.float32(2)), first=m.stored(np.full((1, 3), 0.5, np.float32)))
    m.node("Add", logits)


def unused_initializers(m: ModelMaker) -> None:
    m.weight(7, 7)
    head(m, 72)
    m.weight(1)


def ends(op: str, **attributes: object) -> Callable[[ModelMaker], None]:
    def build(m: ModelMaker) -> None:
        head(m, 72)
        m.node(op, **attributes)
    return build


def head(m: ModelMaker, inputs: int) -> None:
    m.node("Flatten")
    m.dense(3, inputs)


MODELS: dict[str, Callable[[ModelMaker], None]] = {
    f.__name__: f
    for f in (
        residual, concat_of_one_value, shared_weights, one_weight_in_two_layouts, overlapping_pools, keras_padding, norm, dropout,
        constant_branch, unused_initializers,
    )
} | {f"ends in {op}": ends(op) for op in ("Softmax", "LogSoftmax", "Sigmoid", "Relu", "Tanh", "Identity")}
OPTIMISERS = {
    "plain": Optimiser(0.002),
    "momentum": Optimiser(0.0005, 0.9, weight_decay=0.01),
    "nesterov, sum of 3": Optimiser(0.001, 0.8, nesterov=True, accumulate=3),
}


@pytest.mark.parametrize("loss", ["ce", "ce-soft", "mse", "bce"])
@pytest.mark.parametrize("name", MODELS)
def test_model_learns_as_the_reference(name: str, loss: str, tmp_path: Path) -> None:
    maker = ModelMaker(1, 2, 6, 6, seed=1)
    MODELS[name](maker)
    (tmp_path / "odd.onnx").write_bytes(maker.model().SerializeToString())
    number = list(MODELS).index(name) + len(loss)
    optimiser = list(OPTIMISERS.values())[number % 3]
    scheme = ("full", "bias", "full", "last:1")[number % 4]
    options = Options("host", loss, scheme, optimiser, fold_batchnorm=False, dropout=name == "dropout", exact_seconds=0)
    assert_learns_as_reference(Library(compile_model(tmp_path / "odd.onnx", options), tmp_path))


@pytest.mark.parametrize("optimiser", OPTIMISERS.values(), ids=OPTIMISERS)
@pytest.mark.parametrize("scheme", ["full", "last:1", "bias", "none"])
def test_one_dimensional_network(scheme: str, optimiser: Optimiser, tmp_path: Path) -> None:
    m = ModelMaker(1, 2, 12, seed=2)
    m.node("Conv", m.weight(4, 2, 3), m.weight(4), pads=[2, 1], strides=[2])
    m.node("Relu")
    m.node("MaxPool", kernel_shape=[3], strides=[2])
    m.node("Conv", m.weight(4, 1, 2), group=4)
    m.node("GlobalAveragePool")
    head(m, 4)
    (tmp_path / "line.onnx").write_bytes(m.model().SerializeToString())
    assert_learns_as_reference(Library(compile_model(tmp_path / "line.onnx", Options("host", "ce", scheme, optimiser)), tmp_path))


def test_inference_only_and_views_of_the_input(tmp_path: Path) -> None:
    m = ModelMaker(1, 2, 3, 4)
    m.node("Flatten")
    (tmp_path / "view.onnx").write_bytes(m.model().SerializeToString())
    compiled = compile_model(tmp_path / "view.onnx", Options("host", None))
    assert "view_train_step" not in compiled.files["view.h"]
    assert_learns_as_reference(Library(compiled, tmp_path))


def test_bce_of_a_single_output(tmp_path: Path) -> None:
    m = ModelMaker(1, 5)
    m.dense(1, 5)
    m.node("Sigmoid")
    (tmp_path / "one.onnx").write_bytes(m.model().SerializeToString())
    assert_learns_as_reference(Library(compile_model(tmp_path / "one.onnx", Options("host", "bce")), tmp_path))


# --- train_step, planner and emitter together ---------------------------------------------------------------------


def test_update_that_must_be_copied(tmp_path: Path) -> None:
    """Both the old and the new value of w are read at the end, so the new one cannot stand where the old one is."""
    kind = TensorType((4,), F32)
    g = Builder("copied")
    x = g.input("x", (4,))
    w = g.value("w", kind, Role.PARAM, np.array([1, 2, 3, 4], np.float32))
    v = g.value("v", kind, Role.STATE, np.zeros(4, np.float32))
    infer = g.graph([g.emit(Mul(), x, w)]).replace(name="infer")
    target = g.input("target", (4,))
    new = g.emit(Add(), w, x)
    both = g.emit(Mul(), new, w)
    loss = g.emit(Mse(), both, target)
    train = g.graph([loss], {w: new, v: g.emit(Reshape((4,)), w)}).replace(name="train")
    evaluate = train.replace(name="evaluate", outputs=(loss, both), updates={})
    program = Program("copied", {"infer": infer, "evaluate": evaluate, "train": train.replace(nodes=train.nodes[1:])})
    made = library(program, tmp_path)
    assert len(made.compiled.plan.entries["train"].copies) == 2
    assert_learns_as_reference(made, steps=3)


def test_sums_of_gradients_belong_to_their_parameters() -> None:
    """Parameters called w and sum_w once got each other's sums, or none."""
    g = Builder("g")
    x = g.input("x", (3,))
    g.origin = "a"
    x = g.emit(Add(), g.emit(Mul(), x, g.const("sum_w", np.ones(3, np.float32))), g.const("w", np.ones(3, np.float32)))
    forward = g.graph([x])
    params = {v.name: v for v in forward.stored(Role.CONST)}
    program = program_of(forward, [dict.fromkeys(params.values(), Trained(Want()))], "mse", Optimiser(0.1, accumulate=2))
    model = ReferenceModel(program)
    for _ in range(2):
        model.train_step(np.array([1, 2, 3], np.float32), np.zeros(3, np.float32))
    updated = program.entries["apply"].updates
    assert {v.name for v in updated if v.role is Role.PARAM} == {"w", "sum_w"}
    gradient = 2 / 3 * np.array([2, 3, 4])
    np.testing.assert_allclose(model.parameters()["w"], 1 - 0.1 * gradient, rtol=1e-6)
    np.testing.assert_allclose(model.parameters()["sum_w"], 1 - 0.1 * gradient * [1, 2, 3], rtol=1e-6)


def test_loss_that_does_not_depend_on_a_parameter() -> None:
    g = Builder("g")
    g.origin = "fc"
    x = g.input("x", (3,))
    unread = g.const("w", np.ones(3, np.float32))
    forward = g.graph([x])
    with pytest.raises(ModelError, match="the loss does not depend on w"):
        program_of(forward, [{unread: Trained(Want())}], "mse", Optimiser())


def test_nothing_is_learned_through_a_rounding() -> None:
    """Its slope is 0: a weight that would never move is refused rather than counted as trained."""
    g = Builder("g")
    g.origin = "fc"
    x = g.input("x", (3,))
    w = g.const("w", np.ones(3, np.float32), Role.PARAM)
    forward = g.graph([g.emit(Floor(), g.emit(Mul(), x, w))])
    with pytest.raises(ModelError, match="on w, or only through roundings"):
        program_of(forward, [{w: Trained(Want())}], "mse", Optimiser())
