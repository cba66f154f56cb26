// SPDX-License-Identifier: Apache-2.0
// A part of a picture that is looked at: zoomed by wheel, pinch, keys and buttons, and moved by dragging.

const MOST = 400;                                         // times the whole is the most that it is enlarged

/** Numbers from `whole` = {x0, x1, y0, y1}; zooming and moving stay inside, and call `changed`. */
export function view(whole, changed) {
    const now = { ...whole };
    const axes = [["x0", "x1"], ["y0", "y1"]];

    /** Multiply what is seen by `factor` around a point, given as parts of what is seen now. */
    function zoom(factor, at = [0.5, 0.5]) {
        axes.forEach(([low, high], axis) => {
            const size = now[high] - now[low];
            const most = whole[high] - whole[low];
            const wanted = Math.min(most, Math.max(most / MOST, size * factor));
            now[low] += (size - wanted) * at[axis];
            now[high] = now[low] + wanted;
        });
        move([0, 0]);
    }

    /** Move by parts of what is seen. */
    function move(by) {
        axes.forEach(([low, high], axis) => {
            const size = now[high] - now[low];
            now[low] = Math.min(whole[high] - size, Math.max(whole[low], now[low] + by[axis] * size));
            now[high] = now[low] + size;
        });
        changed();
    }

    function reset(other = whole) {
        whole = other;
        Object.assign(now, whole);
        changed();
    }

    return { now, zoom, move, reset };
}

/** Let an element's pointers and wheel move a view; `place(event)` gives a pointer's place as parts of what is seen, `tapped` a click. */
export function handled(element, seen, place, tapped) {
    const down = new Map();
    let moved = false;

    element.addEventListener("wheel", (event) => {
        if (!event.ctrlKey && document.activeElement !== element) return;           // the page scrolls on
        event.preventDefault();
        seen.zoom(Math.exp(Math.max(-100, Math.min(100, event.deltaY)) / 250), place(event));
    }, { passive: false });
    element.addEventListener("pointerdown", (event) => {
        down.set(event.pointerId, place(event));
        moved = false;
    });
    element.addEventListener("pointermove", (event) => {
        const before = down.get(event.pointerId);
        if (!before) return;
        const after = place(event);
        if (Math.hypot(after[0] - before[0], after[1] - before[1]) < 0.004) return;
        if (!moved) element.setPointerCapture(event.pointerId);
        moved = true;
        const [other] = [...down].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
        down.set(event.pointerId, after);
        if (!other) return void seen.move([before[0] - after[0], before[1] - after[1]]);
        const apart = (at) => Math.max(0.02, Math.hypot(at[0] - other[0], at[1] - other[1]));
        seen.zoom(apart(before) / apart(after), [(after[0] + other[0]) / 2, (after[1] + other[1]) / 2]);
    });
    for (const name of ["pointerup", "pointercancel"]) {
        element.addEventListener(name, (event) => {
            if (down.delete(event.pointerId) && !moved && name === "pointerup") tapped(event);
        });
    }
}
