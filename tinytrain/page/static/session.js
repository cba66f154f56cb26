// SPDX-License-Identifier: Apache-2.0
// A conversation with a model: in this page's worker, or on a device. Samples and weights are arrays as the device has them.

import { rint, size } from "./layout.js";
import { joined, meaning, message } from "./module.js";

export const COMMAND = {
    HELLO: 1, INFER: 2, TRAIN: 3, EVALUATE: 4, PARAM_INFO: 5, READ_PARAM: 6, WRITE_PARAM: 7, SET_LR: 8, RESET: 10, SET_SCHEME: 11,
};
const NOT_FINITE = 10, ARGUMENT = 2;
const CHOICE = "choice_of_schemes";
const READ_BYTES = 16384;
// by tt_tag
const ARRAYS = [Float32Array, Uint16Array, Int8Array, Int16Array, Int32Array, Uint8Array];

/** What runs in a worker of the page; `calls` are messages that it executes at once. */
export class WorkerChannel {
    static async start(wasm) {
        const channel = new WorkerChannel(new Worker(new URL("./worker.js", import.meta.url), { type: "module" }));
        await channel.ask({ load: wasm });
        return channel;
    }

    constructor(worker) {
        this.name = "this page";
        this.worker = worker;
        this.waiting = new Map();
        this.next = 1;
        worker.onmessage = ({ data: { id, error, ...answer } }) => {
            const { resolve, reject } = this.waiting.get(id);
            this.waiting.delete(id);
            if (error === undefined) resolve(answer);
            else reject(new Error(error));
        };
        worker.onerror = (event) => {
            event.preventDefault();
            for (const { reject } of this.waiting.values()) reject(new Error(`The worker of the page stopped: ${event.message}.`));
            this.waiting.clear();
        };
    }

    ask(what) {
        const id = this.next++;
        return new Promise((resolve, reject) => {
            this.waiting.set(id, { resolve, reject });
            this.worker.postMessage({ id, ...what });
        });
    }

    /** { answers: [{ status, payload }], ms } */
    calls(messages) {
        return this.ask({ calls: messages });
    }

    async close() {
        this.worker.terminate();
    }
}

