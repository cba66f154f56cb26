/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the words of a vocabulary (SIMD, of LANES floats) on special and random numbers and prints a hash of each word's bits, a line a block:
 * a board and the host must print the same. */
#include "tt_math.h"
#include "tt_random.h"
#include "tt_types.h"

#include "words.h"

#include "board_or_host.h"

#define JOINED(a, b) a##_##b
#define NAMED(a, b) JOINED(a, b)
#define WORD(name) NAMED(tt_##name, SIMD)

static const uint32_t specials[] = {
    0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007FFFFF, 0x807FFFFF, 0x00800000, 0x80800000, 0x00800001, 0x3F800000, 0xBF800000,
    0x3F7FFFFF, 0x3F800001, 0x4B000000, 0x33800000, 0xB3800000, 0x20000000, 0x1FFFFFFF, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000,
    0x7FC00000, 0xFFC12345, 0x7F800001, 0x7FABCDEF,
};
#define SPECIALS (sizeof specials / sizeof specials[0])

/* Special numbers in all pairs; random bits; and numbers whose products are near the least normal number. */
static float number(uint32_t seed, uint32_t i)
{
    const uint32_t bits = tt_random(seed, i), near = tt_random(seed + 100u, i);
    switch (near & 3u) {
    case 0: return tt_from_bits(specials[bits % SPECIALS]);
    case 1: return tt_from_bits(bits);
    case 2: return tt_from_bits((bits & 0x80FFF000u) | (58u + (near >> 8) % 12u) << 23);
    default: return tt_from_bits((bits & 0x807FFFFFu) | ((near >> 8) % 4u) << 23);
    }
}

#define TRIPLES 64u
enum { MADD, MADD_LANES, ADD, SUB, MUL, WHERE, LOAD_N, LOAD_S8, LOAD_HALF, STORE_HALF, HALVES, MASTER, STORE_N, MADD_AT, PICK, RANDOM, ROUNDED, MOVED, WEIGHTED, INDEX, SCALED, PASSES, WORDS };

/* Sums of every tile of halves, whatever they hold, over two rows of nine steps: four or eight in a turn, and one. */
static uint32_t tiles_of_halves(uint32_t hash, uint32_t seed)
{
    static const tt_walk walk = { 4, 3, 1, 2, 2 * LANES, 1, 3, 2, 1, 9 };
    static tt_half a[8 * 3 * LANES], b[44 * LANES];
    static float sums[6 * LANES];
    for (uint32_t i = 0; i < sizeof a / sizeof a[0]; ++i) {
        a[i] = (tt_half)tt_random(9, seed + i);
    }
    for (uint32_t i = 0; i < sizeof b / sizeof b[0]; ++i) {
        b[i] = (tt_half)tt_random(10, seed + i);
    }
#define TILE(name, count) \
    NAMED(WORD(name), 3)(sums, a, b, &walk); \
    hash = hashed(hash, sums, sizeof(float) * (count));
    TILE(direct_halves, 3 * LANES)
    TILE(outer_halves, 3 * LANES)
    TILE(wide_halves, 3 * LANES)
    TILE(depth_halves, 3 * LANES)
    TILE(depth_outer_halves, 3 * LANES)
#if LANES == 16
    TILE(direct_double_halves, 6 * LANES)
    TILE(outer_double_halves, 6 * LANES)
    TILE(direct_apart_halves, 3 * LANES)
    TILE(direct_apart_double_halves, 6 * LANES)
#endif
    return hash;
}

