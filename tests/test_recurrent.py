# SPDX-License-Identifier: Apache-2.0
"""LSTM, GRU and RNN of ONNX: against the standard's formulas written out step by step, onnxruntime, and boards; gradients in float64."""

from __future__ import annotations

import dataclasses
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli_runs import sentence, succeed
from frontend_models import infer
from onnx import helper, numpy_helper
from oracle_session import session_of
from test_traces import assert_reference, assert_same_bits, compiled, need, trace

from tinytrain.compiler import Options, compile_model
from tinytrain.emit.golden import golden_vectors
from tinytrain.frontend.onnx_import import Imported, import_model
from tinytrain.frontend.prepare import prepare
from tinytrain.gradient.objective import losses, with_loss
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Array
from tinytrain.ops.gru import Gru
from tinytrain.ops.lstm import Lstm
from tinytrain.ops.recurrent import Recurrent, RecurrentGrad, RecurrentGradR
from tinytrain.target.board import load_board
from tinytrain.verify.checks import central_differences, model_gradients

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def sigmoid(a: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-a)))


@dataclass(frozen=True)
class Layer:
    """A recurrent node over (1, steps·batch·features), all of whose outputs make one row."""

    kind: str
    steps: int = 4
    batch: int = 1
    features: int = 3
    units: int = 5
    direction: str = "forward"
    layout: int = 0
    reset_after: bool = False
    peepholes: bool = False
    biased: bool = True
    starts: bool = False
    relu: bool = False

    @property
    def ways(self) -> int:
        return 1 + (self.direction == "bidirectional")

    def arrays(self) -> dict[str, Array]:
        rng = np.random.default_rng(7)
        rows, state = GATES[self.kind] * self.units, (self.ways, self.batch, self.units)
        shapes = {"w": (self.ways, rows, self.features), "r": (self.ways, rows, self.units)}
        shapes |= {"b": (self.ways, 2 * rows)} if self.biased else {}
        shapes |= {"h0": state} if self.starts else {}
        shapes |= {"c0": state} if self.starts and self.kind == "LSTM" else {}
        shapes |= {"p": (self.ways, 3 * self.units)} if self.peepholes else {}
        return {name: rng.uniform(-0.6, 0.6, shape).astype(np.float32) for name, shape in shapes.items()}

    def save(self, folder: Path, opset: int = 17, **attributes: Any) -> Path:
        arrays = self.arrays()
        turned = ("h0", "c0") if self.layout else ()
        stored = {name: np.ascontiguousarray(a.transpose(1, 0, 2)) if name in turned else a for name, a in arrays.items()}
        axes = (self.batch, self.steps) if self.layout else (self.steps, self.batch)
        operands = [name if name in ("x", *arrays) else "" for name in ("x", "w", "r", "b", "lengths", "h0", "c0", "p")]
        operands[0] = "sequence"
        while not operands[-1]:
            operands.pop()
        more: dict[str, Any] = {"hidden_size": self.units, "direction": self.direction, "layout": self.layout}
        more |= {"linear_before_reset": 1} if self.reset_after else {}
        more |= {"activations": ["Relu"] * self.ways} if self.relu else {}
        outputs = ["y0", "y1", "y2"][: 3 if self.kind == "LSTM" else 2]
        nodes = [
            helper.make_node("Reshape", ["x", "axes"], ["sequence"], "into"),
            helper.make_node(self.kind, operands, outputs, "layer", **more, **attributes),
            *(helper.make_node("Reshape", [y, "row"], [f"{y}r"], f"flat_{y}") for y in outputs),
            helper.make_node("Concat", [f"{y}r" for y in outputs], ["y"], "all", axis=1),
        ]
        stored |= {"axes": np.array([*axes, self.features]), "row": np.array([1, -1])}
        x = helper.make_tensor_value_info("x", 1, (1, self.steps * self.batch * self.features))
        graph = helper.make_graph(
            nodes, "g", [x], [helper.make_tensor_value_info("y", 1, None)], [numpy_helper.from_array(a, name) for name, a in stored.items()]
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.save(onnx.shape_inference.infer_shapes(model), folder / "m.onnx")
        return folder / "m.onnx"

    def outputs(self, x: Array, arrays: dict[str, Array]) -> Array:
        """The formulas of the standard, one step after the other; all outputs in a row."""
        sequence = x.reshape(self.batch, self.steps, -1).transpose(1, 0, 2) if self.layout else x.reshape(self.steps, self.batch, -1)
        every = np.zeros((self.steps, self.ways, self.batch, self.units), x.dtype)
        last = np.zeros((2, self.ways, self.batch, self.units), x.dtype)
        for d in range(self.ways):
            h, c = (arrays[s][d] if s in arrays else np.zeros((self.batch, self.units), x.dtype) for s in ("h0", "c0"))
            back = self.direction == "reverse" or d == 1
            for t in reversed(range(self.steps)) if back else range(self.steps):
                h, c = self._step(sequence[t], h, c, {name: a[d] for name, a in arrays.items() if name not in ("h0", "c0")})
                every[t, d] = h
            last[:, d] = h, c
        made = [every, *last[: 2 if self.kind == "LSTM" else 1]]
        if self.layout:
            made = [every.transpose(2, 0, 1, 3), *(state.transpose(1, 0, 2) for state in made[1:])]
        return np.concatenate([y.reshape(1, -1) for y in made], axis=1)

    def _step(self, x: Array, h: Array, c: Array, a: dict[str, Array]) -> tuple[Array, Array]:
        w, r = (np.split(a[name], GATES[self.kind]) for name in ("w", "r"))
        bias = a.get("b", np.zeros(2 * GATES[self.kind] * self.units))
        bw, br = (np.split(half, GATES[self.kind]) for half in np.split(bias, 2))
        pi, po, pf = np.split(a.get("p", np.zeros(3 * self.units)), 3)
        given = [x @ w[k].T + bw[k] for k in range(GATES[self.kind])]
        if self.kind == "RNN":
            total = given[0] + h @ r[0].T + br[0]
            return np.maximum(total, 0) if self.relu else np.tanh(total), c
        if self.kind == "GRU":
            z, reset = (sigmoid(given[k] + h @ r[k].T + br[k]) for k in (0, 1))
            inner = reset * (h @ r[2].T + br[2]) if self.reset_after else (reset * h) @ r[2].T + br[2]
            return (1 - z) * np.tanh(given[2] + inner) + z * h, c
        i, o, f, n = (given[k] + h @ r[k].T + br[k] for k in range(4))
        new = sigmoid(f + pf * c) * c + sigmoid(i + pi * c) * np.tanh(n)
        return sigmoid(o + po * new) * np.tanh(new), new


LAYERS = {
    "rnn": Layer("RNN"),
    "rnn-relu-both": Layer("RNN", direction="bidirectional", relu=True, batch=2),
    "gru": Layer("GRU"),
    "gru-reverse-starts": Layer("GRU", direction="reverse", starts=True, batch=3),
    "gru-after": Layer("GRU", reset_after=True, starts=True),
    "gru-after-both": Layer("GRU", reset_after=True, direction="bidirectional", batch=2),
    "gru-after-unbiased": Layer("GRU", reset_after=True, biased=False, units=1, features=1),
    "lstm": Layer("LSTM"),
    "lstm-both-starts": Layer("LSTM", direction="bidirectional", starts=True, batch=2),
    "lstm-reverse-peepholes": Layer("LSTM", direction="reverse", peepholes=True, starts=True),
    "lstm-one-step": Layer("LSTM", steps=1, biased=False),
    "lstm-batch-first": Layer("LSTM", layout=1, batch=2, starts=True),
    "gru-batch-first-both": Layer("GRU", layout=1, batch=2, direction="bidirectional"),
}


def imported(path: Path, **options: Any) -> Imported:
    return import_model(prepare(path), **options)


def sample(layer: Layer) -> Array:
    return np.random.default_rng(3).normal(size=(1, layer.steps * layer.batch * layer.features)).astype(np.float32)


@pytest.mark.parametrize("name", LAYERS)
def test_layer_computes_what_the_standard_says(name: str, tmp_path: Path) -> None:
    layer = LAYERS[name]
    path, x = layer.save(tmp_path), sample(layer)
    want = layer.outputs(x.astype(np.float64), {k: a.astype(np.float64) for k, a in layer.arrays().items()})
    np.testing.assert_allclose(infer(imported(path), x), want, rtol=1e-5, atol=1e-6)
    if not layer.layout and importlib.util.find_spec("onnxruntime"):
        np.testing.assert_allclose(session_of(onnx.load(path)).run(None, {"x": x})[0], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_all_that_is_trained(name: str, tmp_path: Path) -> None:
    """Of each weight, both halves of each bias, and peepholes, against differences of the standard's formulas."""
    layer = LAYERS[name]
    model = imported(layer.save(tmp_path))
    loss_op = losses()["mse"]()
    graph, _, loss = with_loss(model.graph, loss_op)
    x, target = sample(layer).astype(np.float64), np.random.default_rng(5).normal(size=graph.inputs[1].shape)
    wanted = list(model.params.values())
    assert {v.source.initializer for v in wanted if v.source} == layer.arrays().keys() - {"h0", "c0"}
    found = model_gradients(graph, loss, wanted, [x[0], target])
    arrays = {k: a.astype(np.float64) for k, a in layer.arrays().items()}

    def value() -> float:
        return float(loss_op.reference(layer.outputs(x, arrays).reshape(target.shape), target)[0].reshape(-1)[0])

    for v in wanted:
        assert v.source is not None
        gradient, array = v.source.to_onnx(found[v]).reshape(-1), arrays[v.source.initializer]
        at = np.random.default_rng(2).choice(array.size, min(12, array.size), replace=False)
        slopes, smooth = central_differences(value, array, [int(i) for i in at])
        assert smooth.sum() * 2 >= smooth.size
        np.testing.assert_allclose(gradient[at][smooth], slopes[smooth], rtol=1e-6, atol=1e-9, err_msg=v.name)


@pytest.mark.parametrize("op", [Lstm(), Lstm("reverse"), Gru(), Gru(reset_after=True)], ids=str)
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_truncated_gradients_are_those_of_pieces(op: Recurrent, cut: int) -> None:
    """Cut at each k-th step, they are sums over pieces of k steps, each of which starts from a state that is given."""
    rng, steps, units = np.random.default_rng(1), 5, 3
    x, r = rng.normal(size=(steps, 2, op.gates * units)), rng.normal(size=(1, op.gates * units, units))
    more = [rng.normal(size=(1, 3 * units))] if "rb" in op.args else []
    dy = rng.normal(size=(steps, 2, 1, units))
    time = list(op.time(steps, 0))

    def gradients(cell: Recurrent, at: list[int], starts: list[Array]) -> tuple[list[Array], list[Array], Array]:
        """The last states; dx and what else is of each step; dR."""
        at = sorted(at)
        arrays = dict(zip(cell.args, [x[at], r, *starts, *more], strict=True))
        made = arrays | dict(zip(cell.results, cell.reference(*arrays.values()), strict=True)) | {"dy": dy[at]}
        back, back_r = RecurrentGrad(cell, ("dy",)), RecurrentGradR(cell)
        made |= dict(zip(back.results, back.reference(*(made[name] for name in back.args)), strict=True))
        return [made[s] for s in cell.states], [made[left] for left in cell.lefts], back_r.reference(*(made[n] for n in back_r.args))[0]

    start = [rng.normal(size=(2, 1, units)) for _ in op.states]
    _, lefts, dr = gradients(dataclasses.replace(op, truncate=cut), time, start)
    total, states = np.zeros_like(dr), start
    for first in range(0, steps, cut):
        at = time[first : first + cut]
        states, part, part_r = gradients(op, at, states)
        total += part_r
        for whole, piece in zip(lefts, part, strict=True):
            np.testing.assert_allclose(whole[sorted(at)], piece)
    np.testing.assert_allclose(dr, total)


def spotter(folder: Path, kind: str) -> Path:
    """A keyword spotter: (1, 6, 4) → Transpose → the last step of a recurrent layer → Gemm → 3 classes."""
    rng, rows, more = np.random.default_rng(4), GATES[kind] * 5, {"linear_before_reset": 1} if kind == "GRU" else {}
    arrays = {"w": (1, rows, 4), "r": (1, rows, 5), "b": (1, 2 * rows), "v": (3, 5), "d": (3,)}
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], "first", perm=[1, 0, 2]),
        helper.make_node(kind, ["t", "w", "r", "b"], ["", "h"], "cell", hidden_size=5, **more),
        helper.make_node("Squeeze", ["h", "zero"], ["s"], "last"),
        helper.make_node("Gemm", ["s", "v", "d"], ["y"], "classes", transB=1),
    ]
    stored = [numpy_helper.from_array(rng.uniform(-0.7, 0.7, shape).astype(np.float32), name) for name, shape in arrays.items()]
    ends = [helper.make_tensor_value_info("x", 1, (1, 6, 4))], [helper.make_tensor_value_info("y", 1, (1, 3))]
    graph = helper.make_graph(nodes, "spotter", *ends, [*stored, numpy_helper.from_array(np.array([0]), "zero")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "spotter.onnx")
    return folder / "spotter.onnx"


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_spotter_trains_alike_on_all(kind: str, tmp_path: Path) -> None:
    """Ten steps in NumPy, on the twins, and on boards bit for bit as these."""
    model, optimiser = spotter(tmp_path, kind), Optimiser(0.1)
    golden = golden_vectors(compiled(model, "host", optimiser).program, 10)
    twins = {}
    for board in ("mps2-an500", "riscv-virt"):
        need(board)
        twin = load_board(board).twin
        if twin not in twins:
            twins[twin] = trace(compiled(model, twin, optimiser), golden, tmp_path / twin)
            assert_reference(twins[twin], golden)
        assert_same_bits(trace(compiled(model, board, optimiser), golden, tmp_path / board), twins[twin])


def test_gradients_need_no_room_beside_what_is_kept(tmp_path: Path) -> None:
    """x, the gates and their gradient are one array, one after the other; inference keeps one step."""
    program = compile_model(spotter(tmp_path, "LSTM"), Options(exact_seconds=0)).plan
    x, gates, state = 6 * 4 * 4, 6 * 20 * 4, 6 * 5 * 4
    assert program.entries["train"].arena_bytes - program.fixed_bytes <= x + gates + 2 * state + 4 * 20 * 3 + 64
    assert program.entries["infer"].arena_bytes - program.fixed_bytes <= x + gates + 4 * (20 + 3 * 5) + 96


def test_bptt_reaches_the_device(tmp_path: Path) -> None:
    path = spotter(tmp_path, "GRU")
    cells = [n.op for n in imported(path, truncate=2).graph.nodes if isinstance(n.op, Recurrent)]
    assert [cell.truncate for cell in cells] == [2]
    for options in ((), ("--bptt", 2)):
        succeed("compile", path, *options, "--no-build", "-o", tmp_path / f"p{len(options)}")
    cut, whole = ((tmp_path / f"p{n}" / "lib" / "spotter_kernels.h").read_text() for n in (2, 0))
    assert "truncate=2" in cut and "truncate" not in whole
    assert "'--bptt': -1 is not in the range x>=0" in sentence("compile", path, "--bptt", -1, "-o", tmp_path / "never")


def test_quantize_says_what_it_cannot(tmp_path: Path) -> None:
    """Its points are first outputs; the last state is none."""
    data = tmp_path / "data.npz"
    np.savez(data, x=np.random.default_rng(0).normal(size=(20, 6, 4)).astype(np.float32), y=np.arange(20) % 3)
    said = sentence("quantize", spotter(tmp_path, "LSTM"), "--data", data, "-o", tmp_path / "q.onnx")
    assert "cell (LSTM)" in said and "its output h is used; expected nodes of which the first output alone is." in said


REFUSED: dict[str, tuple[Layer, dict[str, Any], str]] = {
    "clip": (Layer("LSTM"), {"clip": 3.0}, "it clips what its functions are given (clip), expected no bounds"),
    "input_forget": (
        Layer("LSTM"), {"input_forget": 1}, "it couples its input and forget gates (input_forget), expected gates of their own",
    ),
    "function": (Layer("RNN"), {"activations": ["Softsign"]}, "it has Softsign, expected Sigmoid, Tanh, Relu or LeakyRelu"),
    "slope": (
        Layer("RNN"), {"activations": ["LeakyRelu"], "activation_alpha": [-0.5]},
        "a slope of -0.5: only slopes of 0 and above are supported",
    ),
    "functions": (Layer("GRU"), {"activations": ["Tanh"]}, "it has 1 activations, expected 2"),
    "backwards": (
        Layer("RNN", direction="bidirectional"), {"activations": ["Tanh", "Relu"]},
        "it has other activations backwards than forwards, expected the same",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_said(name: str, tmp_path: Path) -> None:
    layer, attributes, said = REFUSED[name]
    kind = layer.kind
    assert f"layer ({kind}) in {tmp_path / 'm.onnx'}: {said}." in sentence(
        "compile", layer.save(tmp_path, **attributes), "--no-build", "-o", tmp_path / "never"
    )


def test_operands_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    def said(name: str, array: Array, index: int) -> str:
        model = onnx.load(Layer("LSTM").save(tmp_path))
        node = next(n for n in model.graph.node if n.name == "layer")
        node.input.extend([""] * (index + 1 - len(node.input)))
        node.input[index] = name
        kept = [t for t in model.graph.initializer if t.name != name]
        del model.graph.initializer[:]
        model.graph.initializer.extend([*kept, numpy_helper.from_array(array, name)])
        onnx.save(model, tmp_path / "m.onnx")
        return sentence("compile", tmp_path / "m.onnx", "--no-build", "-o", tmp_path / "never")

    assert "its sequence_lens are 3, expected all 4 steps" in said("lengths", np.array([3], np.int32), 4)
    assert "its operand b has the shape (1, 20), expected (1, 40)" in said("b", np.zeros((1, 20), np.float32), 3)
    assert "its operand r has the shape (), expected (1, 20, 5)" in said("r", np.zeros((), np.float32), 2)
    assert "its operand r has the shape (1, 24, 6), expected (1, 20, 5)" in said("r", np.zeros((1, 24, 6), np.float32), 2)
    assert "its operand p has the shape (1, 5), expected (1, 15)" in said("p", np.zeros((1, 5), np.float32), 7)
