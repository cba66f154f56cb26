// SPDX-License-Identifier: Apache-2.0
// The Device panel: the same model on a board by Web Serial, or on what `tinytrain open` runs: train there, compare its bits with the
// page's, move weights.

import { html } from "./dom.js";
import { bytes, count } from "./format.js";
import { decoded } from "./keep.js";
import { learnerOf } from "./learner.js";
import { LinkChannel } from "./link.js";
import { Module } from "./module.js";
import { trainingForm } from "./progress.js";
import { randomUnit } from "./random.js";
import { Session, difference } from "./session.js";
import { openPort, openSocket } from "./streams.js";
import { alertPlace, eachBuild, keepButtons } from "./teach.js";

export const name = "device";
export const title = "Device";

const COMPARED = 8; // samples
const BAUD = 115200; // of the boards' UARTs

export function offered() {
    return true;
}

export function mount(element, project) {
    eachBuild(element, project, (build) => panel(build));
}

/** A session with the firmware of this build behind a stream. Throws one sentence where it runs another one. */
async function connected(build, stream) {
    const link = await LinkChannel.open(stream, await Module.load(decoded(build.files["model.wasm"])));
    const { info } = link;
    const { name: model, board, model_sha256: hash } = build.manifest;
    let why = "";
    if (info.board !== board) why = `was built for board ${info.board}, and this project for ${board}`;
    else if (info.hash !== hash) why = `is of another model (${info.model}) than ${model} of this page`;
    try {
        if (why) throw new Error(`The firmware on ${stream.name} ${why}. Flash this project: \`tinytrain flash\`.`);
        return await Session.open(link, build.manifest);
    } catch (error) {
        await link.close();
        throw error;
    }
}

/** Samples to compare with: those collected, or else numbers that look random. */
function comparable(learner, session) {
    if (learner.samples.length) return learner.samples.slice(0, COMPARED).map(({ x, label }) => ({ x, target: label }));
    return Array.from({ length: COMPARED }, (_, i) => ({ x: Float32Array.from({ length: session.inputs }, (_, j) => randomUnit(i, j)), target: i % learner.classes }));
}

/**
 * Both start an update from the page's weights, and compute outputs and train with the same samples; then both have the weights again that
 * they had, and start an update.
 * What is the same, or where they first differ, as a sentence.
 */
async function compared(learner, page, device) {
    const samples = comparable(learner, page);
    const [mine, theirs] = [await page.weights(), await device.weights()];
    const begin = async (ours, others) => {
        for (const [session, weights] of [[page, ours], [device, others]]) {
            await session.setWeights(weights);
            await session.beginUpdate();
        }
    };
    const bits = (floats) => new Map(floats.map((values, i) => [`number ${i}`, values]));
    const both = async (work) => [await work(page), await work(device)];
    try {
        await begin(mine, mine);
        const outputs = await both(async (session) => bits(await Promise.all(samples.map(({ x }) => session.infer(x)))));
        const losses = await both(async (session) => bits([Float32Array.from((await session.train(samples)).losses)]));
        const weights = await both((session) => session.weights());
        const differs = [["outputs", difference(...outputs)], ["losses", difference(...losses)], ["weights", difference(...weights)]].find(([, at]) => at);
        if (differs) return `They differ: ${differs[0]} at ${differs[1]}.`;
        const numbers = [...weights[0].values()].reduce((sum, array) => sum + array.length, 0);
        return `Every bit is the same: ${samples.length} outputs, the losses of ${samples.length} training steps, and ${count(numbers)} numbers that these changed.`;
    } finally {
        await begin(mine, theirs);
    }
}

function panel(build) {
    const learner = learnerOf(build);
    const { place, fail, doing: tried } = alertPlace();
    const said = html("p", { role: "status" }, "Not connected.");
    const controls = html("div", { hidden: true });
    const verdict = html("p", { role: "status", class: "verdict" });
    let device = null;
    /** One that has gone is no longer connected. */
    const leave = () => device?.channel.ended && disconnect();
    const doing = async (work) => {
        const found = await tried(work);
        await leave();
        return found;
    };

    async function connect(open) {
        await disconnect();
        said.textContent = "Connecting …";
        await doing(async () => {
            const session = await connected(build, await open());
            device = session;
            said.textContent = `Connected: ${session.channel.info.model} on ${build.board.title}, ${session.name}; arena ${bytes(session.channel.info.arena)}.`;
        });
        if (!device) said.textContent = "Not connected.";
        shown();
    }
    async function disconnect() {
        const session = device;
        device = null;
        await session?.close();
        said.textContent = "Not connected.";
        shown();
    }
    function shown() {
        controls.hidden = !device;
        end.disabled = !device;
    }
    const there = () => {
        if (!device) throw new Error("No device is connected.");
        return device;
    };
    /** A button that does something with the device, one thing at a time. */
    const action = (label, work) => {
        const button = html("button", { type: "button", onclick: async () => {
            button.disabled = true;
            verdict.textContent = "";
            const text = await doing(work);
            if (text) verdict.textContent = text;
            button.disabled = false;
        } }, label);
        return button;
    };
    const baud = html("input", { type: "number", min: "300", step: "1", value: BAUD });
    const serial = html("button", { type: "button", class: "main", onclick: () => connect(() => openPort(navigator.serial, baud.valueAsNumber || BAUD)) }, "Connect a board (serial port)");
    const socket = build.device && html("button", { type: "button", class: "main", onclick: () => connect(() => openSocket(build.device.address, build.device.name)) }, `Connect ${build.device.name}`);
    const end = html("button", { type: "button", disabled: true, onclick: () => doing(disconnect) }, "Disconnect");
    const noSerial = !("serial" in navigator);
    serial.disabled = noSerial;

    const training = trainingForm(learner, { session: async () => there(), fail: (error) => { fail(error); leave(); }, epochs: 1, label: "Train on the device", where: "on the device" });
    controls.append(
        html("section", { "aria-label": "Bits" }, html("h2", {}, "The same bits"),
            html("div", { class: "row" }, action("Compare the device with this page", async () => {
                const [page, board] = [await learner.session(), there()];
                return page.alone(() => board.alone(() => compared(learner, page, board)));
            })), verdict),
        html("section", { "aria-label": "Training on the device" }, html("h2", {}, "Training there"),
            html("p", { class: "soft" }, "With the samples of the Teach panel."), training.element),
        html("section", { "aria-label": "Weights" }, html("h2", {}, "Weights"), html("div", { class: "row" },
            action("Push: page → device", async () => {
                await there().setWeights(await (await learner.session()).weights());
                return "The device has the weights of this page.";
            }),
            action("Pull: device → page", async () => {
                await (await learner.session()).setWeights(await there().weights());
                learner.tell("weights");
                return "This page has the weights of the device.";
            }),
            action("Forget what the device learned", async () => {
                await there().reset();
                return "The device has the weights that it was compiled with.";
            }),
            keepButtons(build, async () => there().weights(), doing))),
    );
    return html("div", {}, place, html("div", { class: "row" }, serial, html("label", { class: "field" }, "Bits a second", baud), socket, end), said,
        noSerial ? html("p", { class: "soft" }, "This browser has no Web Serial: use Chrome, Edge or Chromium, or `tinytrain open --port`, which opens the port itself.") : null, controls);
}
