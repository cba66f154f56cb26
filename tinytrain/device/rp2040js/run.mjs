// SPDX-License-Identifier: Apache-2.0
// Runs a UF2 in rp2040js: its blocks go to the flash, UART0 is standard input and output. `node run.mjs FIRMWARE.uf2 [--icount]`
//
// The package has no image of the boot ROM, so this does what the ROM does with a flash that it can boot from (RP2040 data sheet, section
// 2.8.1.3): boot stage 2 is checked by its CRC, copied to the end of RAM, and called.
import { readFileSync } from 'node:fs';
import { RP2040 } from 'rp2040js';

const FLASH = 0x10000000, STAGE2 = 0x20041f00, STAGE2_BYTES = 252;
const UF2_BYTES = 512, UF2_MAGIC = [0x0a324655, 0x9e5d5157], RP2040_FAMILY = 0xe48bff56;
const AT_ONCE = 200_000; // instructions until standard input is looked at again
const CYCLE_NS = 8;

function fail(message) {
    process.stderr.write(`${message}\n`);
    process.exit(2);
}

function load(image, flash) {
    for (let at = 0; at + UF2_BYTES <= image.length; at += UF2_BYTES) {
        const word = (i) => image.readUInt32LE(at + 4 * i);
        if (word(0) !== UF2_MAGIC[0] || word(1) !== UF2_MAGIC[1]) fail(`block ${at / UF2_BYTES} is not of a UF2 file`);
        if (word(7) !== RP2040_FAMILY) fail(`family 0x${word(7).toString(16)} is not that of the RP2040`);
        flash.set(image.subarray(at + 32, at + 32 + word(4)), word(3) - FLASH);
    }
}

function crc32(bytes) {
    let crc = ~0;
    for (const byte of bytes) {
        crc ^= byte << 24;
        for (let bit = 0; bit < 8; ++bit) crc = (crc << 1) ^ (crc < 0 ? 0x04c11db7 : 0);
    }
    return crc >>> 0;
}

const [file, ...options] = process.argv.slice(2);
const chip = new RP2040();
const { core, clock } = chip;
const uart = chip.uart[0];
const instructionNs = options.includes('--icount') ? 1 : 0; // as QEMU counts; otherwise the cycles of the core's model

chip.logger = { debug() {}, info() {}, warn(...words) { console.error(...words); }, error(...words) { console.error(...words); } };
load(readFileSync(file), chip.flash);
const stage2 = chip.flash.subarray(0, STAGE2_BYTES);
if (crc32(stage2) !== Buffer.from(chip.flash.buffer).readUInt32LE(STAGE2_BYTES)) fail('boot stage 2 has a wrong CRC: the ROM would not start it');
chip.sram.set(stage2, STAGE2 - 0x20000000);
core.registers[14] = 0;
core.PC = STAGE2;

// With PRIMASK set, an interrupt that becomes pending ends WFI and is not taken (Armv6-M Architecture Reference Manual, B1.5.17);
// version 1.4.1 takes it.
const check = core.checkForInterrupts.bind(core);
core.checkForInterrupts = () => (core.PM ? (core.pendingInterrupts & core.enabledInterrupts) !== 0 : check());

// A SysTick that is written counts on from its reload value and pends nothing (the same, B3.3.1); version 1.4.1 pends an interrupt.
const SYST_CVR = 0x18;
const write = chip.ppb.writeUint32.bind(chip.ppb);
chip.ppb.writeUint32 = (offset, value) => {
    if (offset === SYST_CVR) chip.ppb.systickTimer.set(chip.ppb.systickReload);
    else write(offset, value);
};

let sent = [];
uart.onByte = (byte) => sent.push(byte);
const received = [];
let next = 0; // of `received`
let scheduled = false;

function run() {
    scheduled = false;
    for (let i = 0; i < AT_ONCE; ++i) {
        while (next < received.length && !uart.rxFIFO.full) uart.feedByte(received[next++]);
        if (core.waiting && !core.interruptsUpdated) break; // until a byte comes: nothing else wakes this firmware
        const cycles = core.executeInstruction();
        clock.tick(instructionNs || cycles * CYCLE_NS);
    }
    if (next === received.length) received.length = next = 0;
    if (sent.length) process.stdout.write(Buffer.from(sent));
    sent = [];
    if (!core.waiting) wake();
}

function wake() {
    if (!scheduled) setImmediate(run);
    scheduled = true;
}

process.stdin.on('data', (bytes) => {
    for (const byte of bytes) received.push(byte);
    wake();
});
process.stdin.on('end', () => process.exit(0));
wake();
