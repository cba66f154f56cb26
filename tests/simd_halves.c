/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the words of tt_simd_mveh.h for halves, and its tiles, on special and random numbers and prints a hash of the bits of each, a line a
 * block: a board and the host must print the same. */
#include "tt_random.h"
#include "tt_types.h"

#include "tt_simd_mveh.h"
#include "words.h"

#include "board_or_host.h"

static const tt_half specials[] = {
    0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x83FF, 0x0400, 0x8400, 0x0401, 0x3C00, 0xBC00, 0x3BFF, 0x3C01, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00,
    0x7E00, 0xFE00, 0x7D01, 0xFFFF, 0x1400, 0x0C00, 0x5BFF,
};
#define SPECIALS (sizeof specials / sizeof specials[0])

/* Special halves in all pairs; any bits; and such as have products near the least normal half, or sums that are a tie. */
static tt_half half(uint32_t seed, uint32_t i)
{
    const uint32_t bits = tt_random(seed, i), kind = tt_random(seed + 100u, i);
    switch (kind & 3u) {
    case 0: return specials[bits % SPECIALS];
    case 1: return (tt_half)bits;
    case 2: return (tt_half)((bits & 0x83FFu) | (7u + (kind >> 8) % 3u) << 10);
    default: return (tt_half)((bits & 0x8300u) | (13u + (kind >> 8) % 4u) << 10);
    }
}

static float number(uint32_t seed, uint32_t i)
{
    const uint32_t bits = tt_random(seed, i);
    return i % 3u == 0 ? tt_from_bits(bits) : tt_from_bits((bits & 0x807FFFFFu) | (100u + (bits >> 8) % 46u) << 23);
}

#define TRIPLES 64u
#define ROOM 8192u
enum { MADD, MADD_LANES, WIDENED, FOLDED, NARROWED, MOVED, DIRECT, DOUBLE, OUTER, WIDE, DEPTH, DEPTH_OUTER, KINDS };

static tt_half a[ROOM], b[ROOM];

/* Both operands of a tile: with special numbers, or with such as a model has. */
static void fill(uint32_t seed)
{
    for (uint32_t i = 0; i < ROOM; ++i) {
        a[i] = seed % 4u ? tt_float_to_half((float)(int32_t)tt_random(seed, i) * 0x1p-31f) : half(seed, i);
        b[i] = seed % 4u ? tt_float_to_half((float)(int32_t)tt_random(seed + 1u, i) * 0x1p-31f) : half(seed + 1u, i);
    }
}

#define RUN(kind, tile, ...) \
    do { \
        tile(acc, __VA_ARGS__, results); \
        hash[kind] = hashed(hash[kind], acc, sizeof acc); \
    } while (0)

int main(void)
{
    static float acc[48], sums[8], out[8];
    static tt_half to[8];
    start();
    for (uint32_t block = 0; block < BLOCKS; ++block) {
        uint32_t hash[KINDS] = { 0 };
        for (uint32_t t = block * TRIPLES; t < (block + 1u) * TRIPLES; ++t) {
            for (uint32_t i = 0; i < 8u; ++i) {
                a[i] = half(1, t * 8u + i);
                a[i + 8u] = half(2, t * 8u + i);
                a[i + 16u] = half(3, t * 8u + i);
                sums[i] = number(4, t * 8u + i);
            }
            tt_h_store_mveh(to, tt_h_madd_mveh(tt_h_load_mveh(a), tt_h_load_mveh(a + 8), a[16]));
            hash[MADD] = hashed(hash[MADD], to, sizeof to);
            tt_h_store_mveh(to, tt_h_madd_lanes_mveh(tt_h_load_mveh(a), tt_h_load_mveh(a + 8), tt_h_load_mveh(a + 16)));
            hash[MADD_LANES] = hashed(hash[MADD_LANES], to, sizeof to);
            tt_store_mveh(out, tt_load_half_mveh(a));
            hash[WIDENED] = hashed(hash[WIDENED], out, sizeof out);
            tt_store_mveh(out, tt_folded_mveh(tt_sums_mveh(sums), tt_h_load_mveh(a)));
            hash[FOLDED] = hashed(hash[FOLDED], out, sizeof out);
            tt_store_half_mveh(to, tt_load_mveh(sums));
            hash[NARROWED] = hashed(hash[NARROWED], to, sizeof to);
        }
        fill(block);
        for (uint32_t t = 0; t < 8u; ++t) {
            const uint32_t bits = tt_random(block, t);
            const int32_t steps = (int32_t)(bits >> 8 & 63u), rows = (int32_t)(bits & 3u) * (steps <= 16 ? 3 : 1), cols = 1 + (int32_t)(bits >> 2 & 1u);
            const int32_t results = bits & 64u ? 5000 : bits & 128u ? 300 : 60 + (int32_t)(bits >> 14 & 7u);
            const int32_t apart = bits & 8u ? 8 : 13, start_a = (int32_t)(bits >> 4 & 1u);
            const tt_walk along = { 450 + (int32_t)(bits >> 5 & 1u), 0, 3, 5, apart, apart, 8, rows, cols, steps };
            RUN(DIRECT, tt_direct_halves_mveh_1, a + start_a, b, &along);
            RUN(DIRECT, tt_direct_halves_mveh_2, a + start_a, b, &along);
            RUN(DIRECT, tt_direct_halves_mveh_3, a + start_a, b, &along);
            const tt_walk two = { along.a_next, 0, 3, 5, apart + 8, 16, 8, rows, cols, steps };
            RUN(DOUBLE, tt_direct_double_halves_mveh_1, a + start_a, b, &two);
            RUN(DOUBLE, tt_direct_double_halves_mveh_2, a + start_a, b, &two);
            RUN(DOUBLE, tt_direct_double_halves_mveh_3, a + start_a, b, &two);
            const tt_walk across = { 500, 16, 0, 7, apart + 8, 0, 8, rows, 1, steps };
            RUN(OUTER, tt_outer_halves_mveh_1, a, b, &across);
            RUN(OUTER, tt_outer_halves_mveh_2, a, b, &across);
            RUN(OUTER, tt_outer_halves_mveh_3, a, b, &across);
            RUN(OUTER, tt_outer_double_halves_mveh_1, a + start_a, b, &across);
            RUN(OUTER, tt_outer_double_halves_mveh_2, a + start_a, b, &across);
            RUN(OUTER, tt_outer_double_halves_mveh_3, a + start_a, b, &across);
            RUN(WIDE, tt_wide_halves_mveh_1, a, b, &across);
            RUN(WIDE, tt_wide_halves_mveh_2, a, b, &across);
            RUN(DEPTH, tt_depth_halves_mveh_1, a, b, &across);
            RUN(DEPTH, tt_depth_halves_mveh_2, a, b, &across);
            RUN(DEPTH_OUTER, tt_depth_outer_halves_mveh_1, a, b, &across);
            RUN(DEPTH_OUTER, tt_depth_outer_halves_mveh_2, a, b, &across);
        }
        for (int kind = 0; kind < KINDS; ++kind) {
            show(hash[kind], kind + 1 < KINDS ? ' ' : '\n');
        }
    }
    put('.');
    put('\n');
    finish();
    return 0;
}
