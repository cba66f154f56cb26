# SPDX-License-Identifier: Apache-2.0
"""Random small networks through the whole compiler: gradients, passes, plan and C mean what the ONNX model says."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compilers import SANITIZERS, sanitizing
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx_models import ModelMaker

from tinytrain import passes
from tinytrain.compiler import Options, compile_model, load_model, write
from tinytrain.device.session import open_session
from tinytrain.emit.golden import golden_vectors
from tinytrain.gradient.objective import losses, with_loss
from tinytrain.gradient.train_step import build_program, inference
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.graph import Program
from tinytrain.ir.types import S32, Array
from tinytrain.schemes.choose import choose
from tinytrain.schemes.scheme import resolve
from tinytrain.verify.checks import GRADIENT_RTOL, check_graph
from tinytrain.verify.reference import ReferenceModel

SANITIZE = " ".join(["-O0", "-g1", *SANITIZERS])


class Network(ModelMaker):
    """Blocks drawn one after the other; `size` is (channels, height, width) until the head."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.size = (draw(st.integers(1, 4)), draw(st.integers(4, 9)), draw(st.integers(4, 9)))
        super().__init__(1, *self.size, seed=draw(st.integers(0, 1000)))
        self.draw = draw
        self.text = [f"x {self.size}"]

    def __repr__(self) -> str:
        return "; ".join(self.text)

    def add(self, op: str, *more: str, **attributes: Any) -> str:
        self.text.append(f"{op}{attributes or ''}")
        return self.node(op, *more, **attributes)

    def window(self, op: str, size: tuple[int, int], filters: int | None = None, **attributes: Any) -> None:
        c, h, w = self.size
        stride = self.draw(st.sampled_from([(1, 1), (2, 2), (1, 2)]))
        pads = [self.draw(st.integers(0, size[i % 2] // 2)) for i in range(4)]
        reach = [(k - 1) * d + 1 for k, d in zip(size, attributes.get("dilations", (1, 1)), strict=True)]
        out = [(n + pads[i] + pads[i + 2] - reach[i]) // stride[i] + 1 for i, n in enumerate((h, w))]
        if min(out) < 1:
            return
        more = [self.weight(filters, c // attributes.get("group", 1), *size)] if filters else []
        self.add(op, *more, kernel_shape=list(size), strides=list(stride), pads=pads, **attributes)
        self.size = (filters or c, out[0], out[1])

    def conv(self, *_: Any, **__: Any) -> str:            # type: ignore[override]
        c = self.size[0]
        group = self.draw(st.sampled_from([g for g in (1, 1, 2, c) if c % g == 0]))
        filters = group * self.draw(st.integers(1, 3))
        size = self.draw(st.sampled_from([(1, 1), (3, 3), (3, 2), (2, 3)]))
        self.window("Conv", size, filters, group=group, dilations=self.draw(st.sampled_from([[1, 1], [1, 1], [2, 1]])))
        if self.draw(st.booleans()):
            self.add("Add", self.weight(1, self.size[0], 1, 1))
        return self.last

    def pool(self) -> None:
        self.window(self.draw(st.sampled_from(["MaxPool", "AveragePool"])), self.draw(st.sampled_from([(2, 2), (3, 3), (3, 2)])))

    def activation(self) -> None:
        op = self.draw(st.sampled_from(["Relu", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip"]))
        more = [self.stored(np.float32(-0.4)), self.stored(np.float32(0.7))] if op == "Clip" else []
        self.add(op, *more)

    def norm(self) -> None:
        self.text.append("BatchNormalization")
        self.batch_norm(self.size[0])

    def residual(self) -> None:
        """A branch of the same shape, joined again."""
        start, c = self.last, self.size[0]
        self.node("Conv", self.weight(c, c, 3, 3), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        self.activation()
        join = self.draw(st.sampled_from(["Add", "Mul", "Sub", "Concat"]))
        self.text.append(f"joined by {join}")
        self.node(join, start, **({"axis": 1} if join == "Concat" else {}))
        if join == "Concat":
            self.size = (2 * c, *self.size[1:])

    def head(self) -> None:
        c, h, w = self.size
        if self.draw(st.booleans()):
            self.add("GlobalAveragePool")
            h = w = 1
        self.add("Flatten")
        inputs = c * h * w
        if self.draw(st.booleans()):
            self.dense(5, inputs)
            self.activation()
            inputs = 5
        self.dense(self.draw(st.integers(2, 4)), inputs)
        if self.draw(st.booleans()):
            self.add("Softmax", axis=-1)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    net = Network(draw)
    for block in draw(st.lists(st.sampled_from(["conv", "conv", "pool", "activation", "norm", "residual"]), min_size=1, max_size=6)):
        getattr(net, block)()
    net.head()
    return net


@st.composite
def optimisers(draw: st.DrawFn) -> Optimiser:
    momentum = draw(st.sampled_from([0.0, 0.9]))
    nesterov = bool(momentum) and draw(st.booleans())
    return Optimiser(0.01, momentum, nesterov, draw(st.sampled_from([0.0, 0.01])), draw(st.sampled_from([1, 1, 3])))


LOSSES = st.sampled_from(["ce", "ce-soft", "mse", "bce"])
SCHEMES = st.sampled_from(["full", "last:1", "last:2", "bias"])


def has_layers_for(scheme: str, net: Network) -> bool:
    """last:2 of one layer is refused."""
    return scheme != "last:2" or sum(node.op_type in ("Conv", "Gemm", "MatMul") for node in net.nodes) > 1


def saved(net: Network, folder: str) -> Path:
    path = Path(folder) / "net.onnx"
    path.write_bytes(net.model().SerializeToString())
    return path


def samples(program: Program, count: int, seed: int) -> list[tuple[Array, Array]]:
    rng = np.random.default_rng(seed)
    x, target = program.entries["train"].inputs
    classes = program.entries["infer"].outputs[0].type.numel
    draw = (lambda: rng.integers(0, classes, (1,))) if target.type.dtype is S32 else (lambda: rng.dirichlet(np.ones(classes)))
    return [(rng.normal(size=x.shape), draw()) for _ in range(count)]


@given(networks(), LOSSES, st.booleans())
@settings(max_examples=25)
def test_gradients_of_random_networks(net: Network, loss: str, fold: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _, read = load_model(saved(net, folder), Options(fold_batchnorm=fold))
    forward = inference(passes.run(read.graph, passes.FORWARD))
    wanted = list(choose(resolve("full", forward), forward)[1])
    graph, _, total = with_loss(forward, losses()[loss]())
    rng = np.random.default_rng(1)
    x, target = graph.inputs
    t = np.array([1]) if target.type.dtype is S32 else rng.dirichlet(np.ones(target.type.numel)).reshape(target.shape)
    for error in check_graph(graph, total, wanted, [rng.normal(size=x.shape), t], samples=4):
        assert error.relative <= GRADIENT_RTOL, error


@given(networks(), LOSSES, SCHEMES, optimisers(), st.booleans())
@settings(max_examples=40)
def test_passes_change_nothing(net: Network, loss: str, scheme: str, optimiser: Optimiser, fold: bool) -> None:
    """Seven training steps in float64 with and without the passes: same losses, same weights."""
    assume(has_layers_for(scheme, net))
    with tempfile.TemporaryDirectory() as folder:
        _, read = load_model(saved(net, folder), Options(fold_batchnorm=fold))
    forward = passes.run(read.graph, passes.FORWARD)
    program = build_program(forward, loss, resolve(scheme, forward), optimiser)
    plain, optimised = (ReferenceModel(p, np.float64) for p in (program, program.map(lambda graph: passes.run(graph, passes.DEFAULT))))
    for x, target in samples(program, 7, net.rng.integers(1000)):
        want, got = plain.train_step(x, target), optimised.train_step(x, target)
        assert np.isclose(got, want, rtol=1e-9, atol=1e-12, equal_nan=True)
    for name, array in plain.parameters().items():
        assert np.allclose(optimised.parameters()[name], array, rtol=1e-9, atol=1e-12, equal_nan=True), name


def traced_in_c(net: Network, loss: str, scheme: str, optimiser: Optimiser, fold: bool) -> None:
    assume(has_layers_for(scheme, net))
    with tempfile.TemporaryDirectory() as folder:
        options = Options("host", loss, scheme, optimiser, fold, exact_seconds=0.2)
        compiled = compile_model(saved(net, folder), options)
        project = Path(folder) / "project"
        write(compiled, project)
        built = subprocess.run(
            ["make", f"OPTIMISE={SANITIZE}", f"CC={sanitizing()} {SANITIZE}"], cwd=project, capture_output=True, text=True, check=False
        )
        assert built.returncode == 0, built.stderr[-3000:]
        want = golden_vectors(compiled.program, 5)

        with open_session(project, compiled.board) as session:
            output = session.infer(want.x[0])
            found = [session.train_step(x, t).loss for x, t in zip(want.x, want.target, strict=True)]
    np.testing.assert_allclose(output, want.output.reshape(-1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found, want.losses, rtol=1e-3, atol=1e-4)


@given(networks(), LOSSES, SCHEMES, optimisers(), st.booleans())
@settings(max_examples=5)
def test_sanitized_c_equals_the_reference(net: Network, loss: str, scheme: str, optimiser: Optimiser, fold: bool) -> None:
    traced_in_c(net, loss, scheme, optimiser, fold)


@pytest.mark.long
@given(networks(), LOSSES, SCHEMES, optimisers(), st.booleans())
@settings(max_examples=150)
def test_sanitized_c_equals_the_reference_for_many(net: Network, loss: str, scheme: str, optimiser: Optimiser, fold: bool) -> None:
    traced_in_c(net, loss, scheme, optimiser, fold)
