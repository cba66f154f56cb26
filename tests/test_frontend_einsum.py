# SPDX-License-Identifier: Apache-2.0
"""Einsum against onnx and onnxruntime: both operands computed, one of them stored, of one operand; what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from frontend_models import check, f32, load, model_of
from frontend_models import node as n

from tinytrain.errors import ModelError

TWO = ["bij,bjk->bik", "bij,bkj->bik", "bij,bkj", "bij,bjk->kbi", "bij,bij->b", "bij,bij->bij", "bij,bkl->bijkl", "bij,bjk->bk",
       "bij,bkj->"]
ONE = ["bij->bji", "bij->bi", "bij->j", "bij->", "bij->jbi"]


@pytest.mark.parametrize("equation", TWO)
@pytest.mark.parametrize("stored", [False, True])
def test_two_operands(equation: str, stored: bool, tmp_path: Path) -> None:
    square = (1, 4, 4)
    nodes = [n("Relu", "x", "r"), n("Sigmoid", "x", "s"), n("Einsum", "r w" if stored else "r s", equation=equation)]
    imported = check(tmp_path, nodes, {"w": f32(*square)} if stored else {}, square)
    assert set(imported.params) == ({"w"} if stored else set())


@pytest.mark.parametrize("equation", ONE)
def test_one_operand(equation: str, tmp_path: Path) -> None:
    check(tmp_path, [n("Relu", "x", "r"), n("Einsum", "r", equation=equation)], {}, (1, 3, 5))


def test_attention(tmp_path: Path) -> None:
    nodes = [
        n("Einsum", "x q", "qs", equation="btc,chd->bhtd"), n("Einsum", "x k", "ks", equation="btc,chd->bhtd"),
        n("Einsum", "qs ks", "s", equation="bhqd,bhkd->bhqk"), n("Softmax", "s", "p"), n("Einsum", "p qs", "o", equation="bhqk,bhkd->bqhd"),
        n("Einsum", "o w", equation="bqhd,hdc->bqc"),
    ]
    imported = check(tmp_path, nodes, {"q": f32(6, 2, 3), "k": f32(6, 2, 3), "w": f32(2, 3, 6)}, (1, 5, 6))
    assert set(imported.params) == {"q", "k", "w"}


@pytest.mark.parametrize(("equation", "operands", "why"), [
    ("bii->bi", "x", "its equation bii->bi has a letter twice in bii, expected different ones"),
    ("b...->b...", "x", r"its equation is b\.\.\.->b\.\.\., expected a letter for each axis"),
    ("bij,bjk,bkl->bil", "x x x", "its equation bij,bjk,bkl->bil is for 3 operands, expected one or two"),
])
def test_refusals(equation: str, operands: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"e \(Einsum\) in .*: {why}"):
        load(tmp_path, model_of([n("Einsum", operands, name="e", equation=equation)], {}, (1, 4, 4)))


@pytest.mark.parametrize("equation", ["bij->bik", "bi->bi", "bijk->b", "->", "b,->b"])
def test_equations_that_mean_nothing(equation: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        load(tmp_path, model_of([n("Einsum", name="e", equation=equation)], {}, (1, 4, 4)))
