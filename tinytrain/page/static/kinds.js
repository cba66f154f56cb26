// SPDX-License-Identifier: Apache-2.0
// What bytes are for: names and colours (--kind-… of style.css), and how a build fills the memories of its board.

export const KINDS = {
    weights: "trained weights", optimiser: "optimiser state", sample: "sample", activation: "activations", gradient: "gradients",
    scratch: "scratch", spare: "scratch in bytes to spare", temporaries: "activations, gradients, scratch", buffers: "buffers of the firmware", stack: "stack (reserved)",
    constants: "constants, first weights", code: "code",
};

/** The colour of a kind, as CSS has it. */
export function colour(kind) {
    return `var(--kind-${kind})`;
}

/** [{name, bytes, parts: [{kind, bytes}], note}] of a board's memories, RAM first; none of the host and the browser, whose memory has no end. */
export function memories(build) {
    const sizes = build.plan.memory;
    const optimiser = build.plan.fixed.filter((buffer) => buffer.kind === "optimiser").reduce((sum, buffer) => sum + buffer.bytes, 0);
    const arena = [
        { kind: "weights", bytes: sizes.fixed_bytes - optimiser }, { kind: "optimiser", bytes: optimiser },
        { kind: "temporaries", bytes: sizes.arena_bytes - sizes.fixed_bytes },
    ];
    const rest = [{ kind: "buffers", bytes: sizes.buffer_bytes }, { kind: "stack", bytes: sizes.stack_bytes }];
    const found = build.board.memories.filter((memory) => memory.kind === "ram").map((memory, index) => ({
        name: memory.name, bytes: memory.bytes, note: "",
        parts: [...(memory.name === sizes.arena_in ? arena : []), ...(index === 0 ? rest : [])],
    }));
    const flash = build.board.memories.filter((memory) => memory.kind === "flash");
    if (flash.length) {
        const code = flashBytes(build) - sizes.data_bytes;
        found.push({
            name: flash.map((memory) => memory.name).join(" and "), bytes: flash.reduce((sum, memory) => sum + memory.bytes, 0),
            parts: [{ kind: "constants", bytes: sizes.data_bytes }, { kind: "code", bytes: Math.max(0, code) }],
            note: build.firmware ? "" : build.plan.estimate ? "code is an estimate: the project was not built" : "without code: the project was not built",
        });
    }
    return found;
}

/** Bytes of RAM: the arena, and what a firmware keeps beside it. */
export function ramBytes(build) {
    const { arena_bytes: arena, buffer_bytes: buffers, stack_bytes: stack } = build.plan.memory;
    return build.board.host ? arena : arena + buffers + stack;
}

/** Bytes of flash as built, or as estimated; of constants alone where nobody knows more. */
export function flashBytes(build) {
    return build.firmware ? build.firmware.flash_bytes : build.plan.memory.data_bytes + (build.plan.estimate?.code_bytes ?? 0);
}

/** MACs of an entry in a phase. */
export function macs(entry, phase) {
    return entry.nodes.filter((node) => node.phase === phase).reduce((total, node) => total + node.macs, 0);
}

/** Milliseconds of so many cycles at the clock that the firmware sets; null where either is not known. */
export function time(build, cycles) {
    return cycles === null || !build.board.clock_hz ? null : (cycles / build.board.clock_hz) * 1000;
}

/** The entry that a build is looked at in: a training step where it trains. */
export function mainEntry(build) {
    return build.plan.entries.train ? "train" : "infer";
}
