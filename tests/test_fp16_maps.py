# SPDX-License-Identifier: Apache-2.0
"""--dtype fp16 in networks of attention, norms and recurrence: which maps are halves, which are not, and how far gradients are off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from ctypes_model import Library
from frontend_models import f32, model_of, node
from test_recurrent import Layer
from test_running import small
from test_traces import assert_boards_equal_twins
from test_transformer import TOKENS, WIDTH, cct

from tinytrain.compiler import Compiled, Options, compile_model
from tinytrain.emit.golden import golden_vectors
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.builder import Builder
from tinytrain.ir.loss import Loss
from tinytrain.ir.op import Fusable, Want, registry
from tinytrain.ir.types import F16, F32, Role, Value
from tinytrain.ops.pieces import ReadsPieces
from tinytrain.ops.quantize import Quantise
from tinytrain.passes.halve_weights import fixed
from tinytrain.planner.updates import contents
from tinytrain.schemes.precision import Floats
from tinytrain.verify.reference import ReferenceModel

Saved = Callable[[Path], Path]


def saved(model: Callable[[], onnx.ModelProto]) -> Saved:
    def save(folder: Path) -> Path:
        path = folder / "m.onnx"
        if not path.exists():                             # its weights are drawn once
            onnx.save(model(), path)
        return path

    return save


def reduced() -> onnx.ModelProto:
    """x (1, 3, 5, 7) -> y (1, 6): a convolution, its largest and its mean by channel side by side, the logarithm of a softmax."""
    arrays = {"k": f32(3, 3, 3, 3) * 0.3, "w": f32(6, 6) * 0.4, "b": f32(6)}
    nodes = [
        node("Conv", "x k", "c", "conv", pads=[1] * 4), node("ReduceMax", "c", "m", axes=[2, 3], keepdims=0),
        node("ReduceLogSumExp", "c", "a", axes=[2, 3], keepdims=0), node("Concat", "m a", "j", axis=1),
        node("Gemm", "j w b", "g", "fc"), node("LogSoftmax", "g", "y", axis=-1),
    ]
    return model_of(nodes, arrays, (1, 3, 5, 7), opset=17)


def masked() -> onnx.ModelProto:
    """x (1, 5, 7) -> y (1, 5, 7): rows that see what is before them, by a mask of the lowest number."""
    arrays = {"mask": np.triu(np.full((5, 5), np.finfo(np.float32).min), 1).astype(np.float32), "w": f32(7, 7) * 0.4}
    nodes = [
        node("MatMul", "x w", "q", "query"), node("Transpose", "x", "k", perm=[0, 2, 1]), node("MatMul", "q k", "s", "score"),
        node("Add", "s mask", "ms", "masked"), node("Softmax", "ms", "p", axis=-1), node("MatMul", "p q", "y", "out"),
    ]
    return model_of(nodes, arrays, (1, 5, 7), opset=17)


LAYERS = {
    "rnn": Layer("RNN", direction="bidirectional", batch=2), "gru": Layer("GRU", direction="reverse", starts=True, batch=3),
    "gru-after": Layer("GRU", reset_after=True, starts=True, steps=7), "lstm": Layer("LSTM", steps=7),
    "lstm-both": Layer("LSTM", direction="bidirectional", starts=True, batch=2), "lstm-one": Layer("LSTM", units=1, features=1),
    "lstm-peepholes": Layer("LSTM", direction="reverse", peepholes=True),
}
MODELS: dict[str, Saved] = {
    "transformer": saved(cct), "reduced": saved(reduced), "masked": saved(masked), "batchnorm": lambda folder: small(folder / "m.onnx"),
    **{name: layer.save for name, layer in LAYERS.items()},
}


def compiled(name: str, folder: Path, board: str = "host", dtype: Floats = "fp16", **optimiser: object) -> Compiled:
    loss = "ce" if name in ("transformer", "batchnorm") else "mse"
    chosen = Optimiser(0.02, **optimiser)  # type: ignore[arg-type]
    options = Options(board, loss, optimiser=chosen, dtype=dtype, running_statistics=name == "batchnorm", exact_seconds=0)
    return compile_model(MODELS[name](folder), options)


def wide(program: Compiled) -> set[Value]:
    """Floats of 32 bits in the arena of the training step, of arrays that are larger than the output, but statistics."""
    train = program.program.entries["train"]
    largest, kept = program.program.entries["infer"].outputs[0].type.numel, train.kept().union(*(n.wide for n in train.nodes))
    return {v for v in train.values() if v.role is Role.TEMP and v.type.dtype is F32 and v.type.numel > largest and v not in kept}


def test_all_maps_are_halves_but_one(tmp_path: Path) -> None:
    """The gradient of the position embedding, scaled and not: it is what an update follows."""
    program = compiled("transformer", tmp_path)
    train = program.program.entries["train"]
    content = contents(train)
    assert [v.type.numel for v in {content[v] for v in wide(program)}] == 2 * [TOKENS * WIDTH]
    for name in ("softmax", "softmax_grad", "normalise", "normalise_grad"):
        kinds = {v.type.dtype for n in train.nodes if n.op.name == name for v in (*n.inputs, *n.outputs) if v not in n.wide}
        assert kinds == {F16}, name
        statistics = {v.type.dtype for n in train.nodes if n.op.name == name for v in n.wide}
        assert statistics == ({F32} if "normalise" in name else set()), name


@pytest.mark.parametrize("name", LAYERS)
def test_sequences_are_halves(name: str, tmp_path: Path) -> None:
    program = compiled(name, tmp_path)
    assert not wide(program)
    assert {v.type.dtype for v in program.program.stored(Role.PARAM) if v.type.numel > 1} == {F16}


def test_batch_norms_keep_their_statistics(tmp_path: Path) -> None:
    program = compiled("batchnorm", tmp_path)
    assert not wide(program)
    norms = [n for n in program.program.entries["train"].nodes if n.op.name in ("batch_norm", "drift", "follow", "inverse_deviation")]
    assert norms and {n.inputs[0].type.dtype for n in norms if n.op.name in ("batch_norm", "drift")} == {F16}
    statistics = {v for n in norms if n.op.name in ("drift", "follow", "inverse_deviation") for v in (*n.inputs[1:], *n.outputs)}
    assert {v.type.dtype for v in statistics} == {F32}


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_float64(name: str, tmp_path: Path) -> None:
    """What the C of the fp16 program sums of one sample, against the fp32 program in float64: a few units of the last place of a half."""
    programs = {dtype: compiled(name, tmp_path, dtype=dtype, accumulate=2) for dtype in ("fp32", "fp16")}
    golden = golden_vectors(programs["fp32"].program, 1)
    exact = ReferenceModel(programs["fp32"].program, np.float64)
    exact.train_step(golden.x[0], golden.target[0])
    device = Library(programs["fp16"], tmp_path).instance()
    device.train_step(golden.x[0], golden.target[0])
    found, sums = device.stored(), {v.name: v for v in programs["fp32"].program.sums()}
    assert sums and sums.keys() == {v.name for v in programs["fp16"].program.sums()}
    # that of what a softmax takes away, as the bias of keys, is 0 but for rounding
    least = 1e-2 * max(np.linalg.norm(exact.state[v]) for v in sums.values())
    for key, v in sums.items():
        error = np.linalg.norm(found[key].astype(np.float64) - exact.state[v])
        assert error < 0.01 * max(np.linalg.norm(exact.state[v]), least), key


@pytest.mark.parametrize("name", MODELS)
def test_c_learns_as_the_reference(name: str, tmp_path: Path) -> None:
    program = compiled(name, tmp_path, momentum=0.9)
    device, reference, golden = Library(program, tmp_path).instance(), ReferenceModel(program.program), golden_vectors(program.program, 5)
    for x, target in zip(golden.x, golden.target, strict=True):
        np.testing.assert_allclose(device.train_step(x, target), reference.train_step(x, target), rtol=2e-3)
    stored = device.stored()
    for v in program.program.stored(Role.PARAM):
        np.testing.assert_allclose(stored[v.name].astype(np.float32), reference.state[v].astype(np.float32), rtol=8e-3, atol=4e-4)


@pytest.mark.parametrize("name", ["transformer", "gru-after", "lstm-both"])
def test_boards_equal_the_host_twin_bit_for_bit(name: str, tmp_path: Path) -> None:
    boards = ["mps2-an385", "mps2-an500", "mps3-an547", "riscv-virt-zvfh"]
    golden = golden_vectors(compiled(name, tmp_path).program, 4)
    assert_boards_equal_twins(boards, lambda board: compiled(name, tmp_path, board), golden, tmp_path)


@pytest.mark.parametrize(("name", "most"), [("transformer", (0.66, 0.53)), ("lstm", (0.80, 0.70)), ("gru-after", (0.80, 0.70))])
def test_arena(name: str, most: tuple[float, float], tmp_path: Path) -> None:
    """With masters and without. A step of a small layer that stands apart is no small part of seven."""
    whole = compiled(name, tmp_path, dtype="fp32").plan.arena_bytes
    for master, share in zip((True, False), most, strict=True):
        assert compiled(name, tmp_path, master=master).plan.arena_bytes <= share * whole


def test_gradients_read_what_their_op_reads() -> None:
    """Constants become halves before there are gradients: no op may read one so whose gradient cannot."""
    for name, kind in registry().items():
        for example in kind.examples if kind.differentiable else ():
            op, floats = example.op, [t for t in example.inputs if t.dtype is F32]
            whole = not (isinstance(op, Fusable) and op.then) and not (isinstance(op, ReadsPieces) and op.pieces)
            if not floats or not whole or isinstance(op, Loss | Quantise):
                continue
            g = Builder("gradient")
            inputs = [g.input("x", t.shape, t.dtype, t.quant) for t in example.inputs]
            outputs = g.emit_all(op, *inputs)
            node = g.nodes[-1]
            grads = [g.input("d", v.shape) if v.type.dtype.is_float and i not in op.byproducts else None for i, v in enumerate(outputs)]
            op.vjp(g, inputs, outputs, grads, tuple(Want() if t.dtype is F32 else None for t in example.inputs))
            halves = {v for v in inputs if v not in fixed(node)}
            assert not [(n.op.name, v) for n in g.nodes[1:] for v in fixed(n) if v in halves and v.type.numel > 1], name
