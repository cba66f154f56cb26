/* SPDX-License-Identifier: Apache-2.0 */
/* The tiles of halves on Helium, in the words of tt_simd_mveh.h, which includes this.
 *
 * What is summed in halves is a chain: its rounding errors grow with its length, those of the fp32 sum of all chains do not. Chains of 4 products
 * keep each result within 2·2^-11 of the largest one; in a long sum, where errors of many chains cancel, chains of 16 do. */
#ifndef TT_SIMD_MVEH_TILES_H
#define TT_SIMD_MVEH_TILES_H

#define tt_sums_mveh tt_load_mveh

enum { TT_CHAIN = 4, TT_LONG_CHAIN = 16, TT_LONG_SUM = 64 };

static inline int32_t tt_chain_mveh(int32_t terms)
{
    return terms >= TT_LONG_SUM ? TT_LONG_CHAIN : TT_CHAIN;
}

/* How many of the `left` products of a run are the next chain. */
static inline int32_t tt_next_chain_mveh(int32_t left, int32_t chain)
{
    return left >= chain ? chain : left >= TT_CHAIN ? TT_CHAIN : left;
}

/* Which step of a chain of whole fours is its product number i: of four, the middle ones change places, as LSRL brings two at once. */
static inline int32_t tt_step_mveh(int32_t i, int32_t count)
{
    return count < TT_CHAIN ? i : (i & ~3) | (i & 1) << 1 | (i >> 1 & 1);
}

#define TT_ZERO_H(p, none) tt_h_mveh h##p = tt_h_zero_mveh();
#define TT_FOLD_H(p, none) c##p = tt_folded_mveh(c##p, h##p);
#define TT_MADD_RUN_H(p, none) h##p = tt_h_madd_mveh(h##p, v, a##p[at]);
#define TT_GO_ON_H(p, count) a##p += count;
#define TT_MADD_ACROSS_H(p, N) h##p = tt_h_madd_mveh(h##p, tt_h_load_mveh(from_b), from_a[p]);
#define TT_MADD_WIDE_H(p, N) h##p = tt_h_madd_mveh(h##p, tt_h_load_mveh(from_b + (p) * (N)), from_a[0]);
#define TT_MADD_PAIR_H(p, N) h##p = tt_h_madd_lanes_mveh(h##p, tt_h_load_mveh(from_a + (p) * (N)), tt_h_load_mveh(from_b + (p) * (N)));
#define TT_MADD_LANES_H(p, none) h##p = tt_h_madd_lanes_mveh(h##p, tt_h_load_mveh(a##p), v);

#define TT_SUMS_H(p, none) TT_ZERO_C(p, mveh)
#define TT_KEEP_H(p, N) TT_STORE_C(p, mveh, N)
#define TT_LOADED_H(from) const tt_h_mveh v = tt_h_load_mveh(from);

/* Runs of P operands along the sum: `loaded` reads b, of which `madd` adds a product to each chain. `join` adds chains, long ones up to `most` at
 * once, to what `fold` adds to sums. */
#define TT_EACH_RUN_H(P, most, sums, zero, madd, join, fold, loaded) \
    const int32_t chain = tt_chain_mveh(w->rows * w->cols * w->steps); \
    TT_P##P(sums, ) \
    for (int32_t row = w->rows; row > 0; --row) { \
        for (int32_t col = w->cols;;) { \
            TT_P##P(TT_POINT_A, tt_half) \
            for (int32_t left = w->steps; left > 0;) { \
                const int32_t count = tt_next_chain_mveh(left, chain); \
                TT_P##P(zero, ) \
                for (int32_t chains = count == TT_LONG_CHAIN && left >= most * count ? most : 1; chains > 0; --chains) { \
                    for (int32_t i = 0; i < count; ++i) { \
                        const int32_t at = tt_step_mveh(i, count); \
                        loaded(b + at * w->b_step) \
                        TT_P##P(madd, ) \
                    } \
                    TT_P##P(join, ) \
                    TT_P##P(TT_GO_ON_H, count) \
                    b += count * w->b_step; \
                    left -= count; \
                } \
                TT_P##P(fold, ) \
            } \
            if (--col == 0) { \
                break; \
            } \
            a += w->steps + w->a_col; \
            b += w->b_col; \
        } \
        a += w->steps + w->a_row; \
        b += w->b_row; \
    }

