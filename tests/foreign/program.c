/* SPDX-License-Identifier: Apache-2.0 */
/* Trains the library's model, and says the bits of each loss; halfway it saves, forgets and loads. C and C++ alike. */
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

#define PAGE_BYTES 16384u
#define PAGES 4u

static cnn_ctx ctx, steady;
static unsigned char arena[CNN_ARENA_BYTES] __attribute__((aligned(CNN_ARENA_ALIGN)));
static unsigned char other[CNN_ARENA_BYTES] __attribute__((aligned(CNN_ARENA_ALIGN)));
static unsigned char pages[PAGE_BYTES * PAGES];
static float x[CNN_INPUT_ELEMENTS];

static int erase(const tt_flash *flash, uint32_t page)
{
    for (uint32_t i = 0; i < flash->page_bytes; ++i) {
        pages[page + i] = 0xFF;
    }
    return 0;
}

static int program(const tt_flash *flash, uint32_t at, const void *word)
{
    for (uint32_t i = 0; i < flash->word_bytes; ++i) {
        pages[at + i] &= ((const unsigned char *)word)[i];
    }
    return 0;
}

static int read(const tt_flash *flash, uint32_t at, void *to, uint32_t bytes)
{
    (void)flash;
    for (uint32_t i = 0; i < bytes; ++i) {
        ((unsigned char *)to)[i] = pages[at + i];
    }
    return 0;
}

static const tt_flash flash = {erase, program, read, 0, PAGE_BYTES, PAGES, 4, 0};

static int power_goes_and_comes(void)
{
    const int saved = cnn_save(&ctx, &flash, TT_STORE_OPTIMISER) == TT_OK;
    return saved && cnn_init(&ctx, arena, sizeof arena) == TT_OK && cnn_load(&ctx, &flash) == TT_OK;
}

int main(void)
{
    static const char *const names[CNN_CLASSES] = CNN_CLASS_NAMES;
    uint32_t state = 1;
    if (cnn_init(&ctx, arena, sizeof arena) != TT_OK || cnn_init(&steady, other, sizeof other) != TT_OK) {
        return 1;
    }
    for (int32_t step = 0; step < 10; ++step) {
        const int32_t label = step % CNN_CLASSES;
        float loss, wanted;
        uint32_t bits;
        char text[10];
        for (int i = 0; i < CNN_INPUT_ELEMENTS; ++i) {
            state = state * 1664525u + 1013904223u;
            x[i] = (float)(state >> 16) / 65536.0f;
        }
        if (cnn_train_step(&ctx, x, &label, &loss) != TT_OK || cnn_train_step(&steady, x, &label, &wanted) != TT_OK) {
            return 2;
        }
        if (__builtin_memcmp(&loss, &wanted, sizeof loss) != 0 || (step == 4 && !power_goes_and_comes())) {
            return 3;
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
