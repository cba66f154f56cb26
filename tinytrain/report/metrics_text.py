# SPDX-License-Identifier: Apache-2.0
"""Metrics as lines for people."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinytrain.errors import printable
from tinytrain.ir.types import Array
from tinytrain.report.metrics import Binary, Classes, Errors, Metric, Reconstruction
from tinytrain.report.text import table

MOST_CLASSES = 20                                         # that a matrix on a terminal has room for
MOST_OUTPUTS = 12
MOST_PAIRS = 5
SHORT = 10                                                # characters of a name above a column


def outputs_lines(metrics: Mapping[str, Metric], said: Mapping[str, tuple[Array, tuple[str, ...]]]) -> list[str]:
    """Lines about each output by its name, alone without: how good it is, or else what it says (rows (n, elements), names of classes)."""
    lines = []
    for name, (rows, names) in said.items():
        lines += [f"output     {printable(name)}"] if len(said) > 1 else []
        lines += metric_lines(metrics[name]) if name in metrics else said_lines(rows, names)
    return lines


def metric_lines(metric: Metric) -> list[str]:
    if isinstance(metric, Classes):
        return _classes(metric)
    if isinstance(metric, Binary):
        return _binary(metric)
    return _errors(metric) if isinstance(metric, Errors) else _reconstruction(metric)


def said_lines(outputs: Array, names: tuple[str, ...]) -> list[str]:
    """What outputs (n, elements) say where nobody knows what is right: how often each class, or between which numbers they lie."""
    if names:
        counts = np.bincount(outputs.argmax(axis=1), minlength=len(names))
        said = [f"{printable(name)} {count:,}" for name, count in zip(names, counts, strict=True) if count]
        return [f"said       {', '.join(said)}"]
    return [f"outputs    {outputs.min():.5g} to {outputs.max():.5g}, mean {outputs.mean():.5g}"]


def _classes(metric: Classes) -> list[str]:
    lines = [f"accuracy   {metric.accuracy:.2%} of {metric.count:,} samples"]
    confusion, counts, names = metric.confusion, metric.confusion.sum(axis=1), [printable(name) for name in metric.names]
    lines += _auc(metric.auc)
    rows = [["class", "samples", "precision", "recall", "F1"]]
    for name, *numbers in zip(names, counts, metric.precision, metric.recall, metric.f1, strict=True):
        rows.append([name, f"{numbers[0]:,}", *map(_percent, numbers[1:])])
    lines += _indented(table(rows))
    if len(names) <= MOST_CLASSES:
        head = ["true class, taken for", *(name[:SHORT] for name in names)]
        return [*lines, *_indented(table([head, *([name, *map(str, row)] for name, row in zip(names, confusion, strict=True))]))]
    apart = confusion - np.diag(np.diag(confusion))
    worst = [np.unravel_index(i, apart.shape) for i in np.argsort(apart, axis=None)[: -MOST_PAIRS - 1 : -1]]
    pairs = [f"{names[is_]} for {names[said]} {apart[is_, said]:,} times" for is_, said in worst if apart[is_, said]]
    return [*lines, f"taken      {', '.join(pairs)}"] if pairs else lines


def _binary(metric: Binary) -> list[str]:
    (no_no, no_yes), (yes_no, yes_yes) = metric.confusion.tolist()
    return [
        f"accuracy   {metric.accuracy:.2%} of {int(metric.confusion.sum()):,} outputs, which say yes above {metric.threshold:g}",
        f"yes        {yes_yes:,} of {yes_yes + yes_no:,} found (recall {_percent(metric.recall)}), precision {_percent(metric.precision)}",
        f"no         {no_no:,} of {no_no + no_yes:,} found, {no_yes:,} taken for yes",
        *_auc(metric.auc),
    ]


def _errors(metric: Errors) -> list[str]:
    lines = [f"errors     MSE {metric.mse.mean():.6g}, MAE {metric.mae.mean():.6g}, RMSE {np.sqrt(metric.mse.mean()):.6g}"]
    if 1 < len(metric.mse) <= MOST_OUTPUTS or (len(metric.mse) == 1 and not np.isnan(metric.r2[0])):
        rows = [["output", "MSE", "MAE", "R2"]]
        rows += [
            [f"{i}", f"{mse:.6g}", f"{mae:.6g}", "-" if np.isnan(r2) else f"{r2:.4f}"]
            for i, (mse, mae, r2) in enumerate(zip(metric.mse, metric.mae, metric.r2, strict=True))
        ]
        lines += _indented(table(rows))
    return lines


def _reconstruction(metric: Reconstruction) -> list[str]:
    errors, odd = metric.errors, metric.odd
    span = f"{errors.min():.6g} to {errors.max():.6g}"
    lines = [f"errors     MSE {errors.mean():.6g} between samples and what the model gives back of them, {span}"]
    if metric.percentile is None:
        what = f"given; {int((errors > metric.threshold).sum()):,} of {len(errors):,} samples lie above it"
    elif odd is None:
        what = f"{metric.percentile:g} % of the {len(errors):,} samples do not exceed it: suggested, where all of them are normal"
    elif odd.all():
        what = f"{metric.percentile:g} % of the {len(errors):,} samples do not exceed it, none of which is normal: of no use"
    else:
        what = f"{metric.percentile:g} % of the {int((~odd).sum()):,} normal samples do not exceed it"
    lines.append(f"threshold  {metric.threshold:.6g}: {what}")
    if odd is not None and metric.found is not None:
        lines.append(f"found      {metric.found:.2%} of {int(odd.sum()):,} samples that are not normal lie above it")
    if odd is not None and metric.alarms is not None:
        lines.append(f"alarms     {metric.alarms:.2%} of {int((~odd).sum()):,} normal samples lie above it")
    return [*lines, *_auc(metric.auc)]


def _auc(area: float | None) -> list[str]:
    return [] if area is None else [f"AUC        {area:.4f}"]


def _percent(number: float) -> str:
    return "-" if np.isnan(number) else f"{number:.1%}"


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]
