// SPDX-License-Identifier: Apache-2.0
// Runs a model as WebAssembly: standard input and output are the line of its link. `node run.mjs MODEL.wasm`
import { readFileSync, writeSync } from 'node:fs';

let said = [];
const module = new WebAssembly.Module(readFileSync(process.argv[2]));
const { exports } = new WebAssembly.Instance(module, {
    tinytrain: { say: (at, bytes) => said.push(Buffer.from(new Uint8Array(exports.memory.buffer, at, bytes))) },
});

function write(bytes) { // all of it, also into a pipe that is full
    for (let at = 0; at < bytes.length;) {
        try {
            at += writeSync(1, bytes, at);
        } catch (error) {
            if (error.code !== 'EAGAIN') throw error;
        }
    }
}

if (exports.main() !== 0) throw new Error('the model does not start');
const at = exports.tt_port_in(), most = exports.tt_port_in_bytes();
process.stdin.on('data', (data) => {
    for (let from = 0; from < data.length; from += most) {
        const part = data.subarray(from, from + most);
        new Uint8Array(exports.memory.buffer, at).set(part);
        exports.tt_port_take(part.length);
        const answer = Buffer.concat(said);
        said = [];
        write(answer);
    }
});
