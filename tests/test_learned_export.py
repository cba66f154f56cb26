# SPDX-License-Identifier: Apache-2.0
"""Whatever was trained is in learned.onnx, in whatever form the model stored it, or the export says no."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli_runs import save_text, sentence, succeed
from onnx import numpy_helper

import tinytrain
from tinytrain.compiler import Compiled, Options, compile_model, describe
from tinytrain.device.manifest import Manifest, Port
from tinytrain.errors import ModelError
from tinytrain.frontend.export import changed_forms, export
from tinytrain.frontend.new_head import NewHead
from tinytrain.frontend.stored import stored_tensors
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Array, Role
from tinytrain.learn import export as learn_export
from tinytrain.learn.export import evaluated
from tinytrain.schemes.scheme import Scheme, Select
from tinytrain.verify.reference import ReferenceModel

RNG = np.random.default_rng(11)
DENSE = "g (float[1,6] x) => (float[1,4] y) "
QUANTISED = "xq = QuantizeLinear(x, xs, xz) xd = DequantizeLinear(xq, xs, xz)"
RESULT = "hq = QuantizeLinear(h, hs, xz) y = DequantizeLinear(hq, hs, xz)"


def f(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def quantising(zero: int = 3, dtype: Any = np.int8) -> dict[str, Array]:
    return {"xs": np.array(0.03, np.float32), "xz": np.array(zero, dtype), "hs": np.array(0.05, np.float32)}


def integers(
    shape: tuple[int, ...], zero: int, dtype: Any = np.int8, low: int = -128, high: int = 127, rows: bool = False
) -> dict[str, Array]:
    """A stored weight that reaches from low to high, its zero point and its scales: one, or one for each row."""
    scale = RNG.uniform(0.005, 0.02, shape[0]).astype(np.float32) if rows else np.array(0.01, np.float32)
    numbers = RNG.integers(low, high + 1, shape)
    numbers.flat[:2] = low, high
    return {"w": numbers.astype(dtype), "s": scale, "z": np.full(scale.shape, zero, dtype)}


def dense_of(weight: str) -> str:
    return DENSE + f"{{ {weight} {QUANTISED} [fc] h = Gemm(xd, wd, b) {RESULT} }}"


DEQUANTISED = "wd = DequantizeLinear(w, s, z)"
# name → model, its arrays, options; and what of it is stored in another form
CASES: dict[str, tuple[str, dict[str, Array], dict[str, Any], tuple[str, ...]]] = {
    "uint8 weights with a zero point": (
        dense_of(DEQUANTISED), {**integers((6, 4), 161, np.uint8, 0, 255), **quantising(128, np.uint8), "b": f(4)}, {},
        ("w as the float32 wd that was trained",),
    ),
    "asymmetric int8 weights": (
        dense_of(DEQUANTISED), {**integers((6, 4), -20), **quantising(), "b": f(4)}, {}, ("w as the float32 wd that was trained",),
    ),
    "a scale for each channel, and a factor": (
        f"""g (float[1,8,2,3] x) => (float[1,3,2,3] y) {{ wd = DequantizeLinear<axis = 0>(w, s, z) {QUANTISED} [c] h = Conv(xd, wd, b)
             hq = QuantizeLinear(h, hs, xz) hd = DequantizeLinear(hq, hs, xz) [m] y = Mul(hd, k) }}""",
        {**integers((3, 8, 1, 1), 5, rows=True), **quantising(), "b": f(3), "k": f(3, 1, 1)}, {}, ("w as the float32 wd that was trained",),
    ),
    "int8 weights, a bias of its own scale": (
        dense_of(f"{DEQUANTISED} b = DequantizeLinear(bq, bs)"),
        {**integers((6, 4), 0), **quantising(), "bq": RNG.integers(-99, 99, 4).astype(np.int8), "bs": np.array(0.02, np.float32)}, {},
        ("bq as the float32 b that was trained",),
    ),
    "int8 weights that leave their type": (
        dense_of(DEQUANTISED), {**integers((6, 4), 140, np.uint8, 20, 255), **quantising(128, np.uint8), "b": f(4)},
        {"optimiser": Optimiser(3.0)}, ("w with its zero point in the middle of its type",),
    ),
    "6 bits": (
        DENSE + f"""{{ wc = Clip(w, low, high) wd = DequantizeLinear(wc, s, z) xq = QuantizeLinear(x, xs, xz) xc = Clip(xq, low, high)
                      xd = DequantizeLinear(xc, xs, xz) [fc] h = Gemm(xd, wd, b) {RESULT} }}""",
        {**integers((6, 4), 0, low=-31, high=31), **quantising(0), "b": f(4), "low": np.array(-31, np.int8), "high": np.array(31, np.int8)},
        {}, ("wc as the float32 wd that was trained",),
    ),
    "int8, plain": (dense_of(DEQUANTISED), {**integers((6, 4), 0), **quantising(), "b": f(4)}, {}, ()),
    "a part of weights computed in fp32": (
        dense_of(DEQUANTISED), {**integers((6, 4), -20), **quantising(), "b": f(4)},
        {"scheme": Scheme({"fc": {"weight": Select(0.5), "bias": Select()}})}, ("w as the float32 wd that was trained",),
    ),
    "folded, tied and scaled": (
        DENSE + """{ [t] wt = Transpose(w) [a] h = MatMul(x, wt) [n] t = BatchNormalization(h, ga, be, mu, va) [b] u = Gemm(t, wt, b1)
                     [c] v = Gemm<beta = 0.5>(u, w2, b2) [m] o = Mul(v, k) [r] d = Unsqueeze(d0, zero) [q] y = Sub(d, o) }""",
        {"w": f(6, 6), "ga": f(6), "be": f(6), "mu": f(6), "va": abs(f(6)) + 0.5, "b1": f(6), "w2": f(6, 4), "b2": f(1, 4), "k": f(4),
         "d0": f(4), "zero": np.array([0])}, {"optimiser": Optimiser(1e-4)}, (),
    ),
    "recurrent, both biases of one initializer": (
        """g (float[1,5,3] x) => (float[1,4] y) { t = Transpose<perm = [1, 0, 2]>(x)
             [l] s = LSTM<hidden_size = 4, direction = "reverse">(t, wl, rl, bl, , , , p) [q] u = Squeeze(s, one)
             [r] v, h = GRU<hidden_size = 4, linear_before_reset = 1>(u, wg, rg, bg) [z] y = Squeeze(h, zero) }""",
        {"wl": f(1, 16, 3), "rl": f(1, 16, 4), "bl": f(1, 32), "p": f(1, 12), "wg": f(1, 12, 4), "rg": f(1, 12, 4), "bg": f(1, 24),
         "one": np.array([1]), "zero": np.array([0])}, {}, (),
    ),
    "a new head": (
        DENSE + "{ [a] h = MatMul(x, w) [r] t = Relu(h) [b] u = MatMul(t, w2) [c] y = Add(u, b2) }",
        {"w": f(6, 6), "w2": f(6, 4), "b2": f(4)}, {"new_head": NewHead(3)}, (),
    ),
}


def learned(compiled: Compiled, model: ReferenceModel) -> dict[str, Array]:
    """What a reference has learned, as `train` reads it from a device."""
    before = stored_tensors(compiled.prepared.model)
    found: dict[str, Array] = {}
    for v in compiled.program.stored(Role.PARAM):
        assert v.source is not None
        name = v.source.initializer
        found[name] = v.source.to_onnx(model.state[v], found.get(name, before[name]))
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_exported_model_computes_what_was_learned(name: str, tmp_path: Path) -> None:
    text, arrays, given, forms = CASES[name]
    options = Options(loss="mse", optimiser=Optimiser(0.1), exact_seconds=0)
    options = dataclasses.replace(options, **given)
    compiled = compile_model(save_text(tmp_path / "m.onnx", text, **arrays), options)
    model = ReferenceModel(compiled.program)
    port = Manifest.of(describe(compiled), tmp_path).input
    rng, outs = np.random.default_rng(0), compiled.imported.graph.outputs[0].shape
    samples = rng.normal(size=(3, *port.shape)).astype(np.float32)
    for x in [*samples] * 3:
        model.train_step(x, rng.normal(0, 3, outs).astype(np.float32))
    made = export(compiled.prepared.model, learned(compiled, model), "m.onnx")
    perm = np.argsort(compiled.imported.output.perm)
    want = np.array([model.infer(x).reshape(outs).transpose(perm).reshape(-1) for x in samples])
    found, before = (evaluated(m, port, samples).reshape(want.shape) for m in (made, compiled.prepared.model))
    step = 0.051 if "hs" in arrays else 1e-5
    assert np.abs(found - want).max() <= step
    assert np.abs(before - want).max() > 4 * step, "nothing was learned that could be lost"
    assert tuple(changed_forms(compiled.prepared.model, made)) == forms
    assert {n.name for n in made.graph.node} <= {n.name for n in compiled.prepared.model.graph.node}


# --- what the export refuses --------------------------------------------------------------------------------------


def stored(folder: Path, zero: int = 0, dtype: Any = np.int8) -> onnx.ModelProto:
    arrays = {**integers((6, 4), zero, dtype, 1, 100), **quantising(), "b": f(4)}
    return onnx.load(save_text(folder / "m.onnx", dense_of(DEQUANTISED), **arrays))


def test_learned_reals_take_the_place_of_their_integers(tmp_path: Path) -> None:
    model = stored(tmp_path)
    reals = f(6, 4)
    made = export(model, {"wd": reals}, "m.onnx")
    arrays = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    np.testing.assert_array_equal(arrays["wd"], reals)
    assert not {"w", "s", "z"} & set(arrays), "integers that nobody reads any more"
    assert "wd" not in {n.output[0] for n in made.graph.node}
    assert "w" in {t.name for t in model.graph.initializer}, "the model that was given is changed"


@pytest.mark.parametrize(("dtype", "zero", "middle"), [(np.uint8, 40, 128), (np.int8, 60, 0)])
def test_integers_past_their_type_are_stored_about_its_middle(dtype: Any, zero: int, middle: int, tmp_path: Path) -> None:
    """All that an int8 weight about zero can learn: nothing is clipped, whoever else reads the zero point."""
    model = stored(tmp_path, zero, dtype)
    numbers = np.linspace(-128, 127, 24).round().astype(np.int32).reshape(6, 4) + zero
    made = export(model, {"w": numbers}, "m.onnx")
    arrays = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    node = next(n for n in made.graph.node if n.output[0] == "wd")
    assert arrays["w"].dtype == arrays[node.input[2]].dtype == dtype
    assert arrays[node.input[2]] == middle
    np.testing.assert_array_equal(stored_tensors(made)["wd"], ((numbers - zero) * np.float64(np.float32(0.01))).astype(np.float32))
    assert arrays["z"] == zero if "z" in arrays else True


def test_what_is_not_in_the_model_or_does_not_fit_it_is_refused(tmp_path: Path) -> None:
    model = stored(tmp_path)
    for values, said in (
        ({"nobody": f(3)}, "m.onnx has no initializer nobody"), ({"wd": f(4, 6)}, r"wd has the shape \(6, 4\), the learned array \(4, 6\)"),
        ({"wd": f(6, 4) * np.nan}, "wd holds NaN"),
        ({"w": np.full((6, 4), 999)}, "the learned w reaches from 999 to 999, which int8 cannot hold"),
    ):
        with pytest.raises(ModelError, match=said):
            export(model, values, "m.onnx")


# --- the command line ---------------------------------------------------------------------------------------------


def project(folder: Path) -> tuple[Path, Path]:
    """A compiled model whose uint8 weights run in fp32, and data to train it with."""
    text, arrays, *_ = CASES["uint8 weights with a zero point"]
    model = save_text(folder / "m.onnx", text, **arrays)
    rng = np.random.default_rng(3)
    y = rng.integers(0, 4, 30)
    np.savez(folder / "data.npz", x=(rng.normal(size=(4, 6))[y] + rng.normal(0, 0.3, (30, 6))).astype(np.float32), y=y)
    succeed("compile", model, "--lr", 0.05, "-o", folder / "p")
    return folder / "p", folder / "data.npz"


def test_train_writes_what_it_learned_and_compares_it_with_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, data = project(tmp_path)
    said = succeed("train", folder, "--data", data, "--epochs", 2).splitlines()
    assert "learned.onnx  stores w as the float32 wd that was trained" in said
    (equal,) = (line for line in said if line.startswith("learned.onnx  equals the device on 3 samples, largest difference "))
    assert float(equal.split()[-1]) <= 1e-6
    succeed("infer", folder, "--data", data, "--learned", "-o", tmp_path / "device.npz")
    model, x = onnx.load(folder / "learned.onnx"), np.load(data)["x"]
    port = Port((6,), (1, 6), (0,), None)
    device = np.load(tmp_path / "device.npz")["y"]
    np.testing.assert_allclose(evaluated(model, port, x).reshape(device.shape), device, atol=1e-6)
    assert np.abs(evaluated(onnx.load(folder / "model.onnx"), port, x).reshape(device.shape) - device).max() > 0.5

    monkeypatch.setattr(learn_export, "MOST_MACS", 0)
    unknown = "learned.onnx  not compared with the device: "
    assert f"{unknown}24 MACs are too many for onnx's evaluator" in succeed("train", folder, "--data", data, "--force")
    monkeypatch.undo()
    monkeypatch.setattr(learn_export, "quantising", lambda: (object,))
    assert f"{unknown}onnx's evaluator cannot run it (" in succeed("train", folder, "--data", data, "--force")


def test_train_keeps_what_it_learned_where_the_export_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault put in: the export forgets the weights."""
    from tinytrain.frontend import export as frontend_export

    folder, data = project(tmp_path)
    put = frontend_export.export
    monkeypatch.setattr(frontend_export, "export", lambda model, values, where: put(model, {"b": values["b"]}, where))
    said = sentence("train", folder, "--data", data, "--epochs", 3)
    assert f"{folder / 'learned.onnx'} does not compute what the device does: on 3 samples they differ by up to" in said
    assert f"{folder / 'learned.npz'} holds what was learned." in said
    assert not (folder / "learned.onnx").exists()
    assert set(np.load(folder / "learned.npz").files) >= {"wd", "b"}
    succeed("infer", folder, "--data", data, "--learned")


