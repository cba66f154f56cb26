// SPDX-License-Identifier: Apache-2.0
// A model as WebAssembly, made from the C that its board runs (runtime_c/port_browser.c). It answers the messages of docs/link.md.

const REQUEST_HEAD = 12;

/** What a status of an answer means that is not 0 (tt_types.h), for a person. */
const MEANING = {
    1: "the arena is too small or not aligned", 2: "an index or offset is out of range", 3: "the class label is out of range",
    4: "the request arrived damaged", 5: "it was not compiled for that command", 6: "the sample has the wrong length",
    7: "its stack has overflowed; the weights can no longer be trusted", 8: "it stopped with a fault",
    9: "loss or gradients were infinite, or not a number, in many steps in a row: use a lower learning rate",
    10: "a sample, its loss or a gradient was not finite",
};

export function meaning(status) {
    return MEANING[status] ?? `status ${status}`;
}

/** A request as the device holds it: Uint8Array, filled up to a multiple of four bytes. */
export function message(command, payload = new Uint8Array(0), index = 0, offset = 0) {
    const bytes = new Uint8Array(REQUEST_HEAD + ((payload.length + 3) & ~3));
    const head = new DataView(bytes.buffer);
    head.setUint8(0, command);
    head.setUint16(2, index, true);
    head.setUint32(4, offset, true);
    head.setUint32(8, payload.length, true);
    bytes.set(payload, REQUEST_HEAD);
    return bytes;
}

export function joined(parts) {
    const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
    return all;
}

/** One instance of the module: `call` runs its model, `pack` and `unpack` are the frames of a line, for a host that talks to a board. */
export class Module {
    static async load(bytes) {
        let said = [];
        const { instance } = await WebAssembly.instantiate(bytes, {
            tinytrain: { say: (at, count) => said.push(new Uint8Array(instance.exports.memory.buffer, at, count).slice()) },
        }).catch((error) => {
            throw new Error(`This browser does not run the model: it takes WebAssembly with vectors, as Chrome 91, Firefox 89 and Safari 16.4 have (${error.message}).`, { cause: error });
        });
        const module = new Module(instance.exports, () => {
            const all = said.length === 1 ? said[0] : joined(said);
            said = [];
            return all;
        });
        if (instance.exports.main() !== 0) throw new Error("The model does not start.");
        return module;
    }

    constructor(exports, said) {
        this.exports = exports;
        this.said = said;
        this.at = exports.tt_port_in();
        this.room = exports.tt_port_in_bytes();
    }

    put(bytes) {
        new Uint8Array(this.exports.memory.buffer, this.at).set(bytes);
    }

    /** Execute a message: { status, payload }. */
    call(request) {
        for (let from = 0; from < request.length; from += this.room) {
            const part = request.subarray(from, from + this.room);
            this.put(part);
            if (this.exports.tt_port_write(from, part.length) < part.length) return { status: 6, payload: new Uint8Array(0) };
        }
        const status = this.exports.tt_port_call();
        return { status, payload: this.said() };
    }

    /** The frame of a body, made with that token. */
    pack(body, token) {
        if (body.length > this.room) throw new Error(`A frame of ${body.length} bytes is too long; ${this.room} fit.`);
        this.put(body);
        this.exports.tt_port_pack(body.length, token);
        return this.said();
    }

    /** The bodies that these bytes of a line complete, each with the token, one of `tokens`, that it was made with: [token, body]. */
    unpack(bytes, tokens) {
        const found = [];
        for (let from = 0; from < bytes.length; from += this.room) {
            const part = bytes.subarray(from, from + this.room);
            this.put(part);
            for (let at = 0; at < part.length;) {
                at = this.exports.tt_port_unpack(at, part.length);
                const token = tokens.find((token) => this.exports.tt_port_body(token) > 0);
                if (token !== undefined) found.push([token, this.said()]);
            }
        }
        return found;
    }
}