function bytesOf(array) {
    return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** A model behind a channel (`calls`, `close`, `name`); `manifest` says how samples and weights look. */
export class Session {
    static async open(channel, manifest) {
        const session = new Session(channel, manifest);
        await session.list();
        return session;
    }

    constructor(channel, manifest) {
        this.channel = channel;
        this.manifest = manifest;
        this.name = channel.name;
        this.parameters = new Map();
        this.busy = false;
        this.inputs = size(manifest.input.shape);
        this.outputs = size(manifest.output.shape);
        this.targets = manifest.target ? size(manifest.target.shape) : 0;
        const sample = ((this.input(new Float32Array(this.inputs)).length + 3) & ~3) + 4 * this.targets;
        this.room = Math.max(64, sample);
    }

    async list() {
        for (let index = 0; ; ++index) {
            const { answers: [{ status, payload }] } = await this.channel.calls([message(COMMAND.PARAM_INFO, undefined, index)]);
            if (status === ARGUMENT) return;
            this.check(status, "tell its parameters");
            const view = new DataView(payload.buffer, payload.byteOffset);
            const name = new TextDecoder().decode(payload.subarray(8, payload.indexOf(0, 8)));
            this.parameters.set(name, { index, bytes: view.getUint32(0, true), kind: ARRAYS[view.getUint32(4, true)] });
        }
    }

    check(status, what) {
        if (status !== 0) throw new Error(`${this.name} did not ${what}: ${meaning(status)}.`);
    }

    async call(what, command, payload, index, offset) {
        const { answers: [answer] } = await this.channel.calls([message(command, payload, index, offset)]);
        this.check(answer.status, what);
        return answer.payload;
    }

    /** Answers of messages that nothing else comes between. */
    async together(messages, what) {
        const { answers } = await this.channel.calls(messages);
        for (const { status } of answers) this.check(status, what);
        return answers.map(({ payload }) => payload);
    }

    /** Training or comparing, which other such work would spoil. Throws while some goes on. */
    async alone(work) {
        if (this.busy) throw new Error(`${this.name} is training or being compared: wait for its end, or stop it.`);
        this.busy = true;
        try {
            return await work();
        } finally {
            this.busy = false;
        }
    }

    /** Bytes of a sample: floats, or the integers that stand for them. */
    input(x) {
        const { quant } = this.manifest.input;
        if (!quant) return bytesOf(Float32Array.from(x));
        const scale = Math.fround(quant.scale[0]);
        return bytesOf(Int8Array.from(x, (value) => Math.max(-128, Math.min(127, rint(Math.fround(value / scale)) + quant.zero_point))));
    }

    /** Bytes of a sample and its target: the number of a class, or what the loss compares the output with. */
    sample(x, target) {
        const input = this.input(x);
        const { dtype } = this.manifest.target;
        const values = dtype === "s32" ? Int32Array.of(target) : typeof target === "number" ? oneHot(target, this.targets) : Float32Array.from(target);
        return joined([input, new Uint8Array(-input.length & 3), bytesOf(values)]);
    }

    floats(payload, from = 0) {
        return new Float32Array(payload.slice(from).buffer);
    }

    async infer(x) {
        return this.floats(await this.call("infer", COMMAND.INFER, this.input(x)));
    }

    /** Several at once: [{ loss, output }]; nothing is updated. */
    async evaluate(samples) {
        const found = await this.together(samples.map(({ x, target }) => message(COMMAND.EVALUATE, this.sample(x, target))), "evaluate");
        return found.map((payload) => ({ loss: this.floats(payload)[0], output: this.floats(payload, 4) }));
    }

    /** Steps with these samples, one after the other: { losses, ms }. The loss of one that was left out is not a number. */
    async train(samples) {
        const { answers, ms } = await this.channel.calls(samples.map(({ x, target }) => message(COMMAND.TRAIN, this.sample(x, target))));
        return { ms, losses: answers.map(({ status, payload }) => {
            if (status !== NOT_FINITE) this.check(status, "train");
            return new DataView(payload.buffer, payload.byteOffset).getFloat32(0, true);
        }) };
    }

    async setLearningRate(rate) {
        await this.call("set the learning rate", COMMAND.SET_LR, bytesOf(Float32Array.of(rate)));
    }

    /** Drop gradients that are summed and not yet applied: the next sample is the first of an update. */
    async beginUpdate() {
        if (this.parameters.has(CHOICE)) return; // such a device chooses its scheme, and each of its samples is an update
        await this.call("begin an update", COMMAND.SET_SCHEME, bytesOf(Uint32Array.of(0)));
    }

    async reset() {
        await this.call("reset", COMMAND.RESET);
    }

    /** Name → array, of all that training changes, as it is between two steps. */
    async weights() {
        const parts = [...this.parameters].flatMap(([name, { index, bytes }]) => starts(bytes, READ_BYTES).map((at) => (
            { name, request: message(COMMAND.READ_PARAM, bytesOf(Uint32Array.of(Math.min(READ_BYTES, bytes - at))), index, at) }
        )));
        const payloads = await this.together(parts.map(({ request }) => request), "tell its weights");
        return new Map([...this.parameters].map(([name, { kind }]) => (
            [name, new kind(joined(payloads.filter((_, i) => parts[i].name === name)).buffer)]
        )));
    }

    /** Overwrite these weights, between two steps; nothing is written unless all of them fit. */
    async setWeights(values) {
        for (const [name, array] of values) {
            const there = this.parameters.get(name);
            if (there?.bytes !== array.byteLength) {
                throw new Error(`${this.name} has ${there ? `${there.bytes} bytes` : "nothing"} called ${name}, and was given ${array.byteLength}.`);
            }
        }
        await this.together([...values].flatMap(([name, array]) => starts(array.byteLength, this.room).map((at) => (
            message(COMMAND.WRITE_PARAM, bytesOf(array).subarray(at, at + this.room), this.parameters.get(name).index, at)
        ))), "take the weights");
    }

    async close() {
        await this.channel.close();
    }
}

/** Where parts of at most so many bytes begin. */
function starts(bytes, most) {
    return Array.from({ length: Math.ceil(bytes / most) }, (_, i) => i * most);
}

function oneHot(label, count) {
    const values = new Float32Array(count);
    values[label] = 1;
    return values;
}

/** Whether two sets of weights, or arrays, have the same bits: "" or where they first differ. */
export function difference(one, other) {
    for (const [name, array] of one) {
        const bytes = bytesOf(array), others = bytesOf(other.get(name));
        const at = bytes.findIndex((byte, i) => byte !== others[i]);
        if (at >= 0) return `${name}[${Math.floor(at / array.BYTES_PER_ELEMENT)}]`;
    }
    return "";
}
