# SPDX-License-Identifier: Apache-2.0
"""What a scheme says that it trains, what is trained, what stays frozen and is said, and what verify notices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import run, save_text, sentence, succeed

from tinytrain.compiler import Options, compile_model, describe, load_forward
from tinytrain.errors import SchemeError
from tinytrain.frontend.trainable import Constants, Frozen
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.builder import Builder
from tinytrain.ir.integer import Scaled
from tinytrain.ir.types import Array, Role
from tinytrain.ops.elementwise import Mul
from tinytrain.schemes import scheme as schemes
from tinytrain.schemes.scheme import Scheme, Select, check_trains, layers, preset
from tinytrain.verify.model import verify_model
from tinytrain.verify.reference import ReferenceModel

RNG = np.random.default_rng(5)


def f(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def scalar(number: float) -> Array:
    return np.array(number, np.float32)


DENSE = "g (float[1,6] x) => (float[1,4] y) "
MAP = "g (float[1,2,4,5] x) => (float[1,3,4,5] y) "
NORMS = MAP + """{ [c] h = Conv(x, w) [b1] t = BatchNormalization(h, gamma, beta, mean, %s) [c2] v = Conv(t, w2)
                  [b2] y = BatchNormalization(v, gamma, beta, %s, var) }"""
STATISTICS = {"mean": "mean of BatchNormalization", "var": "variance of BatchNormalization"}


def norms() -> dict[str, Array]:
    return {"w": f(3, 2, 1, 1), "w2": f(3, 3, 1, 1), "gamma": abs(f(3)) + 0.5, "beta": f(3), "mean": f(3), "var": abs(f(3)) + 0.5}


# name → model, its arrays, what `full` trains, and what is frozen and why
CASES: dict[str, tuple[str, dict[str, Array], dict[str, dict[str, str]], dict[str, str]]] = {
    "scale and shift": (
        MAP + "{ [c] h = Conv(x, w, b) [s] t = Mul(h, s) [t] y = Add(t, d) }",
        {"w": f(3, 2, 1, 1), "b": f(3), "s": f(3, 1, 1), "d": f(3, 1, 1)},
        {"c": {"weight": "w", "bias": "b", "scale": "s", "bias_2": "d"}}, {},
    ),
    "two biases": (
        DENSE + "{ [fc] h = MatMul(x, w) [a] t = Add(h, b) [a2] y = Add(c, t) }", {"w": f(6, 4), "b": f(4), "c": f(1, 4)},
        {"fc": {"weight": "w", "bias": "b", "bias_2": "c"}}, {},
    ),
    "in front of all layers": (
        DENSE + "{ [m] h = Sub(x, m) [s] t = Mul(s, h) [r] u = Relu(t) [fc] y = MatMul(u, w) }", {"m": f(6), "s": f(1, 6), "w": f(6, 4)},
        {"m": {"bias": "m", "scale": "s"}, "fc": {"weight": "w"}}, {},
    ),
    "subtracted from": (
        DENSE + "{ [fc] h = MatMul(x, w) [r] t = Sub(b, h) [q] y = Sub(c, t) }", {"w": f(6, 4), "b": f(4), "c": f(1)},
        {"fc": {"weight": "w", "bias": "b", "bias_2": "c"}}, {},
    ),
    "Gemm's factors": (
        DENSE + "{ [fc] y = Gemm<alpha = 0.5, beta = 0.25>(x, w, c) }", {"w": f(6, 4), "c": f(1, 4)},
        {"fc": {"weight": "w", "bias": "c"}}, {},
    ),
    "Gemm's one number": (
        DENSE + "{ [fc] y = Gemm<beta = 0.25>(x, w, c) }", {"w": f(6, 4), "c": scalar(0.5)}, {"fc": {"weight": "w", "bias": "c"}}, {},
    ),
    "folded": (
        MAP + """{ [c] h = Conv(x, w) [u] s = Unsqueeze(s0, axes) [m] t = Mul(h, s)
                   [p] d = Transpose<perm = [2, 0, 1]>(d0) [a] y = Add(t, d) }""",
        {"w": f(3, 2, 1, 1), "s0": f(3), "axes": np.array([1, 2]), "d0": f(1, 1, 3)},
        {"c": {"weight": "w", "scale": "s", "bias": "d"}}, {},
    ),
    "along rows and columns": (
        MAP + "{ [p] h = Add(x, rows) [c] t = Conv(h, w) [m] y = Mul(columns, t) }",
        {"rows": f(1, 1, 4, 1), "w": f(3, 2, 1, 1), "columns": f(5)},
        {"p": {"bias": "rows"}, "c": {"weight": "w", "scale": "columns"}}, {},
    ),
    "positions of a smaller tensor": (
        "g (float[1,1,4] x) => (float[1,12] y) { [p] h = Add(x, at) [f] y = Flatten(h) }", {"at": f(1, 3, 4)}, {"p": {"bias": "at"}}, {},
    ),
    "tied in two layouts": (
        """g (float[1,4] x) => (float[1,4] y) { [a] h = MatMul(x, w) [b] t = Gemm<transB = 1>(h, w, b1)
           [c] u = Gemm(t, w, b1) [d] y = Add(u, b2) }""",
        {"w": f(4, 4), "b1": f(4), "b2": f(4)}, {"a": {"weight": "w"}, "b": {"bias": "b1"}, "c": {"bias": "b2"}}, {},
    ),
    "norms that share": (
        NORMS % ("var", "mean"), norms(),
        {"c": {"weight": "w"}, "b1": {"gamma": "gamma", "beta": "beta"}, "c2": {"weight": "w2"}}, STATISTICS,
    ),
    "norms deduplicated": (
        NORMS % ("gamma", "beta"), norms(), {"c": {"weight": "w"}, "c2": {"weight": "w2"}},
        {"gamma": "shared with b1 (BatchNormalization), where it is no weight",
         "beta": "shared with b2 (BatchNormalization), where it is no weight", **STATISTICS},
    ),
    "of the architecture": (
        DENSE + """{ [fc] h = MatMul(x, w) [m] t = Mul(h, s) k = Constant<value = float[4] {1, 2, 3, 4}>()
                     [a] u = Add(t, k) [c] y = Clip(u, l) }""",
        {"w": f(6, 4), "s": scalar(0.5), "l": scalar(-1)}, {"fc": {"weight": "w"}},
        {"s": "a scalar", "k": "a literal, no initializer", "l": "lower bound of Clip"},
    ),
    "a token": (
        "g (float[1,3,4] x) => (float[1,5] y) { [c] h = Concat<axis = 1>(token, x) [f] t = Flatten(h) [fc] y = MatMul(t, w) }",
        {"token": f(1, 1, 4), "w": f(16, 5)}, {"fc": {"weight": "w"}}, {"token": "operand of Concat"},
    ),
    "a token that is a weight too": (
        """g (float[1,3,4] x) => (float[1,5] y) { [c] h = Concat<axis = 1>(t, x) [a] u = Add(h, t) [f] v = Flatten(u)
           [fc] y = MatMul(v, w) }""",
        {"t": f(1, 1, 4), "w": f(16, 5)}, {"fc": {"weight": "w"}}, {"t": "shared with c (Concat), where it is no weight"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_full_trains_all_that_was_learned_and_the_rest_is_known(name: str, tmp_path: Path) -> None:
    """What is trained has the gradient of central differences; what is not is frozen for a reason, or verify would fail."""
    text, arrays, trained, frozen = CASES[name]
    path = save_text(tmp_path / "m.onnx", text, **arrays)
    options = Options(loss="mse", fold_batchnorm="norms" not in name)
    _, imported, forward = load_forward(path, options)
    assert {layer.name: {kind: v.name for kind, v in layer.parameters.items()} for layer in layers(forward)} == trained
    assert {one.name: one.why for one in imported.constants.frozen(forward) if one.decided} == frozen
    report = verify_model(path, options, "differences", 4)
    assert report.passed, report.text
    assert {e.name for e in report.errors} == {name for kinds in trained.values() for name in kinds.values()}
    assert {one.name for one in report.left_out} == set(frozen)


def test_tied_weights_take_one_step_as_in_numpy(tmp_path: Path) -> None:
    """An autoencoder whose decoder is its encoder transposed: one step of SGD on all of W, b1 and b2, worked out in float64."""
    rng = np.random.default_rng(0)
    w, b1, b2, x = (rng.normal(size=size).astype(np.float32) for size in ((3, 5), 3, 5, (1, 5)))
    text = "g (float[1,5] x) => (float[1,5] y) { [encode] h = Gemm<transB = 1>(x, w, b1) [s] t = Tanh(h) [decode] y = Gemm(t, w, b2) }"
    compiled = compile_model(save_text(tmp_path / "m.onnx", text, w=w, b1=b1, b2=b2), Options(loss="mse", optimiser=Optimiser(0.5)))
    model = ReferenceModel(compiled.program)
    model.train_step(x, x)
    W, B1, B2, X = (a.astype(np.float64) for a in (w, b1, b2, x))
    hidden = np.tanh(X @ W.T + B1)
    dy = 2 * (hidden @ W + B2 - X) / X.size
    dh = dy @ W.T * (1 - hidden**2)
    want = {"w": W - 0.5 * (hidden.T @ dy + dh.T @ X), "b1": B1 - 0.5 * dh[0], "b2": B2 - 0.5 * dy[0]}
    found = model.parameters()
    assert set(found) == set(want)
    for name, array in want.items():
        np.testing.assert_allclose(found[name], array, atol=1e-6)


# --- int8 ---------------------------------------------------------------------------------------------------------

INT8 = {"xs": scalar(0.03), "xz": np.array(3, np.int8), "hs": scalar(0.05)}
WEIGHT = {"w": RNG.integers(-127, 128, (6, 6)).astype(np.int8), "s": scalar(0.01), "z": np.array(0, np.int8)}
TAKEN = """g (float[1,6] x) => (float[1,6] y) { wd = DequantizeLinear(w, s, z) xq = QuantizeLinear(x, xs, xz)
           xd = DequantizeLinear(xq, xs, xz) """
MADE = " hq = QuantizeLinear(h, hs, xz) y = DequantizeLinear(hq, hs, xz) }"
INT8_CASES: dict[str, tuple[str, dict[str, Array], dict[str, dict[str, str]], dict[str, str]]] = {
    "an operand": (
        TAKEN + "kd = DequantizeLinear(k, s, z) [fc] g = MatMul(xd, wd) gq = QuantizeLinear(g, hs, xz) gd = DequantizeLinear(gq, hs, xz) "
        "[m] h = Mul(gd, kd)" + MADE, {"k": np.arange(6).astype(np.int8)}, {"fc": {"weight": "w"}}, {"k": "an int8 operand of Mul"},
    ),
    "a bias": (TAKEN + "[fc] g = MatMul(xd, wd) [a] h = Add(b, g)" + MADE, {"b": f(6)}, {"fc": {"weight": "w", "bias": "b"}}, {}),
    "a scalar": (TAKEN + "[fc] g = MatMul(xd, wd) [a] h = Add(g, b)" + MADE, {"b": scalar(1)}, {"fc": {"weight": "w"}}, {"b": "a scalar"}),
    "one number": (
        TAKEN + "[fc] g = MatMul(xd, wd) [a] h = Add(g, b)" + MADE, {"b": f(1)}, {"fc": {"weight": "w"}},
        {"b": "one number for all channels"},
    ),
    "a literal bias of a layer": (
        TAKEN + "b = Constant<value = float[6] {1, 2, 3, 4, 5, 6}>() [fc] h = Gemm(xd, wd, b)" + MADE, {},
        {"fc": {"weight": "w", "bias": "b"}}, {},
    ),
    "two ways of reading one weight": (
        TAKEN + """[a] g = MatMul(xd, wd) gq = QuantizeLinear(g, hs, xz) gd = DequantizeLinear(gq, hs, xz) [l] r = Tanh(gd)
                   [b] q = MatMul(r, wd) [fc] y = MatMul(q, v) }""", {"v": f(6, 6)},
        {"fc": {"weight": "v"}}, {"w": "stored once for a, b, which read it in different ways"},
    ),
}


@pytest.mark.parametrize("name", INT8_CASES)
def test_of_an_int8_model_it_is_known_too(name: str, tmp_path: Path) -> None:
    text, arrays, trained, frozen = INT8_CASES[name]
    _, imported, forward = load_forward(save_text(tmp_path / "m.onnx", text, **INT8, **WEIGHT, **arrays), Options())
    assert {layer.name: {kind: v.name for kind, v in layer.parameters.items()} for layer in layers(forward)} == trained
    assert imported.constants.frozen(forward) == tuple(Frozen(name, why, True) for name, why in frozen.items())


def test_a_factor_that_is_trained_is_no_constant_of_an_integer_gradient() -> None:
    g = Builder("g")
    a = Scaled(g.const("a", np.ones((2, 3), np.int8)), g.const("e", np.zeros(1, np.int32)), np.array(1.0))
    for role in (Role.CONST, Role.PARAM):
        found = Mul().as_integer(g, [a, g.const("k", f(3), role)], [])  # type: ignore[arg-type]
        assert bool(found) == (role is Role.CONST)


# --- names --------------------------------------------------------------------------------------------------------


def scaled(folder: Path) -> Path:
    text, arrays, *_ = CASES["scale and shift"]
    return save_text(folder / "scaled.onnx", text, **arrays)


def test_a_second_bias_has_a_name_in_schemes_and_is_a_bias(tmp_path: Path) -> None:
    _, _, forward = load_forward(scaled(tmp_path), Options())
    assert preset("bias", forward).plain() == preset("bias-last:1", forward).plain() == {"c": {"bias": True, "bias_2": True}}
    path = tmp_path / "scheme.toml"
    path.write_text('[layers."c"]\nscale = true\nbias_2 = true\n')
    compiled = compile_model(scaled(tmp_path), Options(loss="mse", scheme=str(path)))
    assert set(ReferenceModel(compiled.program).parameters()) == {"s", "d"}


def test_scheme_is_written_with_what_stays_frozen(tmp_path: Path) -> None:
    text, arrays, *_ = CASES["of the architecture"]
    model = save_text(tmp_path / "m.onnx", text, **arrays)
    said = "frozen     s (a scalar), k (a literal, no initializer), l (lower bound of Clip): no scheme trains them"
    written = succeed("scheme", model, "--loss", "mse")
    assert written.endswith(f"[layers.\"fc\"]\nweight = true\n\n# {said}\n")
    (tmp_path / "s.toml").write_text(written)
    assert said in succeed("scheme", "show", model, "--loss", "mse", "--scheme", tmp_path / "s.toml").splitlines()
    assert said in succeed("compile", model, "--loss", "mse", "--no-build", "-o", tmp_path / "p").splitlines()
    assert "frozen" not in succeed("compile", model, "--loss", "none", "--no-build", "-o", tmp_path / "q")
    assert "frozen" not in succeed("compile", scaled(tmp_path), "--loss", "mse", "--no-build", "-o", tmp_path / "r")


def test_what_is_frozen_is_short_where_it_is_much(tmp_path: Path) -> None:
    from tinytrain.report.text import frozen_text

    many = [Frozen(f"mean{i}", "mean of BatchNormalization", True) for i in range(9)]
    assert frozen_text(many) == "frozen     mean0, mean1, mean2, mean3 and 5 more (mean of BatchNormalization): no scheme trains them"
    assert frozen_text(many[:1]) == "frozen     mean0 (mean of BatchNormalization): no scheme trains it"
    assert frozen_text([]) == ""


def test_a_part_of_a_weight_that_is_tied_in_another_layout_is_refused(tmp_path: Path) -> None:
    text, arrays, *_ = CASES["tied in two layouts"]
    model = save_text(tmp_path / "m.onnx", text, **arrays)
    for side in ("in", "out"):
        with pytest.raises(SchemeError, match="part of the weight of layer 'a', which b reads in another layout"):
            compile_model(model, Options(loss="mse", scheme=Scheme({"a": {"weight": Select(0.5, side=side)}})))  # type: ignore[arg-type]


# --- nothing to train ---------------------------------------------------------------------------------------------


def test_a_model_with_nothing_to_train_is_refused_where_a_loss_is_asked_for(tmp_path: Path) -> None:
    model = save_text(tmp_path / "m.onnx", "g (float[1,4] x) => (float[1,4] y) { [r] y = Relu(x) }")
    for command in (("compile", model, "-o", tmp_path / "p"), ("scheme", "show", model), ("scheme", model), ("verify", model)):
        said = sentence(*command, "--loss", "mse")
        assert "m has nothing to train" in said
        assert "--loss none" in said
    assert not (tmp_path / "p").exists()
    model = save_text(tmp_path / "k.onnx", "g (float[1,4] x) => (float[1,4] y) { [r] y = Mul(x, s) }", s=scalar(2))
    said = sentence("compile", model, "--loss", "mse", "-o", tmp_path / "p")
    assert "k has nothing to train: it computes with no weight, bias or factor that was learned, but with s (a scalar)." in said
    succeed("compile", model, "--loss", "none", "--no-build", "-o", tmp_path / "p")
    assert "trained    0 weights" in succeed("compile", model, "--loss", "mse", "--scheme", "none", "--no-build", "-o", tmp_path / "q")
    assert "updated    0 weights" in succeed("scheme", "show", model, "--loss", "mse", "--scheme", "none")


def test_a_scheme_that_trains_nothing_is_refused_but_for_none(tmp_path: Path) -> None:
    model = save_text(tmp_path / "m.onnx", DENSE + "{ [fc] y = MatMul(x, w) }", w=f(6, 4))
    path = tmp_path / "s.toml"
    path.write_text('[layers."fc"]\nweight = false\n')
    said = sentence("compile", model, "--loss", "mse", "--scheme", path, "-o", tmp_path / "p")
    assert "The scheme trains nothing of m, whose layers have weight." in said
    assert "The scheme bias trains nothing" in sentence("scheme", "show", model, "--loss", "mse", "--scheme", "bias")
    said = sentence("compile", model, "--loss", "none", "--scheme", path, "-o", tmp_path / "p")
    assert "--scheme has no effect with --loss none." in said
    succeed("compile", model, "--loss", "none", "--no-build", "-o", tmp_path / "p")
    path.write_text(succeed("scheme", model, "--scheme", "none"))
    succeed("compile", model, "--loss", "mse", "--scheme", path, "--no-build", "-o", tmp_path / "q")
    check_trains(Scheme({}, "none"), load_forward(model, Options())[2])


# --- verify -------------------------------------------------------------------------------------------------------


def test_verify_notices_what_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault put in: a layer whose bias no scheme knows."""
    text, arrays, *_ = CASES["tied in two layouts"]
    model = save_text(tmp_path / "m.onnx", text, **arrays)
    whole = schemes.layers
    monkeypatch.setattr(schemes, "layers", lambda graph: [layer for layer in whole(graph) if layer.name != "c"])
    done = run("verify", model, "--loss", "mse")
    assert done.exit_code == 1
    assert "b2                               NOT TRAINED, the output moves with it by" in done.output
    assert done.output.endswith("LEFT OUT: the scheme says that it trains all, and misses b2\n")
    assert run("verify", model, "--loss", "mse", "--scheme", "last:1").exit_code == 0


