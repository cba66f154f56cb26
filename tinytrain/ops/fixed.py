# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of training without floating point: the same bits as `runtime_c/tt_integer.h`. Arrays are int64 unless said otherwise.

A gradient is mantissa·2^exponent, one exponent a tensor, found when it is made ("NITI: Training Integer Neural Networks Using
Integer-only Arithmetic", arXiv 2009.13108). Constants that multiply are fixed-point numbers m·2^-s.
"""

from __future__ import annotations

import numpy as np

from tinytrain.ir.types import Array

FACTOR_BITS = 30
MOST_VELOCITY = 2**30


def bit_length(v: Array) -> int:
    """Of the largest magnitude."""
    return int(np.abs(v.astype(np.int64)).max(initial=0)).bit_length()


def round7(v: Array, shift: int) -> Array:
    """v / 2^shift as int8: the upper half of the bits that go (24 at most) is the chance of rounding away from zero, the lower half the
    dice; a single bit always rounds."""
    whole = np.abs(v)
    rest = whole & ((1 << shift) - 1)
    half = min(shift >> 1, 24)
    dice = rest & ((1 << half) - 1)
    up = (rest >> (shift - half)) > dice
    if shift == 1:
        up = rest != 0
    limited = np.minimum((whole >> shift) + up, 127)
    return np.asarray(np.where(v < 0, -limited, limited), np.int8)


def dithered_step(g: Array, m: Array, s: Array, words: Array) -> Array:
    """round(g·m / 2^s) up with the chance of what is cut off; `words` are 32 random bits an element."""
    dither = np.where(s <= 32, words >> np.maximum(32 - s, 0), words << np.maximum(s - 32, 0))
    return np.asarray((g * m + dither) >> s)


def velocity_within(v: Array) -> Array:
    """v within 2^30, which leaves room for what is multiplied by it."""
    return np.clip(v, -MOST_VELOCITY, MOST_VELOCITY)


def scaled(g: Array, up: int) -> Array:
    """g·2^up to the nearest integer, within 2^30."""
    left, right = min(max(up, 0), 31), min(max(-up, 0), 40)
    return velocity_within(((g.astype(np.int64) << left) + ((1 << right) >> 1)) >> right)


def velocity(g: Array, q: Array, mu: int, ahead: int) -> Array:
    """mu·q·2^ahead + g, `mu` with 16 fraction bits and `ahead` from -1 to 1; within 2^30."""
    return velocity_within((mu * q.astype(np.int64) * 2 >> min(max(1 - ahead, 0), 2)) + g)


def float_bits(v: int, exponent: int) -> int:
    """Bits of the fp32 number v·2^exponent, rounded toward zero."""
    length = v.bit_length()
    if length == 0:
        return 0
    mantissa = v >> (length - 24) if length > 24 else v << (24 - length)
    return ((length + exponent + 126) << 23) + (mantissa & 0x7FFFFF)


def log2_q20(v: int) -> int:
    """log2 v in units of 2^-20."""
    length = v.bit_length()
    x, result = v << (32 - length), length - 1
    for _ in range(20):
        x = (x * x) >> 31
        result <<= 1
        if x >> 32:
            x >>= 1
            result += 1
    return result


def mantissas(factors: Array) -> tuple[Array, int]:
    """Non-negative real factors as int32 mantissas below 2^30 and one exponent: factor = mantissa·2^exponent."""
    top = float(factors.max(initial=0.0))
    exponent = (int(np.frexp(top)[1]) if top > 0 else 0) - FACTOR_BITS
    return np.minimum(np.rint(np.ldexp(factors, -exponent)), 2**FACTOR_BITS - 1).astype(np.int32), exponent


def multipliers(factors: Array) -> tuple[Array, Array]:
    """Non-negative real factors as int32 m in [2^30, 2^31), each with its own shift: factor = m·2^-shift; 0 as (0, 0)."""
    fraction, exponent = np.frexp(factors.astype(np.float64))
    m = np.rint(np.ldexp(fraction, 31)).astype(np.int64)
    rounded_up = m >= 2**31
    shift = np.where(m > 0, 31 - exponent.astype(np.int64) - rounded_up, 0)
    return np.where(rounded_up, m >> 1, m).astype(np.int32), shift.astype(np.int32)