int main(void)
{
    static float acc[LANES + 1], v[LANES + 1], s[LANES + 1], out[LANES + 1];
    static tt_half half[LANES], rounded[LANES];
    static int16_t rests[LANES];
    static int8_t bytes[LANES];
    static float several[16];
    static uint8_t passing[2];
    static int32_t whole[LANES], factors[LANES], shifts[LANES];
    start();
    for (uint32_t block = 0; block < BLOCKS; ++block) {
        uint32_t hash[WORDS] = { 0 };
        for (uint32_t t = block * TRIPLES; t < (block + 1u) * TRIPLES; ++t) {
            const uint32_t n = t % (LANES + 1u);
            for (uint32_t i = 0; i < 16u; ++i) {
                several[i] = number(8, t * 16u + i);
            }
            for (uint32_t i = 0; i < LANES; ++i) {
                acc[i] = number(1, t * LANES + i);
                v[i] = number(2, t * LANES + i);
                s[i] = number(3, t * LANES + i);
                half[i] = (tt_half)tt_random(4, t * LANES + i);
                half[i] = (half[i] & 0x7C00u) == 0x7C00u ? (tt_half)(half[i] & 0x8000u) : half[i];
                bytes[i] = (int8_t)(tt_random(5, t * LANES + i) & 0xFFu);
                out[i] = 1.0f;
            }
            WORD(store)(out, WORD(madd)(WORD(load)(acc), WORD(load)(v), s[0]));
            hash[MADD] = hashed(hash[MADD], out, sizeof(float) * LANES);
            WORD(store)(out, WORD(madd_lanes)(WORD(load)(acc), WORD(load)(v), WORD(load)(s)));
            hash[MADD_LANES] = hashed(hash[MADD_LANES], out, sizeof(float) * LANES);
            WORD(store)(out, WORD(add)(WORD(load)(acc), WORD(load)(v)));
            hash[ADD] = hashed(hash[ADD], out, sizeof(float) * LANES);
            WORD(store)(out, WORD(sub)(WORD(load)(acc), WORD(load)(v)));
            hash[SUB] = hashed(hash[SUB], out, sizeof(float) * LANES);
            WORD(store)(out, WORD(mul)(WORD(load)(s), WORD(load)(v)));
            hash[MUL] = hashed(hash[MUL], out, sizeof(float) * LANES);
            WORD(store)(out, WORD(where)(WORD(load)(acc), WORD(load)(v), WORD(load)(s), WORD(splat)(s[0])));
            hash[WHERE] = hashed(hash[WHERE], out, sizeof(float) * LANES);
            WORD(store)(out, WORD(load_n)(v, n));
            hash[LOAD_N] = hashed(hash[LOAD_N], out, sizeof(float) * LANES);
            WORD(store)(out, WORD(load_s8)(bytes, 3));
            hash[LOAD_S8] = hashed(hash[LOAD_S8], out, sizeof(float) * LANES);
            WORD(store)(out, WORD(load_half)(half));
            hash[LOAD_HALF] = hashed(hash[LOAD_HALF], out, sizeof(float) * LANES);
            WORD(store_half)(rounded, WORD(load)(v));
            hash[STORE_HALF] = hashed(hash[STORE_HALF], rounded, sizeof rounded);
            WORD(store_half)(rounded, WORD(mul)(WORD(load_half)(half), WORD(splat)(1.0f + 0x1p-11f)));
            hash[STORE_HALF] = hashed(hash[STORE_HALF], rounded, sizeof rounded);
            hash[HALVES] = t % TRIPLES ? hash[HALVES] : tiles_of_halves(hash[HALVES], t * 1000u);
            for (uint32_t i = 0; i < LANES; ++i) {
                rests[i] = (int16_t)tt_random(11, t * LANES + i);
            }
            WORD(store)(out, WORD(master)(WORD(load_half)(half), WORD(i_load_s16)(rests)));
            hash[MASTER] = hashed(hash[MASTER], out, sizeof(float) * LANES);
            for (int which = 0; which < 2; ++which) {
                const NAMED(tt_v, SIMD) master = WORD(load)(which ? v : out);
                WORD(i_store_s16)(rests, WORD(i_rest)(master, WORD(master_half)(master)));
                WORD(store_half)(rounded, WORD(half_stochastic)(master, WORD(i_random)(block, t)));
                hash[MASTER] = hashed(hashed(hash[MASTER], rests, sizeof rests), rounded, sizeof rounded);
            }
            WORD(store)(out, WORD(zero)());
            WORD(store_n)(out, WORD(load)(v), n);
            hash[STORE_N] = hashed(hash[STORE_N], out, sizeof(float) * (LANES + 1u));

            const NAMED(tt_v, SIMD) d = WORD(load)(v), e = WORD(load)(s);
            NAMED(tt_v, SIMD) sum = WORD(load)(acc), other = WORD(zero)(), third = d;
            WORD(madd_at3)(&sum, &other, &third, s, d, e, WORD(splat)(acc[0]));
            WORD(madd_at2)(&sum, &other, v, d, e);
            WORD(madd_at1)(&sum, acc, d);
            WORD(store)(out, sum);
            hash[MADD_AT] = hashed(hash[MADD_AT], out, sizeof(float) * LANES);
            WORD(store)(out, other);
            hash[MADD_AT] = hashed(hash[MADD_AT], out, sizeof(float) * LANES);
            WORD(store)(out, third);
            hash[MADD_AT] = hashed(hash[MADD_AT], out, sizeof(float) * LANES);
            const uint8_t *const bits = (const uint8_t *)bytes;
            for (int32_t row = 1; row <= 4; row += 3) {
                WORD(store)(out, WORD(pick)(WORD(i_bits)(bits, row * (int32_t)(n % 4u), row), d, WORD(splat)(2.0f)));
                hash[PICK] = hashed(hash[PICK], out, sizeof(float) * LANES);
            }
            const NAMED(tt_i, SIMD) word = WORD(i_random)(block, t), a = WORD(i_load_s8)(bytes);
            WORD(i_store)(whole, word);
            hash[RANDOM] = hashed(hash[RANDOM], whole, sizeof whole);
            WORD(i_store)(whole, WORD(i_stochastic)(d, 2147483520.0f, word));
            hash[ROUNDED] = hashed(hash[ROUNDED], whole, sizeof whole);
            WORD(i_store)(whole, WORD(i_nearest)(d, 65536.0f));
            hash[ROUNDED] = hashed(hash[ROUNDED], whole, sizeof whole);
            WORD(i_store)(whole, WORD(i_moved)(a, WORD(i_stochastic)(d, 65536.0f, word), 127));
            hash[MOVED] = hashed(hash[MOVED], whole, sizeof whole);
            WORD(i_store)(whole, WORD(i_moved_wide)(word, WORD(i_stochastic)(d, 2147483520.0f, word), 1 << 30));
            hash[MOVED] = hashed(hash[MOVED], whole, sizeof whole);
            WORD(i_store_s8)(bytes, WORD(i_within)(WORD(i_weighted)(a, 70000, WORD(i_load_s8)(bytes), -90001, 12345, 15), -100, 90));
            hash[WEIGHTED] = hashed(hash[WEIGHTED], bytes, sizeof bytes);
            WORD(passes)(passing, several, v[0], n & 1u ? __builtin_inff() : v[1]);
            hash[PASSES] = hashed(hash[PASSES], passing, sizeof passing);
            WORD(store)(out, WORD(real)(WORD(i_mul)(word, a)));
            hash[SCALED] = hashed(hash[SCALED], out, sizeof(float) * LANES);
            WORD(i_store)(whole, WORD(i_quantise)(d, n & 1u ? 0.37f : 1e-40f, 5, 9, 127));
            hash[SCALED] = hashed(hash[SCALED], whole, sizeof whole);
            for (uint32_t i = 0; i < LANES; ++i) {
                factors[i] = (int32_t)((tt_random(6, t * LANES + i) & 0x3FFFFFFFu) | 0x40000000u);
                shifts[i] = (int32_t)(3u + tt_random(7, t * LANES + i) % 60u);
            }
            WORD(i_store_s8)(bytes, WORD(i_requantise)(word, WORD(i_load)(factors), WORD(i_load)(shifts), -3, -128, (int32_t)n));
            hash[SCALED] = hashed(hash[SCALED], bytes, sizeof bytes);
            const NAMED(tt_i, SIMD) index = WORD(i_load_u8)(bits);
            WORD(store)(out, WORD(equal)(index, bits[t % LANES], d, e));
            hash[INDEX] = hashed(hash[INDEX], out, sizeof(float) * LANES);
            WORD(i_store_u8)((uint8_t *)bytes, WORD(i_add)(WORD(i_where)(d, e, index, word), WORD(i_more)(a, index, word, a)));
            hash[INDEX] = hashed(hash[INDEX], bytes, sizeof bytes);
        }
        for (int word = 0; word < WORDS; ++word) {
            show(hash[word], word + 1 < WORDS ? ' ' : '\n');
        }
    }
    put('.');
    put('\n');
    finish();
    return 0;
}
