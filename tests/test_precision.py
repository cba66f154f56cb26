# SPDX-License-Identifier: Apache-2.0
"""Which layers stay fp32 where a model is stored as fp16: by name, by a file, for want of a kernel, or by what samples show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_runs import save_model, save_text, sentence, succeed

from tinytrain.compiler import Options, compile_model
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import F16, F32, Role
from tinytrain.report.live import Quiet
from tinytrain.schemes.precision import Rule
from tinytrain.search.precision import TOLERANCE, calibrated

NET = """net (float[1, 2, 6, 6] x) => (float[1, 3] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, first_w, first_b)
    b = Relu (a)
    c = Conv (b, second_w, second_b)
    d = Relu (c)
    e = Flatten (d)
    y = Gemm <transB = 1> (e, last_w, last_b)
}"""
NAMES = ("first", "relu_1", "second", "relu_2", "flat", "last")


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"first_w": (4, 2, 3, 3), "first_b": (4,), "second_w": (4, 4, 3, 3), "second_b": (4,), "last_w": (3, 64), "last_b": (3,)}
    return {name: (0.3 * rng.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}


def saved(folder: Path, **changed: np.ndarray) -> Path:
    """The network with named nodes."""
    import onnx

    path = save_text(folder / "net.onnx", NET, **{**weights(), **changed})
    model = onnx.load(path)
    for node, name in zip(model.graph.node, NAMES, strict=True):
        node.name = name
    onnx.save(model, path)
    return path


def samples(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    np.savez(folder / "samples.npz", x=rng.normal(size=(12, 2, 6, 6)).astype(np.float32), y=np.arange(12) % 3)
    return folder / "samples.npz"


def dtypes(path: Path, *rules: Rule, entry: str = "train") -> dict[str, str]:
    """Value → how the program stores it."""
    program = compile_model(path, Options(dtype="fp16", precision=rules)).program
    return {v.name: v.type.dtype.tag for v in program.entries[entry].values()}


def compiled(path: Path, *options: object) -> tuple[str, dict[str, str]]:
    """(what `compile` prints, what the manifest says of layers that stay fp32)."""
    out = path.parent / "out"
    text = succeed("compile", path, "--dtype", "fp16", *options, "--no-build", "--force", "-o", out)
    return text, json.loads((out / "manifest.json").read_text())["fp32"]


def keep(name: str) -> Rule:
    return Rule(name, "fp32", "asked for by a test")


# --- by name ------------------------------------------------------------------------------------------------------


def test_what_a_named_layer_reads_and_writes_stays_fp32(tmp_path: Path) -> None:
    path = saved(tmp_path)
    all_halves, some = dtypes(path), dtypes(path, keep("second"))
    assert {all_halves[name] for name in ("b", "d", "first_w", "second_w", "last_w")} == {"f16"}
    wide = {name for name in all_halves if all_halves[name] == "f16" and some.get(name) == "f32"}
    assert {"b", "d", "second_w", "second_b"} <= wide and all(name in {"b", "d", "second_w", "second_b"} or name.startswith(
        ("d_", "second_")) for name in wide)
    assert some["first_w"] == some["last_w"] == "f16"


def test_a_layer_that_is_fused_into_another_one_takes_that_with_it(tmp_path: Path) -> None:
    """What relu_1 writes is what the convolution before it stores."""
    path = saved(tmp_path)
    assert dtypes(path, keep("relu_1"))["b"] == "f32"
    assert dtypes(path, keep("relu_2"), entry="infer")["d"] == "f32" and dtypes(path, keep("relu_2"), entry="infer")["b"] == "f32"


def test_all_layers_by_a_pattern_leave_no_half(tmp_path: Path) -> None:
    path = saved(tmp_path)
    assert "f16" not in dtypes(path, keep("*")).values()
    program = compile_model(path, Options(optimiser=Optimiser())).program
    kept = compile_model(path, Options(dtype="fp16", precision=(keep("*"),))).program
    assert [v.type for v in program.stored(Role.PARAM)] == [v.type for v in kept.stored(Role.PARAM)]


def test_last_rule_that_fits_decides(tmp_path: Path) -> None:
    path = saved(tmp_path)
    (tmp_path / "rules.toml").write_text('[layers]\n"*" = "fp32"\n"relu_*" = "fp16"\n"last" = "fp16"\n')
    text, fp32 = compiled(path, "--precision", tmp_path / "rules.toml")
    assert {name for name, why in fp32.items() if why == "asked for by rules.toml"} == {"first", "second", "flat"}
    assert "fp32       first, second, flat: asked for by rules.toml\n" in text
    _, fp32 = compiled(path, "--precision", tmp_path / "rules.toml", "--fp32", "last")
    assert fp32["last"] == "asked for by --fp32"


def test_compile_says_which_kernels_take_no_fp16(tmp_path: Path) -> None:
    text, fp32 = compiled(saved(tmp_path))
    assert fp32 == {"loss": "softmax_cross_entropy takes no fp16"}
    assert "fp32       loss: softmax_cross_entropy takes no fp16\n" in text
    plain = succeed("compile", tmp_path / "net.onnx", "--no-build", "--force", "-o", tmp_path / "out")
    assert "fp32  " not in plain and json.loads((tmp_path / "out" / "manifest.json").read_text())["fp32"] == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[layers]\n"frist" = "fp32"\n', "Layer 'frist' is asked for by rules.toml, but net does not have it.\nNearest names: first"),
        ('[layers]\n"first" = "fp8"\n', """layer 'first' is 'fp8'; expected "fp32" or "fp16"."""),
        ("[layers]\nhead.fc = 'fp32'\n", "layer 'head' is {'fc': 'fp32'}; expected \"fp32\" or \"fp16\".\nA name with dots is quoted."),
        ("[layer]\n", "has layer; expected one table, [layers]."),
        ("layers = 3\n", "has layers; expected one table, [layers]."),
        ("[layers\n", "is not valid TOML"),
        (None, "cannot be read (No such file or directory); expected a precision file."),
    ],
)
def test_precision_file_that_says_nothing_of_this_model(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "rules.toml").write_text(content)
    said = sentence("compile", saved(tmp_path), "--dtype", "fp16", "--precision", tmp_path / "rules.toml", "-o", tmp_path / "out")
    assert message in said and not (tmp_path / "out").exists()


def test_unknown_layer_is_refused_with_the_nearest_names(tmp_path: Path) -> None:
    path = saved(tmp_path)
    for name in ("secnd", "scond*"):
        first, second = sentence("compile", path, "--dtype", "fp16", "--fp32", name, "-o", tmp_path / "out").splitlines()
        assert first == f"tinytrain: Layer '{name}' is asked for by --fp32, but net does not have it."
        assert second.startswith("Nearest names: second")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fp32", "first"], "--fp32 has no effect with --dtype fp32; expected --dtype fp16."),
        (["--precision", "rules.toml"], "--precision has no effect with --dtype fp32; expected --dtype fp16."),
        (["--half-arithmetic"], "--half-arithmetic has no effect with --dtype fp32; expected --dtype fp16."),
        (["--data", "samples.npz"], "--data has no effect with --dtype fp32; expected --dtype fp16."),
        (["--dtype", "fp16", "--fp16-tolerance", "0.1"], "--fp16-tolerance has no effect without --data."),
    ],
)
def test_options_that_would_have_no_effect(options: list[str], message: str, tmp_path: Path) -> None:
    assert message in sentence("compile", saved(tmp_path), *options, "-o", tmp_path / "out")


# --- by samples ---------------------------------------------------------------------------------------------------


def chosen(path: Path, tolerance: float = TOLERANCE, **more: object) -> dict[str, str]:
    """Layer → why it stays fp32, by samples."""
    options = calibrated(path, samples(path.parent), Options(dtype="fp16", **more), tolerance, Quiet())  # type: ignore[arg-type]
    return {rule.pattern: rule.why for rule in options.precision}


def test_samples_within_range_keep_no_layer(tmp_path: Path) -> None:
    assert chosen(saved(tmp_path)) == {}
    assert set(chosen(saved(tmp_path), 1e-6)) == {"first", "second", "last"}


@pytest.mark.parametrize("options", [("--board", "netduinoplus2", "--store", 5), ("--board", "pulp-virt", "--cores", 8)], ids=str)
def test_samples_run_without_what_only_the_board_has(options: tuple[object, ...], tmp_path: Path) -> None:
    assert set(compiled(saved(tmp_path), *options, "--data", samples(tmp_path))[1]) == {"loss"}


def test_a_layer_whose_values_overflow_is_named_and_stays_fp32(tmp_path: Path) -> None:
    path = saved(tmp_path, first_w=weights()["first_w"] * 6e4, second_w=weights()["second_w"] / 6e4)
    text, fp32 = compiled(path, "--data", samples(tmp_path))
    largest = fp32["first"].removeprefix("its b reaches ").removesuffix(" on the samples, fp16 65,504")
    assert int(largest.replace(",", "")) > 65_504
    assert f"fp32       first: {fp32['first']}\n" in text
    rules = calibrated(path, samples(tmp_path), Options(dtype="fp16"), TOLERANCE, Quiet()).precision
    stored = dtypes(path, *rules)
    assert stored["b"] == "f32" and stored["last_w"] == "f16"


def test_the_reader_of_an_overflow_is_none_the_worse(tmp_path: Path) -> None:
    """`second` reads infinities only until `first` stays fp32."""
    weight = weights()["second_w"]
    path = saved(tmp_path, first_w=weights()["first_w"] * 1e5, second_w=(weight * 2**-9).astype(np.float16).astype(np.float32))
    assert set(chosen(path)) == {"first"}


def test_a_difference_of_large_numbers_stays_fp32(tmp_path: Path) -> None:
    """All pixels are 2000 and a little: their rounding alone is of the size of what the second convolution finds between them."""
    weight = weights()["second_w"]
    path = saved(tmp_path, first_b=np.full(4, 2000, np.float32), second_w=weight - weight.mean(axis=(1, 2, 3), keepdims=True))
    found = chosen(path)
    assert "second" in found and found["second"].startswith("fp16 takes its ") and "first" not in found


def test_gradients_that_underflow_are_found_on_the_way_back(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    path = saved(tmp_path / "a")
    assert chosen(path, loss="y=ce:1") == {}
    found = chosen(path, loss="y=ce:1e-10")
    assert "second" in found and found["second"].startswith("fp16 takes its d_")


def test_a_gradient_that_is_nothing_but_rounding_is_no_reason(tmp_path: Path) -> None:
    """A bias of the keys moves all scores of a query alike, which softmax takes away: fp32 finds no more of its gradient, which is 0."""
    rng = np.random.default_rng(0)
    shapes = {"wq": (8, 8), "wk": (8, 8), "bk": (8,), "w": (3, 32), "b": (3,)}
    path = save_text(tmp_path / "attention.onnx", """attention (float[1, 4, 8] x) => (float[1, 3] y) {
        q = MatMul (x, wq)
        c = MatMul (x, wk)
        k = Add (c, bk)
        t = Transpose <perm = [0, 2, 1]> (k)
        s = MatMul (q, t)
        p = Softmax <axis = -1> (s)
        a = MatMul (p, x)
        f = Flatten (a)
        y = Gemm <transB = 1> (f, w, b)
    }""", **{name: (0.5 * rng.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()})
    np.savez(tmp_path / "samples.npz", x=rng.normal(size=(6, 4, 8)).astype(np.float32), y=np.arange(6) % 3)
    assert calibrated(path, tmp_path / "samples.npz", Options(dtype="fp16"), TOLERANCE, Quiet()).precision == ()


def test_a_weight_that_fp16_has_no_range_for_stays_fp32(tmp_path: Path) -> None:
    weight = weights()["last_w"]
    weight[1, 5] = 70_000
    path = saved(tmp_path, last_w=weight)
    _, fp32 = compiled(path)
    assert fp32["last"] == "its last_w reaches 70,000"
    assert dtypes(path)["last_w"] == "f32" and dtypes(path)["second_w"] == "f16"


def test_rules_of_a_person_have_the_last_word(tmp_path: Path) -> None:
    path = saved(tmp_path, first_w=weights()["first_w"] * 6e4)
    (tmp_path / "rules.toml").write_text('[layers]\n"first" = "fp16"\n')
    _, fp32 = compiled(path, "--data", samples(tmp_path), "--precision", tmp_path / "rules.toml")
    assert "first" not in fp32


def test_samples_that_do_not_fit_the_model(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", x=np.zeros((4, 5), np.float32), y=np.zeros(4, np.int32))
    said = sentence("compile", saved(tmp_path), "--dtype", "fp16", "--data", tmp_path / "other.npz", "-o", tmp_path / "out")
    assert "other.npz" in said and not (tmp_path / "out").exists()


def test_inference_alone_is_calibrated_without_labels(tmp_path: Path) -> None:
    path = saved(tmp_path, first_w=weights()["first_w"] * 6e4)
    np.save(tmp_path / "x.npy", np.ones((3, 2, 6, 6), np.float32) * 4)
    _, fp32 = compiled(path, "--loss", "none", "--data", tmp_path / "x.npy")
    assert "first" in fp32


def test_sums_of_samples_train_in_fp16(tmp_path: Path) -> None:
    program = compile_model(saved(tmp_path), Options(dtype="fp16", optimiser=Optimiser(accumulate=4))).program
    assert {v.type.dtype for v in program.sums()} == {F32}
    assert all(v.type.dtype is F16 for v in program.stored(Role.PARAM))


# --- boards -------------------------------------------------------------------------------------------------------


def test_board_without_half_arithmetic_is_refused_where_that_is_demanded(tmp_path: Path) -> None:
    path = save_model(tmp_path)
    options = ("--dtype", "fp16", "--no-build", "-o", tmp_path / "out")
    said = sentence("compile", path, "--board", "mps2-an386", "--half-arithmetic", *options)
    assert "mps2-an386 (cortex-m4) does not compute with halves, which --half-arithmetic demands; it has dsp, fpu-sp, vfp." in said
    assert "fp16-storage" in said and "half the RAM" in said and "more instructions than fp32" in said and "mps3-an547" in said
    assert not (tmp_path / "out").exists()
    assert "it has integers only." in sentence("compile", path, "--board", "mps2-an385", "--half-arithmetic", *options)
    assert "halves     are only stored: mps2-an386" in succeed("compile", path, "--board", "mps2-an386", *options)
    assert "only stored" not in succeed("compile", path, "--board", "mps3-an547", "--half-arithmetic", "--force", *options)
