// SPDX-License-Identifier: Apache-2.0
// Time of a training step in the page's module. `node browser_step.mjs MODULE SAMPLE LABEL STEPS ROUNDS` prints JSON: the first loss, and
// milliseconds of CPU time a step in the quickest round.
import { readFileSync } from "node:fs";

import { Module, message } from "../tinytrain/page/static/module.js";
import { COMMAND } from "../tinytrain/page/static/session.js";

const [wasm, sample, label, steps, rounds] = process.argv.slice(2);
const module = await Module.load(readFileSync(wasm));
const x = readFileSync(sample), payload = new Uint8Array(x.length + 4);
payload.set(x);
new DataView(payload.buffer).setInt32(x.length, Number(label), true);
const request = message(COMMAND.TRAIN, payload);

function step() {
    const { status, payload: answer } = module.call(request);
    if (status !== 0) throw new Error(`status ${status}`);
    return new DataView(answer.buffer, answer.byteOffset).getFloat32(0, true);
}

const loss = step();
let quickest = Infinity;
for (let round = 0; round < Number(rounds); ++round) {
    const began = process.cpuUsage();
    for (let i = 0; i < Number(steps); ++i) step();
    const { user, system } = process.cpuUsage(began);
    quickest = Math.min(quickest, (user + system) / 1000 / Number(steps));
}
console.log(JSON.stringify({ loss, ms: quickest }));
