// SPDX-License-Identifier: Apache-2.0
// How the page's modules treat numbers, beside NumPy. `node page_numbers.mjs FILE.npz OUT.npz` reads arrays, and writes what became of them.
import { readFileSync, writeFileSync } from "node:fs";

import { readCsv } from "../tinytrain/page/static/csv.js";
import { kindOf, windows } from "../tinytrain/page/static/inputs.js";
import { fromHalf, rint, toHalf, transposed } from "../tinytrain/page/static/layout.js";
import { readNpz, writeNpz } from "../tinytrain/page/static/npz.js";
import { pixels } from "../tinytrain/page/static/picture.js";
import { shuffled, split } from "../tinytrain/page/static/training.js";

const [given, made] = process.argv.slice(2);
const { floats, cube, rgba, wide, halves } = await readNpz(Uint8Array.from(readFileSync(given)), given);
const flat = (data) => ({ data, shape: [data.length] });
writeFileSync(made, writeNpz({
    halves: flat(Float64Array.from({ length: 65536 }, (_, bits) => fromHalf(bits))),
    bits: flat(Int32Array.from(floats.data, toHalf)),
    rounded: flat(Float64Array.from(floats.data, rint)),
    turned: flat(transposed(cube.data, cube.shape, [2, 0, 1])),
    grey: flat(pixels(rgba.data, 1, "0 to 1", false)), colours: flat(pixels(rgba.data, 3, "-1 to 1", true)),
    wide: flat(wide.data), read: flat(halves.data),
}));
const samples = Array.from({ length: 23 }, (_, i) => ({ i, label: i % 3 }));
const [trained, kept] = split(samples);
const kinds = [[8, 8, 1], [32, 32, 3], [32, 3], [1, 32, 3], [3], [64], [8, 8, 5]].map((shape) => kindOf({ shape }));
console.log(JSON.stringify({
    kinds, kept: kept.map(({ label }) => label), trained: trained.length,
    same: shuffled(samples, 3).map(({ i }) => i).sort((a, b) => a - b).every((i, at) => i === at),
    csv: readCsv("time a b\n1\t2\t3\n4 5 6\n", "a.csv"), windows: windows([[1, 2], [3, 4], [5, 6]], 1, 2, "b.csv").map((sample) => [...sample]),
}));
