/* SPDX-License-Identifier: Apache-2.0 */
/* Trains the library's model, and says the bits of each loss; C and C++ alike. */
#include "cnn_config.h"

#if defined(__STDC_HOSTED__) && __STDC_HOSTED__
#include <stdio.h>
static void say(const char *text)
{
    fputs(text, stdout);
}
#else
void say(const char *text);
#endif

static cnn_ctx ctx;
static unsigned char arena[CNN_ARENA_BYTES] __attribute__((aligned(CNN_ARENA_ALIGN)));
static float x[CNN_INPUT_ELEMENTS];

int main(void)
{
    static const char *const names[CNN_CLASSES] = CNN_CLASS_NAMES;
    uint32_t state = 1;
    if (cnn_init(&ctx, arena, sizeof arena) != TT_OK) {
        return 1;
    }
    for (int32_t step = 0; step < 10; ++step) {
        const int32_t label = step % CNN_CLASSES;
        float loss;
        uint32_t bits;
        char text[10];
        for (int i = 0; i < CNN_INPUT_ELEMENTS; ++i) {
            state = state * 1664525u + 1013904223u;
            x[i] = (float)(state >> 16) / 65536.0f;
        }
        if (cnn_train_step(&ctx, x, &label, &loss) != TT_OK) {
            return 2;
        }
        __builtin_memcpy(&bits, &loss, sizeof bits);
        for (int digit = 0; digit < 8; ++digit) {
            text[digit] = "0123456789abcdef"[bits >> (28 - 4 * digit) & 15u];
        }
        text[8] = ' ';
        text[9] = 0;
        say(text);
        say(names[label]);
        say("\n");
    }
    return 0;
}
