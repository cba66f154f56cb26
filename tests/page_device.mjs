// SPDX-License-Identifier: Apache-2.0
// The page's link, without a page: a device that is a program, and the same model as WebAssembly.
// `node page_device.mjs MODULE MANIFEST STEPS PROGRAM…` prints JSON: how far the two are equal, and how long a step takes.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";

import { LinkChannel } from "../tinytrain/page/static/link.js";
import { Module } from "../tinytrain/page/static/module.js";
import { randomUnit } from "../tinytrain/page/static/random.js";
import { Session, difference } from "../tinytrain/page/static/session.js";

const [wasm, manifestFile, steps, ...command] = process.argv.slice(2);
const bytes = readFileSync(wasm), manifest = JSON.parse(readFileSync(manifestFile));

/** What the worker of the page does, in this thread. */
async function here() {
    const module = await Module.load(bytes);
    return {
        name: "this program",
        async calls(messages) {
            const began = performance.now();
            const answers = messages.map((request) => module.call(request));
            return { answers, ms: performance.now() - began };
        },
        async close() {},
    };
}

/** A program's standard input and output; each `lost`-th write is lost. */
function piped(lost = 0, [file, ...more] = command) {
    const program = spawn(file, more, { stdio: ["pipe", "pipe", "inherit"] });
    program.stdin.on("error", () => {}); // one that has ended is noticed where nothing more is read
    const chunks = program.stdout[Symbol.asyncIterator]();
    let writes = 0;
    return {
        name: "the program",
        async write(data) { if (!lost || ++writes % lost) program.stdin.write(data); },
        async read() { return (await chunks.next()).value ?? null; },
        async close() {
            program.kill();
            if (program.exitCode === null && program.signalCode === null) await once(program, "exit");
        },
    };
}

const browser = await Session.open(await here(), manifest);
const link = await LinkChannel.open(piped(), await Module.load(bytes));
const device = await Session.open(link, manifest);
const samples = Array.from({ length: Number(steps) }, (_, i) => ({
    x: Float32Array.from({ length: browser.inputs }, (_, j) => randomUnit(i, j)), target: i % browser.outputs,
}));
const results = await Promise.all([browser, device].map((session) => session.train(samples)));
const weights = await Promise.all([browser, device].map((session) => session.weights()));
const outputs = await Promise.all([browser, device, device].map((session) => session.infer(samples[0].x))); // two at once wait for each other
const changed = difference(...weights);
await device.reset();
const reset = difference(weights[0], await device.weights());
await device.setWeights(weights[0]);
const pushed = difference(weights[0], await device.weights());
const evaluated = await Promise.all([browser, device].map((session) => session.evaluate(samples.slice(0, 2))));
await device.close();

const lossy = await Session.open(await LinkChannel.open(piped(5), await Module.load(bytes)), manifest);
const again = await lossy.train(samples);
const lost = difference(new Map([["loss", Float32Array.from(again.losses)]]), new Map([["loss", Float32Array.from(results[0].losses)]]));
await lossy.close();
const silent = await LinkChannel.open(piped(0, ["sleep", "60"]), await Module.load(bytes), 700).catch((error) => error.message);
const greeted = piped();
const first = await LinkChannel.open(greeted, await Module.load(bytes));
first.timeout = 1500; // of its session: the emulator may have needed longer to start
const codec = await Module.load(bytes);
await greeted.write(codec.pack(Uint8Array.from([0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0]), 0)); // hello with nonce 7
const replaced = await Session.open(first, manifest).catch((error) => error.message);
await first.close();
const ended = piped(0, ["true"]);
const gone = await LinkChannel.open(ended, await Module.load(bytes)).catch((error) => error.message);
console.log(JSON.stringify({
    silent, replaced, gone,
    info: link.info, losses: results.map((result) => result.losses), changed, reset, pushed, lost, outputs: outputs.map((y) => [...y]),
    evaluated: evaluated.map((found) => found.map(({ loss, output }) => [loss, ...output])), ms: results[0].ms / samples.length,
}));
