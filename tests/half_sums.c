/* SPDX-License-Identifier: Apache-2.0 */
/* Tiles of halves, each with sums of `count` products, for a test that knows the right ones: runs of a, and strips of b. */
#define TT_FUSED 1
#include "tt_simd_mveh.h"

void direct(float *acc, const tt_half *a, const tt_half *b, int32_t count, int32_t results)
{
    const tt_walk walk = { count, 0, 0, 0, 8, 0, 0, 1, 1, count };
    tt_direct_halves_mveh_3(acc, a, b, &walk, results);
}

void direct_double(float *acc, const tt_half *a, const tt_half *b, int32_t count, int32_t results)
{
    const tt_walk walk = { count, 0, 0, 0, 16, 0, 0, 1, 1, count };
    tt_direct_double_halves_mveh_3(acc, a, b, &walk, results);
}

/* As short runs, if they can be, of a whole map. */
void rows_of_eight(float *acc, const tt_half *a, const tt_half *b, int32_t count, int32_t results)
{
    const int32_t steps = count % 8 == 0 ? 8 : count;
    const tt_walk walk = { count, 0, 0, 0, 16, 0, 0, count / steps, 1, steps };
    tt_direct_double_halves_mveh_3(acc, a, b, &walk, results);
}

/* Steps of a are three neighbours. */
void outer_double(float *acc, const tt_half *a, const tt_half *b, int32_t count, int32_t results)
{
    const tt_walk walk = { 0, 3, 0, 0, 16, 0, 0, 1, 1, count };
    tt_outer_double_halves_mveh_3(acc, a, b, &walk, results);
}

/* Steps of a are six words. */
void outer_words(float *acc, const tt_half *a, const tt_half *b, int32_t count, int32_t results)
{
    static uint32_t words[6 * 4096];
    for (int32_t i = 0; i < 6 * count; ++i) {
        words[i] = a[i];
    }
    tt_outer_words_mveh_6(acc, words, b, count, 1, 0, 0, 8, count, count, results);
    for (int32_t p = 0; p < 6; ++p) {
        tt_store_mveh(acc + 8 * p, tt_apart_mveh(acc + 8 * p));
    }
}
