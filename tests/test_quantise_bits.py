# SPDX-License-Identifier: Apache-2.0
"""Weights of four bits: which layers get them under a budget, what is written, what it costs, and what is refused."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli_runs import save_data, save_model, sentence, succeed
from hypothesis import given, settings
from hypothesis import strategies as st
from test_quantise import outputs, quantised

from tinytrain import zoo
from tinytrain.compiler import Options, compile_model
from tinytrain.emit.instructions import data_bytes
from tinytrain.errors import DoesNotFit, TinytrainError
from tinytrain.onnx_graph import stored_array
from tinytrain.passes.pack_four_bits import a_byte_each
from tinytrain.quantise import bits
from tinytrain.quantise.bits import Sensitivity, fewest_errors
from tinytrain.quantise.ranges import nearest, weight_scales
from tinytrain.verify.reference import ReferenceModel


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(the built-in cnn, samples for it)"""
    folder = tmp_path_factory.mktemp("bits")
    onnx.save(zoo.model("cnn"), folder / "cnn.onnx")
    return folder / "cnn.onnx", save_data(folder / "data.npz", count=40, shape=(1, 8, 8))


LAYERS = st.lists(st.tuples(st.integers(1, 500), st.integers(0, 60), st.floats(0, 10)), min_size=1, max_size=7)


@settings(deadline=None, max_examples=40)
@given(given=LAYERS, part=st.floats(0, 1))
def test_nothing_that_fits_adds_less(given: list[tuple[int, int, float]], part: float) -> None:
    layers = [Sensitivity(f"l{i}", 2 * saved + more, saved, error) for i, (saved, more, error) in enumerate(given)]
    whole, saved = sum(one.bytes_8 for one in layers), sum(one.saved for one in layers)
    budget = whole - int(part * saved)
    few = fewest_errors(layers, budget)
    fitting = [
        sum(one.error for one, x in zip(layers, chosen, strict=True) if x)
        for chosen in product((0, 1), repeat=len(layers))
        if sum(one.bytes_8 - one.saved * x for one, x in zip(layers, chosen, strict=True)) <= budget
    ]
    assert sum(one.bytes_8 - one.saved * (one.node in few) for one in layers) <= budget
    assert sum(one.error for one in layers if one.node in few) <= min(fitting) + 1e-7


def test_a_budget_that_is_too_small_is_refused() -> None:
    with pytest.raises(DoesNotFit, match="60 bytes with 4 bits in all layers; expected 59 or less"):
        fewest_errors([Sensitivity("a", 100, 40, 1.0)], 59)
    assert fewest_errors([Sensitivity("a", 100, 40, 1.0)], 100) == frozenset()


def kinds(model: onnx.ModelProto) -> dict[str, int]:
    return {t.name.removesuffix("_q"): t.data_type for t in model.graph.initializer if t.name.endswith("weight_q")}


def test_mixed_bits_keep_to_the_budget(cnn: tuple[Path, Path]) -> None:
    """Of the file, and the more bits the better."""
    eight, four, mixed = (quantised(*cnn, **given) for given in ({}, {"bits": "4"}, {"bits": "mixed", "flash_budget": 3000}))
    assert four.report.int8_bytes < mixed.report.int8_bytes <= 3000 < eight.report.int8_bytes
    int4, int8 = onnx.TensorProto.INT4, onnx.TensorProto.INT8
    assert {*kinds(eight.model).values()} == {int8} and {*kinds(four.model).values()} == {int4}
    assert {*kinds(mixed.model).values()} == {int4, int8}
    snrs = [made.report.output_snr_db or 0.0 for made in (four, mixed, eight)]
    assert snrs == sorted(snrs)
    assert "bits" in mixed.report.text() and "bits" not in eight.report.text()
    assert {row.bits for row in mixed.report.rows} == {4, 8}


def firmware_bytes(model: onnx.ModelProto, folder: Path, **options: Any) -> tuple[int, dict[str, str]]:
    """Of flash for layers, none of them trained: all constants but the scale of the output; and which weights of four bits take a byte."""
    onnx.save(model, folder / "made.onnx")
    program = compile_model(folder / "made.onnx", Options(loss=None, exact_seconds=0, **options)).program
    scale, = (v for v in program.constants if v.name == "y_q_scale")
    return data_bytes(program) - scale.type.nbytes, a_byte_each(program)


