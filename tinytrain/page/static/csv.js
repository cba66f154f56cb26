// SPDX-License-Identifier: Apache-2.0
// Numbers of a text file: rows of columns between commas, semicolons, tabs or blanks; a first row of names is left out.

export function readCsv(text, file) {
    const rows = [];
    let columns = 0;
    text.split(/\r?\n/).forEach((line, at) => {
        if (!line.trim()) return;
        const cells = line.trim().split(/\s*[,;\t]\s*|\s+/);
        const numbers = cells.map(Number);
        const wrong = numbers.findIndex((number, i) => cells[i] === "" || !Number.isFinite(number));
        columns ||= cells.length;
        if (at === 0 && wrong >= 0 && numbers.every((number, i) => cells[i] === "" || Number.isNaN(number))) return;
        if (cells.length !== columns) throw new Error(`${file}: line ${at + 1} has ${cells.length} columns, and the first has ${columns}.`);
        if (wrong >= 0) throw new Error(`${file}: line ${at + 1} has ${JSON.stringify(cells[wrong])} where a number is expected.`);
        rows.push(numbers);
    });
    if (!rows.length) throw new Error(`${file} has no numbers.`);
    return rows;
}
