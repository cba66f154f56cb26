/* SPDX-License-Identifier: Apache-2.0 */
/* The tiles of halves on Helium, in the words of tt_simd_mveh.h, which includes this.
 *
 * What is summed in halves is a chain: its rounding errors grow with its length, those of the fp32 sum of all chains do not. Chains may be joined
 * as halves before that, which costs less and has an error of its own. How much is summed as halves, a group, is what keeps each result within
 * 2·2^-11 of the largest one (tests/test_half_sums.py): the more, the longer the sum, in which errors cancel, and the more results there are, so
 * that the largest one is no small one by chance. */
#ifndef TT_SIMD_MVEH_TILES_H
#define TT_SIMD_MVEH_TILES_H

#define tt_sums_mveh tt_load_mveh

enum { TT_CHAIN = 4, TT_MIDDLE_CHAIN = 6, TT_LONG_CHAIN = 12, TT_SHORT_RUN = 16, TT_FEW_RESULTS = 64, TT_SOME_RESULTS = 256, TT_MANY_RESULTS = 2048 };

/* Products of a group, of a sum of so many. */
static inline int32_t tt_group_mveh(int32_t terms, int32_t results)
{
    if (results < TT_SOME_RESULTS) {
        return terms < 27 || results < TT_FEW_RESULTS ? TT_CHAIN / 2 : TT_CHAIN;
    }
    if (results < TT_MANY_RESULTS) {
        return terms < 64 ? TT_CHAIN : 8;
    }
    return terms < 27 ? TT_CHAIN : terms < 64 ? TT_MIDDLE_CHAIN : terms < 144 ? 16 : terms < 256 ? 2 * TT_LONG_CHAIN : 4 * TT_LONG_CHAIN;
}

/* Products of a chain, of which a group has one or more. */
static inline int32_t tt_chain_mveh(int32_t group)
{
    return group % TT_LONG_CHAIN == 0 ? TT_LONG_CHAIN : group < 8 ? group : 8;
}

/* Which step of a chain is its product number i: of whole fours the middle ones change places, as LSRL brings two at once. */
static inline int32_t tt_step_mveh(int32_t i, int32_t count)
{
    return i >= (count & ~3) ? i : (i & ~3) | (i & 1) << 1 | (i >> 1 & 1);
}

#define TT_ZERO_H(p, none) tt_h_mveh h##p = tt_h_zero_mveh();
#define TT_FOLD_H(p, none) c##p = tt_folded_mveh(c##p, h##p);
#define TT_MADD_ACROSS_H(p, N) h##p = tt_h_madd_mveh(h##p, tt_h_load_mveh(from_b), from_a[p]);
#define TT_MADD_WIDE_H(p, N) h##p = tt_h_madd_mveh(h##p, tt_h_load_mveh(from_b + (p) * (N)), from_a[0]);
#define TT_MADD_PAIR_H(p, N) h##p = tt_h_madd_lanes_mveh(h##p, tt_h_load_mveh(from_a + (p) * (N)), tt_h_load_mveh(from_b + (p) * (N)));
#define TT_MADD_LANES_H(p, none) h##p = tt_h_madd_lanes_mveh(h##p, tt_h_load_mveh(a##p), v);

#define TT_SUMS_H(p, none) \
    TT_ZERO_C(p, mveh) \
    tt_h_mveh j##p = tt_h_zero_mveh();
#define TT_JOIN_H(p, none) j##p = tt_h_add_mveh(j##p, h##p);
#define TT_FOLD_JOINED_H(p, none) \
    c##p = tt_folded_mveh(c##p, j##p); \
    j##p = tt_h_zero_mveh();
#define TT_KEEP_H(p, N) TT_STORE_C(p, mveh, N)

/* Across a sum: a chain is as many rows as have not too many products, or an even part of one. */
static inline int32_t tt_rows_mveh(int32_t left, int32_t steps, int32_t chain)
{
    const int32_t most = steps < chain ? chain / steps : 1;
    return left < most ? left : most;
}

/* `of_chain` for each: it begins at `from_a` and `from_b`, and goes through `count` steps of each of `rows`; `joined` are those before it in its
 * group, which has `more`. */