#define TT_NOT_JOINED_H(p, none)
#define TT_DIRECT_H(P) \
    TT_SHARED void tt_direct_halves_mveh_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w) \
    { \
        TT_EACH_RUN_H(P, 1, TT_SUMS_H, TT_ZERO_H, TT_MADD_RUN_H, TT_NOT_JOINED_H, TT_FOLD_H, TT_LOADED_H) \
        TT_P##P(TT_STORE_C, mveh, 8) \
    }

/* Across a sum: a chain is as many rows as have not too many products, or a part of one. */
static inline int32_t tt_rows_mveh(int32_t left, int32_t steps, int32_t chain)
{
    const int32_t most = steps < chain ? chain / steps : 1;
    return left < most ? left : most;
}

/* `of_chain` for each: it begins at `from_a` and `from_b`, and goes through `count` steps of each of `rows`. */
#define TT_EACH_CHAIN_H(of_chain, ...) \
    const int32_t chain = tt_chain_mveh(w->rows * w->steps), steps = w->steps; \
    for (int32_t left = steps > 0 ? w->rows : 0; left > 0;) { \
        const int32_t rows = tt_rows_mveh(left, steps, chain); \
        for (int32_t done = 0; done < steps; done += chain) { \
            const int32_t count = steps - done < chain ? steps - done : chain; \
            const tt_half *from_a = a + done * w->a_step, *from_b = b + done * w->b_step; \
            of_chain(__VA_ARGS__) \
        } \
        a += rows * (steps * w->a_step + w->a_row); \
        b += rows * (steps * w->b_step + w->b_row); \
        left -= rows; \
    }

#define TT_CHAIN_H(P, zero, madd, fold) \
    TT_P##P(zero, ) \
    for (int32_t row = 0; row < rows; ++row, from_a += w->a_row, from_b += w->b_row) { \
        for (int32_t i = 0; i < count; ++i, from_a += w->a_step, from_b += w->b_step) { \
            TT_P##P(madd, 8) \
        } \
    } \
    TT_P##P(fold, )

#define TT_ACROSS_H(name, P, sums, zero, madd, fold, store) \
    TT_SHARED void name##_mveh_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w) \
    { \
        TT_P##P(sums, ) \
        TT_EACH_CHAIN_H(TT_CHAIN_H, P, zero, madd, fold) \
        TT_P##P(store, 8) \
    }

/* Rows of taps are short: as many of them as have up to six products are one chain. */
#define TT_DEPTH_H(P) \
    TT_SHARED void tt_depth_halves_mveh_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w) \
    { \
        const int32_t most = w->steps > 0 && w->steps < 6 ? 6 / w->steps : 1; \
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
        TT_P##P(TT_STORE_C, mveh, 8) \
    }

#define TT_HALVES_MVEH(P) \
    TT_ACROSS_H(tt_outer_halves, P, TT_SUMS_H, TT_ZERO_H, TT_MADD_ACROSS_H, TT_FOLD_H, TT_KEEP_H) \
    TT_ACROSS_H(tt_wide_halves, P, TT_SUMS_H, TT_ZERO_H, TT_MADD_WIDE_H, TT_FOLD_H, TT_KEEP_H) \
    TT_ACROSS_H(tt_depth_outer_halves, P, TT_SUMS_H, TT_ZERO_H, TT_MADD_PAIR_H, TT_FOLD_H, TT_KEEP_H) \
    TT_DEPTH_H(P)
TT_HALVES_MVEH(1)
TT_HALVES_MVEH(2)

#if TT_MVE_LOOPS
#include "tt_simd_mveh_runs.h"
#else
TT_DIRECT_H(1)
TT_DIRECT_H(2)
#endif

#include "tt_simd_mveh_double.h"
#include "tt_simd_mveh_strips.h"

#endif