def test_the_firmware_keeps_to_the_budget_with_the_least_error(
    cnn: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All 2^3 choices of the cnn's layers are made and compiled: none that fits moves the output less by its measured errors."""
    measured: list[Sensitivity] = []
    right = bits.fewest_errors
    monkeypatch.setattr(bits, "fewest_errors", lambda layers, budget: measured.extend(layers) or frozenset())
    quantised(*cnn, bits="mixed", flash_budget=1)
    assert [one.saved > 0 for one in measured] == [False, True, True], "conv1 is too small to save anything"
    sizes, errors = {}, {}
    for chosen in product((False, True), repeat=len(measured)):
        few = frozenset(one.node for one, x in zip(measured, chosen, strict=True) if x)
        monkeypatch.setattr(bits, "fewest_errors", lambda layers, budget, few=few: few)
        sizes[few], takes = firmware_bytes(quantised(*cnn, bits="mixed", flash_budget=1).model, tmp_path)
        errors[few] = sum(one.error for one in measured if one.node in few)
        assert sizes[few] == sum(one.bytes_8 - one.saved * (one.node in few) for one in measured)
        assert list(takes.values()) == ["of fewer than 512 numbers"] * chosen[0]
    monkeypatch.setattr(bits, "fewest_errors", right)
    for budget in sorted({*sizes.values(), 2500, 3000}):
        made = quantised(*cnn, bits="mixed", flash_budget=budget)
        assert firmware_bytes(made.model, tmp_path)[0] <= budget
        least = min(errors[few] for few in sizes if sizes[few] <= budget)
        assert errors[right(measured, budget)] == least and right(measured, budget) in sizes


def test_compile_says_which_take_a_byte(cnn: tuple[Path, Path], tmp_path: Path) -> None:
    onnx.save(quantised(*cnn, bits="4").model, tmp_path / "four.onnx")
    text = succeed("compile", tmp_path / "four.onnx", "--scheme", "last:1", "-o", tmp_path / "out")
    assert "4 bits     a byte each take conv1_weight_q: of fewer than 512 numbers\n" in text
    assert "4 bits     a byte each take fc_weight_q: trained\n" in text


@pytest.mark.parametrize("more", [{}, {"adaround": True}, {"per_tensor": True}])
def test_what_is_written_is_valid_and_means_the_same(cnn: tuple[Path, Path], more: dict[str, Any], tmp_path: Path) -> None:
    """ONNX's own evaluator gives what the compiled model does, but for a unit of the output now and then."""
    made = quantised(*cnn, bits="4", **more)
    onnx.checker.check_model(made.model, full_check=True)
    assert made.model.opset_import[0].version >= 21 and made.model.ir_version >= 10
    weights = [stored_array(t) for t in made.model.graph.initializer if t.data_type == onnx.TensorProto.INT4]
    assert min(w.min() for w in weights) >= -7 and max(w.max() for w in weights) == 7
    onnx.save(made.model, tmp_path / "four.onnx")
    model = ReferenceModel(compile_model(tmp_path / "four.onnx", Options(exact_seconds=0, optimise="size")).program)
    x = np.load(cnn[1])["x"][:20]
    ours = np.stack([model.infer(sample.transpose(1, 2, 0)) for sample in x])
    theirs = outputs(made.model, x).reshape(ours.shape)
    unit = np.unique(np.abs(np.diff(np.unique(theirs)))).min()
    assert np.abs(ours - theirs).max() <= 1.01 * unit


def test_four_bits_take_the_range_of_least_error() -> None:
    rows = np.random.default_rng(0).normal(0, 1, (8, 300)).astype(np.float32)
    rows[:, 0] = 9

    def error(scales: np.ndarray) -> float:
        return float(np.square(nearest(rows, scales, 4) * scales[:, None] - rows).mean())

    ends = np.abs(rows).max(axis=1) / np.float32(7)
    assert error(weight_scales(rows, "minmax", False, 4)) < 0.7 * error(ends)


def test_mixed_bits_need_a_budget(cnn: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(TinytrainError, match="--bits mixed is given without --flash-budget"):
        quantised(*cnn, bits="mixed")
    model, data = save_model(tmp_path), save_data(tmp_path / "d.npz")
    out = ("quantize", model, "--data", data, "-o", tmp_path / "out.onnx")
    assert "--flash-budget" in sentence(*out, "--flash-budget", "3K")
    assert "with 4 bits in all layers; expected 100 or less" in sentence(*out, "--bits", "mixed", "--flash-budget", 100)
    assert not (tmp_path / "out.onnx").exists()
    succeed(*out, "--bits", "mixed", "--flash-budget", "3K")


def test_without_ortools_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ortools.sat.python", None)
    with pytest.raises(TinytrainError, match="needs ortools"):
        bits.fewest_errors([Sensitivity("a", 100, 40, 1.0)], 80)
