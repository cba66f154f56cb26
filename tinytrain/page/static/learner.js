// SPDX-License-Identifier: Apache-2.0
// What the panels of one build share: its model in a worker, the classes, and the samples that a person has collected.

import { decoded } from "./keep.js";
import { size } from "./layout.js";
import { Session, WorkerChannel } from "./session.js";

const CLASSES = ["ce", "ce-soft", "focal", "bce"]; // losses of them
const learners = new Map();

/** The learner of a build; the model starts when somebody first asks for its `session`. */
export function learnerOf(build) {
    if (!learners.has(build)) learners.set(build, new Learner(build));
    return learners.get(build);
}

/** Why a build cannot be taught in the page: "" where it can. */
export function whyNot({ teaching, manifest }) {
    if (teaching.why_not) return teaching.why_not;
    const { target, input, output } = manifest;
    if (target.parts?.length || input.parts?.length || output.parts?.length) return "The model has several inputs or outputs, which the page does not teach. Use `tinytrain train`.";
    if (!CLASSES.includes(manifest.loss) || size(output.shape) < 2) return `The model was compiled with loss ${manifest.loss}, and does not learn classes, which is what the page teaches. Use \`tinytrain train\`.`;
    if (input.dtype !== "f32" && input.dtype !== "s8") return `The model takes ${input.dtype}, which the page does not give. Use \`tinytrain train\`.`;
    return "";
}

class Learner extends EventTarget {
    constructor(build) {
        super();
        this.build = build;
        const { output, classes } = build.manifest;
        this.names = Array.from({ length: size(output.shape) }, (_, i) => classes?.[i] ?? String(i));
        this.samples = []; // { x, label }
        this.epochs = 0;
        this.opening = null;
    }

    get classes() {
        return this.names.length;
    }

    session() {
        this.opening ??= WorkerChannel.start(decoded(this.build.files["model.wasm"])).then((channel) => Session.open(channel, this.build.manifest));
        return this.opening;
    }

    add(samples) {
        this.samples.push(...samples);
        this.tell("samples");
    }

    /** Take the last sample of a class away. */
    removeLast(label) {
        const at = this.samples.findLastIndex((sample) => sample.label === label);
        if (at >= 0) this.samples.splice(at, 1);
        this.tell("samples");
    }

    count(label) {
        return this.samples.filter((sample) => sample.label === label).length;
    }

    rename(label, name) {
        this.names[label] = name;
        this.tell("names");
    }

    /** "samples", "names" or "weights" have changed. */
    tell(what) {
        this.dispatchEvent(new Event(what));
    }
}
