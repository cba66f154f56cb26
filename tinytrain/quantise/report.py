# SPDX-License-Identifier: Apache-2.0
"""What quantisation cost: signal-to-noise ratio by layer, accuracy beside that of float32, and what a user should know."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

import numpy as np

from tinytrain.ir.types import Array
from tinytrain.report.text import table


@dataclass(frozen=True)
class Row:
    """One int8 tensor. `snr_db` compares it with float32, `weight_snr_db` the weight of its layer, which has so many `bits`; None: no
    error, or no weight."""

    layer: str
    op: str
    tensor: str
    scale: float
    zero_point: int
    snr_db: float | None
    weight_snr_db: float | None
    bits: int = 8


@dataclass(frozen=True)
class Accuracy:
    """Of both models on labelled samples, and the part on which they agree."""

    samples: int
    fp32: float
    int8: float
    agreement: float


@dataclass(frozen=True)
class Report:
    model: str
    method: str
    samples: int
    rows: tuple[Row, ...]
    output_snr_db: float | None
    accuracy: Accuracy | None
    islands: tuple[str, ...]
    notes: tuple[str, ...]
    fp32_bytes: int
    int8_bytes: int

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    def text(self) -> str:
        few = any(r.bits < 8 for r in self.rows)
        lines = [["layer", "op", "scale", "zero", "SNR", "weight SNR", *(["bits"] if few else [])]]
        lines += [
            [
                r.layer, r.op, f"{r.scale:.6g}", str(r.zero_point), decibel(r.snr_db), decibel(r.weight_snr_db) if r.op in WEIGHTED else "",
                *([str(r.bits) if r.op in WEIGHTED else ""] if few else []),
            ]
            for r in self.rows
        ]
        said = [table(lines), "", f"output     {decibel(self.output_snr_db)} signal to noise on {self.samples:,} samples ({self.method})"]
        if self.accuracy is not None:
            a = self.accuracy
            said.append(f"accuracy   float32 {a.fp32:.2%}   int8 {a.int8:.2%}   same class {a.agreement:.2%}   ({a.samples:,} samples)")
        said.append(f"parameters {self.fp32_bytes:,} B as float32, {self.int8_bytes:,} B quantised")
        if self.islands:
            said.append(f"float      {', '.join(self.islands)}")
        return "\n".join(said + [f"note       {note}" for note in self.notes])


WEIGHTED = ("Conv", "Gemm", "MatMul")


def decibel(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f} dB"


def finite(value: float) -> float | None:
    """JSON has no infinity: what has no error has no ratio."""
    return value if math.isfinite(value) else None


def accuracy(exact: Array, int8: Array, labels: Array) -> Accuracy:
    """Outputs (n, classes) of both models against labels (n,)."""
    a, b = (y.reshape(len(y), -1).argmax(axis=1) for y in (exact, int8))
    return Accuracy(len(labels), float(np.mean(a == labels)), float(np.mean(b == labels)), float(np.mean(a == b)))
