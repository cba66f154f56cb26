// SPDX-License-Identifier: Apache-2.0
// What the page collects, learns and keeps, without a page. `node page_keep.mjs PROJECT.json SAMPLES.npz FOLDER`: trains with these samples,
// writes the files that a person would download, reads them again, and prints JSON.
import { readFileSync, writeFileSync } from "node:fs";

import { decoded, learned, learnedNpz, learnedOnnx, samplesNpz, samplesOf, weightsOf } from "../tinytrain/page/static/keep.js";
import { Module } from "../tinytrain/page/static/module.js";
import { writeNpz } from "../tinytrain/page/static/npz.js";
import { randomU32 } from "../tinytrain/page/static/random.js";
import { Session, difference } from "../tinytrain/page/static/session.js";
import { train } from "../tinytrain/page/static/training.js";

const [projectFile, samplesFile, folder] = process.argv.slice(2);
const [build] = JSON.parse(readFileSync(projectFile)).builds;
const module = await Module.load(decoded(build.files["model.wasm"]));
const session = await Session.open({
    name: "this program",
    async calls(messages) {
        const began = performance.now();
        return { answers: messages.map((request) => module.call(request)), ms: performance.now() - began };
    },
}, build.manifest);

const { samples } = await samplesOf(build, Uint8Array.from(readFileSync(samplesFile)), samplesFile, session.outputs);
const epochs = [];
await train(session, samples, { epochs: 2, classes: session.outputs, told: ({ evaluated }) => evaluated && epochs.push(evaluated) });
const weights = await session.weights();
const names = Array.from({ length: session.outputs }, (_, i) => `klasse ${i} äß`);
const files = { "learned.npz": learnedNpz(build, weights), "learned.onnx": learnedOnnx(build, weights), "samples.npz": samplesNpz(build, samples, names) };
for (const [name, bytes] of Object.entries(files)) writeFileSync(`${folder}/${name}`, bytes);
const kinds = new Map([...session.parameters].map(([key, { kind }]) => [key, kind]));
const again = await weightsOf(build, files["learned.npz"], "learned.npz", kinds);
const { samples: same, names: read } = await samplesOf(build, files["samples.npz"], "samples.npz", session.outputs);
const refused = [];
const turned = files["samples.npz"].slice();
turned[200] ^= 1; // of x
const short = writeNpz({ x: { data: new Float32Array(3), shape: [4] } });
for (const bytes of [new Uint8Array(40), turned, short, files["learned.npz"]]) {
    await samplesOf(build, bytes, "data.npz", session.outputs).catch((error) => refused.push(error.message));
}
const other = learned(build, weights), [first] = Object.keys(other), record = new TextEncoder().encode('{"model_sha256": "0"}');
other[first].data = Float64Array.from(other[first].data, () => NaN);
for (const more of [{}, { "record.json": { data: record, shape: [record.length] } }]) {
    await weightsOf(build, writeNpz({ ...other, ...more }), "data.npz", kinds).catch((error) => refused.push(error.message));
}
await weightsOf(build, files["samples.npz"], "data.npz", kinds).catch((error) => refused.push(error.message));
console.log(JSON.stringify({
    epochs, refused, names: read, weights: difference(again, weights), count: same.length, random: randomU32(5, 7),
    samples: same.every(({ x, label }, i) => label === samples[i].label && x.every((value, j) => value === samples[i].x[j])),
}));