#define TT_EACH_CHAIN_H(of_chain, ...) \
    const int32_t group = tt_group_mveh(w->rows * w->steps, results), chain = tt_chain_mveh(group), steps = w->steps; \
    const int32_t parts = (steps + chain - 1) / chain, part = parts > 0 ? (steps + parts - 1) / parts : 0; \
    int32_t joined = 0; \
    for (int32_t left = steps > 0 ? w->rows : 0; left > 0;) { \
        const int32_t rows = tt_rows_mveh(left, steps, chain); \
        for (int32_t done = 0; done < steps; done += part) { \
            const int32_t count = steps - done < part ? steps - done : part; \
            const int32_t more = (joined + 2) * rows * part <= group && (left > rows || done + count < steps); \
            const tt_half *from_a = a + done * w->a_step, *from_b = b + done * w->b_step; \
            of_chain(__VA_ARGS__) \
            joined = more ? joined + 1 : 0; \
        } \
        a += rows * (steps * w->a_step + w->a_row); \
        b += rows * (steps * w->b_step + w->b_row); \
        left -= rows; \
    }

#define TT_CHAIN_H(P, zero, madd, join, fold) \
    TT_P##P(zero, ) \
    for (int32_t row = 0; row < rows; ++row, from_a += w->a_row, from_b += w->b_row) { \
        for (int32_t i = 0; i < count; ++i, from_a += w->a_step, from_b += w->b_step) { \
            TT_P##P(madd, 8) \
        } \
    } \
    TT_P##P(join, ) \
    if (!more) { \
        TT_P##P(fold, ) \
    }

#define TT_ACROSS_H(name, P, sums, zero, madd, join, fold, store) \
    TT_SHARED void name##_mveh_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w, int32_t results) \
    { \
        TT_P##P(sums, ) \
        TT_EACH_CHAIN_H(TT_CHAIN_H, P, zero, madd, join, fold) \
        TT_P##P(store, 8) \
    }

/* Rows of taps are short: as many of them as have not too many products are one chain. */
#define TT_DEPTH_H(P) \
    TT_SHARED void tt_depth_halves_mveh_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w, int32_t results) \
    { \
        const int32_t chain = results < TT_SOME_RESULTS ? tt_group_mveh(0, results) : 6; \
        const int32_t most = w->steps > 0 && w->steps < chain ? chain / w->steps : 1; \
        TT_P##P(TT_ZERO_C, mveh) \
        for (int32_t left = w->rows; left > 0;) { \
            TT_P##P(TT_ZERO_H, ) \
            for (int32_t row = left < most ? left : most; row > 0; --row, --left, a += w->a_row, b += w->b_row) { \
                TT_P##P(TT_POINT_A, tt_half) \
                for (int32_t i = w->steps; i > 0; --i, b += w->b_step) { \
                    const tt_h_mveh v = tt_h_load_mveh(b); \
                    TT_P##P(TT_MADD_LANES_H, ) \
                    TT_P##P(TT_STEP_A, ) \
                } \
                a += w->steps * w->a_step; \
            } \
            TT_P##P(TT_FOLD_H, ) \
        } \
        TT_P##P(TT_KEEP_H, 8) \
    }

#define TT_HALVES_MVEH(P) \
    TT_ACROSS_H(tt_outer_halves, P, TT_SUMS_H, TT_ZERO_H, TT_MADD_ACROSS_H, TT_JOIN_H, TT_FOLD_JOINED_H, TT_KEEP_H) \
    TT_ACROSS_H(tt_wide_halves, P, TT_SUMS_H, TT_ZERO_H, TT_MADD_WIDE_H, TT_JOIN_H, TT_FOLD_JOINED_H, TT_KEEP_H) \
    TT_ACROSS_H(tt_depth_outer_halves, P, TT_SUMS_H, TT_ZERO_H, TT_MADD_PAIR_H, TT_JOIN_H, TT_FOLD_JOINED_H, TT_KEEP_H) \
    TT_DEPTH_H(P)
TT_HALVES_MVEH(1)
TT_HALVES_MVEH(2)
TT_HALVES_MVEH(3)

#include "tt_simd_mveh_runs.h"
#include "tt_simd_mveh_strips.h"
#include "tt_simd_mveh_words.h"

#endif
