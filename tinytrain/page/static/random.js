// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers, the same bits as tinytrain/random.py: value = f(seed, counter).

function mixed(h) {
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    return (h ^ (h >>> 16)) >>> 0;
}

/** A uniform number of 32 bits. */
export function randomU32(seed, counter) {
    const second = (Math.imul(seed, 0x85ebca77) + 0x165667b1) >>> 0;
    return mixed(mixed((Math.imul(counter, 0x9e3779b1) + seed) >>> 0) ^ second);
}

/** Uniform over [0, 1) in steps of 2^-24. */
export function randomUnit(seed, counter) {
    return (randomU32(seed, counter) >>> 8) * 2 ** -24;
}
