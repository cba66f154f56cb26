// SPDX-License-Identifier: Apache-2.0
// The Memory panel: where the bytes are, and what each layer takes.

import { html } from "./dom.js";
import { bytes } from "./format.js";

export const name = "memory";
export const title = "Memory";

export function offered() {
    return true;
}

export function mount(element, project) {
    for (const build of project.builds) {
        element.append(html("p", {}, `${build.folder}: arena ${bytes(build.manifest.memory.arena_bytes)}`));
    }
}
