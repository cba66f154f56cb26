// SPDX-License-Identifier: Apache-2.0
// The host's side of the link (docs/link.md): one request at a time, executed once. Frames are made and read by the C of the device itself.
//
// Messages go as a whole, as they do on a cable; a line that damages most of them is for `tinytrain open`, whose socket is never such a one.

import { joined, meaning, message } from "./module.js";
import { COMMAND } from "./session.js";

const VERSION = 3;
const READ = 0x8000, MOST_NUMBER = 0x7fff, HELLO_NUMBER = 0;
const HEAD = 4, ANSWER = 8, NONCE_WORD = 3;
const MOST_BYTES = 1 << 16; // of an answer that is asked for
const FAULT = 8;
const FIRST_WAIT = 250, LEAST_WAIT = 50, MOST_WAIT = 5000, SLOWER = 4; // ms of silence before something is sent again

function packet(number, at, data) {
    const bytes = new Uint8Array(HEAD + data.length);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, number, true);
    view.setUint16(2, at & 0xffff, true);
    bytes.set(data, HEAD);
    return bytes;
}

function u32(value) {
    return new Uint8Array(Uint32Array.of(value).buffer);
}

function view(bytes) {
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * A device behind a stream of bytes: { name, write(bytes), read() → bytes, or null once it has gone, close() }. `codec` is a Module, whose
 * frames are used and whose model is not. `timeout` in ms is the longest wait without anything new.
 */
export class LinkChannel {
    static async open(stream, codec, timeout = 60000) {
        const link = new LinkChannel(stream, codec, timeout);
        link.gone = link.listen();
        try {
            await link.hello();
        } catch (error) {
            await link.close();
            throw error;
        }
        return link;
    }

    constructor(stream, codec, timeout) {
        this.name = stream.name;
        this.stream = stream;
        this.codec = codec;
        this.timeout = timeout;
        this.token = 0;
        this.number = 0;
        this.nonce = crypto.getRandomValues(new Uint32Array(1))[0] || 1;
        this.usual = new Map(); // ms until a command is answered
        this.before = Promise.resolve(); // the calls that are not done
        this.heard = [];
        this.wake = () => {};
        this.ended = null; // why nothing comes any more
    }

    async listen() {
        try {
            for (let data = await this.stream.read(); data; data = await this.stream.read()) {
                this.heard.push(...this.codec.unpack(data, this.token ? [this.token, 0] : [0]));
                this.wake();
            }
            this.ended ??= `${this.name} has gone.`;
        } catch (error) {
            this.ended ??= `${this.name} has gone: ${error.message}`;
        }
        this.wake();
    }

    async hello() {
        const answer = await this.exchange(HELLO_NUMBER, message(COMMAND.HELLO, u32(this.nonce)));
        const words = view(answer);
        const version = answer.length < 4 ? 0 : words.getUint32(0, true);
        if (version !== VERSION) {
            throw new Error(`${this.name} speaks version ${version} of the link, and this page ${VERSION}. Compile the model again, and flash it.`);
        }
        if (words.getUint32(4, true) !== this.nonce) throw new Error(`${this.name} talks to another program. End that, and start again.`);
        this.token = words.getUint32(8, true);
        const hash = answer.subarray(48, 80);
        const [model, board] = new TextDecoder().decode(answer.subarray(80)).split("\0");
        this.info = { model, board, hash: Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join(""), arena: words.getUint32(24, true) };
    }

    /** { answers: [{ status, payload }], ms } of messages, one after the other, whoever else asks for some meanwhile. */
    calls(messages) {
        const done = this.before.then(() => this.called(messages));
        this.before = done.catch(() => {});
        return done;
    }

    async called(messages) {
        const began = performance.now();
        const answers = [];
        for (const request of messages) {
            this.number = (this.number % MOST_NUMBER) + 1;
            answers.push(await this.exchange(this.number, request, true));
        }
        return { answers, ms: performance.now() - began };
    }

    async exchange(number, request, withStatus = false) {
        const command = request[0];
        let answer = null, asking = false, silences = 0, since = performance.now();
        while (answer === null || answer.length < ANSWER || answer.length < ANSWER + view(answer).getUint32(4, true)) {
            const began = performance.now();
            if (began > since + this.timeout) throw await this.silent();
            const held = answer ?? new Uint8Array(0);
            const body = asking || answer ? packet(number | READ, held.length / 4, u32(MOST_BYTES)) : packet(number, 0, request);
            await this.send(body, number === HELLO_NUMBER ? 0 : this.token);
            const usual = this.usual.get(command) ?? FIRST_WAIT / SLOWER;
            const news = await this.news(number, held.length, Math.min(MOST_WAIT, Math.max(SLOWER * usual, LEAST_WAIT) * 2 ** Math.min(silences, 10)));
            if (news === null) {
                silences += 1;
                asking = number !== HELLO_NUMBER; // it may have been executed: only the device knows
            } else if (news.part) {
                if (silences === 0) this.usual.set(command, Math.max(performance.now() - began, 0.75 * usual));
                answer = joined([held, news.part]);
                silences = 0;
                since = performance.now();
            } else {
                asking = false; // not all of the request is there
                silences += 1;
            }
        }
        const payload = answer.slice(ANSWER, ANSWER + view(answer).getUint32(4, true));
        return withStatus ? { status: answer[0], payload } : payload;
    }

    async send(body, token) {
        const frame = this.codec.pack(body, token);
        try {
            await this.stream.write(frame);
        } catch (error) {
            this.ended ??= `${this.name} has gone: ${error.message}`;
            throw new Error(this.ended, { cause: error });
        }
    }

    /** { part } of the answer from byte `at` on, {} where the device waits for the request, null after `wait` ms. */
    async news(number, at, wait) {
        const deadline = performance.now() + wait;
        for (;;) {
            while (this.heard.length) {
                const [token, body] = this.heard.shift();
                if (body.length < HEAD) continue;
                const [first, word] = [view(body).getUint16(0, true), view(body).getUint16(2, true)];
                if (token === 0 && first === READ && body[HEAD] === FAULT) throw new Error(this.fault(body));
                if ((token === 0) !== (number === HELLO_NUMBER)) continue;
                if (first === (number | READ) && word === ((at / 4) & 0xffff) && body.length > HEAD) return { part: body.subarray(HEAD) };
                if (first === number) return {};
            }
            if (this.ended) throw new Error(this.ended);
            const left = deadline - performance.now();
            if (left <= 0) return null;
            await new Promise((resolve) => {
                const timer = setTimeout(resolve, left);
                this.wake = () => { clearTimeout(timer); resolve(); };
            });
        }
    }

    /** Why nothing is answered: a device that was reset, or greeted by another host, says so when it is asked whose session it has. */
    async silent() {
        if (this.token) {
            await this.send(packet(HELLO_NUMBER | READ, NONCE_WORD, u32(4)), 0);
            const said = await this.news(HELLO_NUMBER, 4 * NONCE_WORD, MOST_WAIT);
            const nonce = said?.part?.length >= 4 ? view(said.part).getUint32(0, true) : this.nonce;
            if (nonce === 0) return new Error(`${this.name} was reset; what it had learned is lost. Connect again.`);
            if (nonce !== this.nonce) return new Error(`${this.name} talks to another program now. End that, and connect again.`);
        }
        return new Error(`${this.name} did not answer within ${this.timeout / 1000} s. Does it run the firmware of this project? Reset it, and connect again.`);
    }

    fault(body) {
        const said = view(body);
        const [pc, cause] = [HEAD + ANSWER, HEAD + ANSWER + 4].map((at) => (body.length >= at + 4 ? said.getUint32(at, true) : 0));
        return `${this.name}: ${meaning(FAULT)} at pc 0x${pc.toString(16)}, cause 0x${cause.toString(16)}. Reset it, and connect again.`;
    }

    async close() {
        await this.stream.close();
        await this.gone;
    }
}
