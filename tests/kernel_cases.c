/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the kernels of cases.h (made by kernel_cases.py) on inputs that every target makes for itself, and prints one line a case:
 *   <case> <CRC-32 of the outputs, or with CASES_HEX their bytes> <1 if the guards around the buffers are whole>
 * The host puts each buffer into a block of its own for AddressSanitizer; a board has one arena with guard bytes in between. */
#include "tt_random.h"
#include "tt_types.h"

#include "cases.h"

#ifdef CASES_HOST
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void start(void) { }
static void put(int byte) { putchar(byte); }
static void finish_line(void) { putchar('\n'); fflush(stdout); }
#else
#include "tt_port.h"

static void start(void) { tt_port_start(); }
static void put(int byte) { tt_port_put((uint8_t)byte); }
static void finish_line(void) { put('\n'); tt_port_flush(); }
#endif

#define GUARD_BYTES 16u
#define GUARD 0xA5u
#define GARBAGE 0x7Fu /* what outputs hold before: as floats 3.4e38, so that a missed element shows */

static void put_hex(uint32_t value, int digits)
{
    while (digits-- > 0) {
        put("0123456789abcdef"[(value >> (4 * digits)) & 15u]);
    }
}

static uint32_t crc32(uint32_t crc, const unsigned char *bytes, uint32_t count)
{
    crc = ~crc;
    for (uint32_t i = 0; i < count; ++i) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; ++bit) {
            crc = (crc >> 1) ^ (UINT32_C(0xEDB88320) & (0u - (crc & 1u)));
        }
    }
    return ~crc;
}

static uint32_t size_of(const case_tensor *t)
{
    static const uint8_t sizes[] = { 4, 2, 1, 2, 4, 1 }; /* by tt_tag */
    return t->count * sizes[t->tag];
}

/* The same values as Case.arrays() in Python. Coarse ones are multiples of 1/4, so that zeros and ties occur. */
static void make_input(const case_tensor *t, const case_entry *c, uint32_t seed, void *to)
{
    for (uint32_t i = 0; i < t->count; ++i) {
        const uint32_t bits = tt_random(seed, i);
        if (t->tag == TT_F32 || t->tag == TT_F16) {
            const int32_t steps = c->coarse ? (int32_t)(bits >> 29) - 4 : (int32_t)(bits >> 8) - 0x800000;
            const float number = (float)steps * (c->coarse ? 0.25f : 0x1p-23f) * c->scale + c->shift;
            if (t->tag == TT_F32) {
                ((float *)to)[i] = number;
            } else {
                ((tt_half *)to)[i] = tt_float_to_half(number);
            }
            continue;
        }
        const int32_t value = t->low + (int32_t)(bits % (uint32_t)(t->high - t->low));
        switch (t->tag) {
        case TT_S8: ((int8_t *)to)[i] = (int8_t)value; break;
        case TT_U8: ((uint8_t *)to)[i] = (uint8_t)value; break;
        case TT_S16: ((int16_t *)to)[i] = (int16_t)value; break;
        case TT_S32: ((int32_t *)to)[i] = value; break;
        case TT_F32:
        case TT_F16: break;
        }
    }
}

#ifdef CASES_HOST
static void *blocks[CASES_MAX_BUFFERS];
static uint32_t block_count;

static unsigned char *take(uint32_t bytes)
{
    void *block = NULL;
    if (posix_memalign(&block, 16, bytes ? bytes : 1) != 0) {
        abort();
    }
    memset(block, GARBAGE, bytes);
    blocks[block_count++] = block;
    return block;
}

static int release(void)
{
    while (block_count > 0) {
        free(blocks[--block_count]);
    }
    return 1;
}
#else
static float arena[CASES_ARENA_BYTES / 4];
static uint32_t starts[CASES_MAX_BUFFERS], ends[CASES_MAX_BUFFERS], block_count, used;

static unsigned char *take(uint32_t bytes)
{
    unsigned char *all = (unsigned char *)arena;
    const uint32_t start_at = (used + GUARD_BYTES + 15u) & ~15u;
    starts[block_count] = start_at;
    ends[block_count++] = start_at + bytes;
    for (uint32_t i = used; i < start_at + bytes + GUARD_BYTES; ++i) {
        all[i] = i >= start_at && i < start_at + bytes ? GARBAGE : GUARD;
    }
    used = start_at + bytes + GUARD_BYTES;
    return all + start_at;
}

static int release(void)
{
    const unsigned char *all = (const unsigned char *)arena;
    int whole = 1;
    for (uint32_t block = 0, at = 0; block < block_count; at = ends[block++]) {
        for (; at < starts[block]; ++at) {
            whole &= all[at] == GUARD;
        }
    }
    for (uint32_t at = ends[block_count - 1]; at < used; ++at) {
        whole &= all[at] == GUARD;
    }
    block_count = used = 0;
    return whole;
}
#endif

static void run_case(uint32_t number)
{
    const case_entry *c = &cases[number];
    const case_tensor *tensors = case_tensors + c->first;
    unsigned char *buffers[CASES_MAX_BUFFERS];
    for (uint32_t i = 0; i < c->inputs; ++i) {
        /* output 0 may lie over input 0: then it begins `lead` bytes before that, and may end behind it */
        const uint32_t lead = i == 0 ? c->lead : 0;
        const uint32_t over = i == 0 && tensors[c->inputs].shares == 0 ? size_of(&tensors[c->inputs]) : 0;
        const uint32_t bytes = lead + size_of(&tensors[i]);
        buffers[i] = take(bytes > over ? bytes : over) + lead;
        make_input(&tensors[i], c, c->seed + i, buffers[i]);
    }
    for (uint32_t o = 0; o < c->outputs; ++o) {
        const int32_t shared = tensors[c->inputs + o].shares;
        buffers[c->inputs + o] = shared >= 0 ? buffers[shared] - (o == 0 ? c->lead : 0) : take(size_of(&tensors[c->inputs + o]));
    }
    buffers[c->inputs + c->outputs] = c->scratch ? take(c->scratch) : NULL;
    c->call(buffers);

    put_hex(number, 4);
    put(' ');
    uint32_t crc = 0;
    for (uint32_t o = 0; o < c->outputs; ++o) {
        const uint32_t bytes = size_of(&tensors[c->inputs + o]);
        crc = crc32(crc, buffers[c->inputs + o], bytes);
#ifdef CASES_HEX
        for (uint32_t i = 0; i < bytes; ++i) {
            put_hex(buffers[c->inputs + o][i], 2);
        }
#endif
    }
#ifndef CASES_HEX
    put_hex(crc, 8);
#endif
    put(' ');
    put(release() ? '1' : '0');
    finish_line();
}

#ifdef CASES_HOST
int main(int argc, char **argv)
{
    const uint32_t first = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 0;
#else
int main(void)
{
    const uint32_t first = 0;
#endif
    start();
    for (uint32_t number = first; number < CASES_COUNT; ++number) {
        run_case(number);
    }
    put('.');
    finish_line();
#ifndef CASES_HOST
    for (;;) {
    }
#endif
    return 0;
}
