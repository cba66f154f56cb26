/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the words and tiles of pairs of halves (tt_simd_xpulp.h) on special and random numbers and prints a hash of the bits, a line a block: a
 * board and the host must print the same. The board prints first how many instructions it counts for a loop of three that runs 1000 times
 * more than another. */
#define TT_FUSED 1
#include "tt_simd_xpulp.h"
#include "tt_random.h"

#include "board_or_host.h"

#define BLOCKS 40u
#define MAP 1024

#ifndef ON_HOST
static __attribute__((noinline)) uint32_t counted(uint32_t times)
{
    float sum = 0.0f;
    tt_port_count_start();
    __asm volatile("1:\n\t.insn r 0x33, 0, 0x4b, %0, %2, %2\n\taddi %1, %1, -1\n\tbnez %1, 1b" : "+f"(sum), "+r"(times) : "f"(1.0f));
    return (uint32_t)tt_port_count_stop();
}
#endif

static tt_half a[MAP], b[MAP], packed[MAP];
static float acc[24];

/* Any half of `odd` blocks, infinite ones and what is no number among them; else of about one size. */
static tt_half half(uint32_t seed, uint32_t i, uint32_t odd)
{
    const uint32_t bits = tt_random(seed, i);
    return (tt_half)(odd ? bits : (bits & 0x83FFu) | (13u + (bits >> 16 & 3u)) << 10);
}

static uint32_t sums(uint32_t hash, int32_t count)
{
    for (int32_t i = 0; i < count; ++i) { /* what is no number has one form on the board */
        const uint32_t bits = acc[i] != acc[i] ? 0x7FC00000u : tt_to_bits(acc[i]);
        hash = hashed(hash, &bits, sizeof bits);
    }
    return hash;
}

static uint32_t tiled(uint32_t hash, tt_tile_xpulp tile, int32_t rows)
{
    for (int32_t p = 0; p < rows; ++p) {
        tt_store_xpulp(acc + 4 * p, tile.at[p]);
    }
    return sums(hash, 4 * rows);
}

#define TILE(none, P) hash = tiled(hash, tt_pairs_xpulp_##P(a + block % 2u, b, &walk), P);

int main(void)
{
    start();
#ifndef ON_HOST
    show(counted(2000) - counted(1000), '\n');
#endif
    for (uint32_t block = 0; block < BLOCKS; ++block) {
        uint32_t hash = 0;
        for (uint32_t i = 0; i < MAP; ++i) {
            a[i] = half(2u * block, i, block & 1u);
            b[i] = half(2u * block + 1u, i, block & 1u);
            packed[i] = 0;
        }
        const int32_t steps = 2 + (int32_t)(tt_random(999, block) % 59u), rows = block == 7u ? 0 : 1 + (int32_t)(block % 3u);
        const int32_t cols = steps < 20 ? 1 + (int32_t)(block % 2u) : 1;
        const tt_walk_pairs walk = tt_in_pairs((tt_walk){ 7, 0, 3, 5 - (int32_t)(block % 8u), 0, 8, 16 - 8 * (int32_t)(block % 3u), rows, cols, steps });
        TT_SIZES6(TILE, )
        const tt_walk whole = { 11, 0, 0, 2 - (int32_t)(block % 5u), 0, 0, 0, rows, 1, 2 + 2 * (steps % 16) };
        hash = tiled(hash, tt_window_xpulp_1(a + block % 2u, b, &whole), 3);
        hash = tiled(hash, tt_window_xpulp_2(a + block % 2u, b, &whole), 6);
        for (uint32_t i = 0; i + 8u <= MAP; i += 8u) {
            acc[0] = tt_madd_pair(tt_half_to_float(a[i]), tt_pair_load(b + i), tt_pair_load(a + i + 1));
            acc[1] = tt_madd_pair(tt_half_to_float(b[i]), tt_pair_alone(b + i + 3), tt_pair_load(a + i + 2));
            hash = sums(hash, 2);
            float values[4];
            for (uint32_t v = 0; v < 4u; ++v) { /* between halves, tiny or too large */
                const uint32_t bits = tt_random(5, block * MAP + i + v);
                values[v] = tt_from_bits((bits & 0x807FFFFFu) | (100u + (bits >> 23 & 63u)) << 23);
            }
            tt_store_half_xpulp(packed + i, tt_load_xpulp(values));
        }
        hash = hashed(hash, packed, sizeof packed);
        const int32_t live = 1 + (int32_t)(block % 4u);
        tt_zip_rows(packed, 2, 8, a, 9, live, 21 + (int32_t)(block % 2u));
        tt_zip_rows(packed + 256, 40, 2, b, 6, 4, 20);
        tt_strip_pairs(packed + 512, a, 33, live, 32 + (int32_t)(block % 2u));
        show(hashed(hash, packed, sizeof packed), '\n');
    }
    put('.');
    put('\n');
    finish();
    return 0;
}