def test_the_device_is_as_before_behind_what_it_was_compared_by(tmp_path: Path) -> None:
    """Where layers round the compiled weights run too; thresholds, counters and all that was learned stay."""
    folder, data = project(tmp_path)
    with np.load(data) as file, tinytrain.open(folder).device() as device:
        x, y, session = file["x"], file["y"].astype(np.int32), device.session
        before = [session.infer(row) for row in x[:3]]
        session.train_step(x[0], y[0])
        session.set_skip_below(100.0)
        session.train_step(x[1], y[1])
        learned = session.get_params()
        np.testing.assert_array_equal(learn_export._untrained(device.project, session, x[:3]), before)
        session.train_step(x[2], y[2])
        assert session.counters().skipped == 2
        for name, array in session.get_params().items():
            np.testing.assert_array_equal(array, learned[name])


def test_a_model_that_takes_integers_is_compared_too(tmp_path: Path) -> None:
    """Its samples are the reals that they stand for."""
    text = "g (uint8[1,6] x) => (float[1,4] y) { xd = DequantizeLinear(x, xs, xz) [fc] y = Gemm(xd, w, b) }"
    model = onnx.load(save_text(tmp_path / "m.onnx", text, **quantising(128, np.uint8), w=f(6, 4), b=f(4)))
    x = np.array([[-1.2, 0, 0.3, 0.6, 2.1, 9]], np.float32)
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    want = np.minimum(x, 0.03 * 127) @ arrays["w"] + arrays["b"]
    found = evaluated(model, Port((6,), (1, 6), (0,), None), x)
    np.testing.assert_allclose(found.reshape(want.shape), want, atol=1e-5)
