/* SPDX-License-Identifier: Apache-2.0 */
/* Gestures from an accelerometer. For each window the model says what it saw; where the user holds a button, it learns that it was that one. */
#include "gestures_config.h"
#include "print.h"
#include "sensor.h"
#include "tt_port.h"

#define CHANNELS 3
#define REPORT 16u /* gestures between two lines */

static gestures_ctx ctx;
static unsigned char arena[GESTURES_ARENA_BYTES] __attribute__((aligned(GESTURES_ARENA_ALIGN)));
static float window[GESTURES_INPUT_ELEMENTS];
static float scores[GESTURES_OUTPUT_ELEMENTS];

static int window_read(void)
{
    for (int at = 0; at < GESTURES_INPUT_ELEMENTS; at += CHANNELS) {
        if (!sensor_read(window + at)) {
            return 0;
        }
    }
    return 1;
}

static int32_t best(void)
{
    int32_t found = 0;
    for (int32_t c = 1; c < GESTURES_OUTPUT_ELEMENTS; ++c) {
        found = scores[c] > scores[found] ? c : found;
    }
    return found;
}

int main(void)
{
    uint32_t seen = 0, right = 0;
    tt_port_start();
    tt_status status = gestures_init(&ctx, arena, sizeof arena);
    while (status == TT_OK && window_read()) {
        status = gestures_infer(&ctx, window, scores);
        const int32_t button = button_read();
        if (status == TT_OK && button >= 0) {
            float loss;
            right += best() == button; /* what it said before it was told */
            status = gestures_train_step(&ctx, window, &button, &loss);
        }
        if (++seen % REPORT == 0u) {
            print_text("gestures ");
            print_number(seen - REPORT + 1u);
            print_text(" to ");
            print_number(seen);
            print_text(": ");
            print_number(right);
            print_text(" right");
            print_line();
            right = 0;
        }
    }
    print_text(status == TT_OK ? "end" : "failed");
    print_line();
    return 0;
}