def test_verify_compares_a_parameter_that_has_no_gradient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tinytrain.verify import checks

    text, arrays, *_ = CASES["two biases"]
    model = save_text(tmp_path / "m.onnx", text, **arrays)
    found = checks.gradients
    monkeypatch.setattr(checks, "gradients", lambda *given: {v: g for v, g in found(*given).items() if v.name != "c"})
    report = verify_model(model, Options(loss="mse"), "differences", 4)
    assert not report.passed
    assert [e.name for e in report.errors if e.relative > 1e-6] == ["c"]


def test_what_nobody_can_evaluate_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tinytrain.verify import left_out

    def broken(*_: Any) -> Any:
        raise RuntimeError("no such operator\nat all")

    monkeypatch.setattr(left_out, "_slopes", broken)
    monkeypatch.setattr(Constants, "frozen", lambda *_: ())
    text, arrays, *_ = CASES["of the architecture"]
    report = verify_model(save_text(tmp_path / "m.onnx", text, **arrays), Options(loss="mse"), "differences", 4)
    assert not report.passed
    assert "NOT TRAINED, and nobody knows its gradient (no such operator)" in report.text


def test_full_is_what_the_program_trains(tmp_path: Path) -> None:
    """All of a compiled program's parameters are listed in the manifest with the way back into the model."""
    for text, arrays, trained, _ in CASES.values():
        options = Options(loss="mse", fold_batchnorm=False, exact_seconds=0)
        compiled = compile_model(save_text(tmp_path / "m.onnx", text, **arrays), options)
        names = {name for kinds in trained.values() for name in kinds.values()}
        assert {p["name"] for p in describe(compiled)["parameters"]} == names
