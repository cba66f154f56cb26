// SPDX-License-Identifier: Apache-2.0
// Numbers with their units, the same on every computer.

/** 1234567 → "1,234,567" */
export function count(number) {
    return Math.round(number).toLocaleString("en-US");
}

export function bytes(number) {
    return `${count(number)} B`;
}

/** Three digits that count, and all before the point. */
export function digits(number) {
    return number >= 100 ? count(number) : number.toPrecision(3);
}

export function milliseconds(number) {
    return `${digits(number)} ms`;
}

/** "1 layer", "2 layers" */
export function plural(number, word) {
    return `${count(number)} ${word}${number === 1 ? "" : "s"}`;
}
