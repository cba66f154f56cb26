/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs of halves in the registers of single precision, as PULP's SmallFloat extension has them: one instruction adds both products of two
 * pairs to a float, the lower first, each rounded as a fused multiply-add does it. So a sum along pairs is that of the portable kernels.
 *
 * A strip of pairs is a weight or a map as the tiles read it: of each two steps of a sum, one pair for each of four results, one behind the
 * other; where a run has an odd number of steps, the last pair has a zero. */
#ifndef TT_SIMD_XPULP_H
#define TT_SIMD_XPULP_H

#include "tt_simd_rvf.h"

#define tt_v_xpulp tt_v_rvf
#define tt_zero_xpulp tt_zero_rvf
#define tt_load_xpulp tt_load_rvf
#define tt_sums_xpulp tt_sums_rvf
#define tt_store_xpulp tt_store_rvf
#define tt_madd_xpulp tt_madd_rvf
#define tt_madd_lanes_xpulp tt_madd_lanes_rvf
#define tt_splat_xpulp tt_splat_rvf
#define tt_add_xpulp tt_add_rvf
#define tt_sub_xpulp tt_sub_rvf
#define tt_mul_xpulp tt_mul_rvf
#define tt_where_xpulp tt_where_rvf
#define tt_settled_xpulp tt_settled_rvf

#if defined(__riscv_zfh) && TT_FUSED
#define TT_XPULP 1
typedef float tt_pair_xpulp; /* its bits */

static inline float tt_madd_pair(float acc, tt_pair_xpulp a, tt_pair_xpulp b)
{
    __asm(".insn r 0x33, 0, 0x4b, %0, %1, %2" : "+f"(acc) : "f"(a), "f"(b)); /* vfdotpex.s.h */
    return acc;
}

static inline tt_pair_xpulp tt_pair_of(float low, float high)
{
    tt_pair_xpulp pair;
    __asm(".insn r 0x33, 2, 0x58, %0, %1, %2" : "=f"(pair) : "f"(low), "f"(high)); /* vfcpka.h.s */
    return pair;
}

static inline tt_pair_xpulp tt_pair_alone(const tt_half *from)
{
    tt_pair_xpulp pair;
    __asm("fmv.w.x %0, %1" : "=f"(pair) : "r"((uint32_t)*from));
    return pair;
}

static inline tt_pair_xpulp tt_pair_above(const tt_half *from)
{
    tt_pair_xpulp pair;
    __asm("fmv.w.x %0, %1" : "=f"(pair) : "r"((uint32_t)*from << 16));
    return pair;
}

static inline tt_v_xpulp tt_load_half_xpulp(const tt_half *from)
{
    _Float16 h[4];
    __builtin_memcpy(h, from, sizeof h);
    const tt_v_xpulp v = { (float)h[0], (float)h[1], (float)h[2], (float)h[3] };
    return v;
}
#else
#define TT_XPULP 0
typedef uint32_t tt_pair_xpulp;

#define tt_load_half_xpulp tt_load_half_rvf

static inline float tt_madd_pair(float acc, tt_pair_xpulp a, tt_pair_xpulp b)
{
    const float low = TT_MADD(acc, tt_half_to_float((tt_half)a), tt_half_to_float((tt_half)b));
    return TT_MADD(low, tt_half_to_float((tt_half)(a >> 16)), tt_half_to_float((tt_half)(b >> 16)));
}

static inline tt_pair_xpulp tt_pair_of(float low, float high)
{
    return (tt_pair_xpulp)tt_float_to_half(low) | (tt_pair_xpulp)tt_float_to_half(high) << 16;
}

/* A half and zero. */
static inline tt_pair_xpulp tt_pair_alone(const tt_half *from)
{
    return *from;
}

/* Zero and a half. */
static inline tt_pair_xpulp tt_pair_above(const tt_half *from)
{
    return (tt_pair_xpulp)*from << 16;
}
#endif

static inline tt_pair_xpulp tt_pair_load(const tt_half *from)
{
    tt_pair_xpulp pair;
    __builtin_memcpy(&pair, from, sizeof pair);
    return pair;
}

static inline void tt_pair_store(tt_half *to, tt_pair_xpulp pair)
{
    __builtin_memcpy(to, &pair, sizeof pair);
}

static inline void tt_store_half_xpulp(tt_half *to, tt_v_xpulp v)
{
    float values[4];
    tt_store_xpulp(values, v);
    tt_pair_store(to, tt_pair_of(values[0], values[1]));
    tt_pair_store(to + 2, tt_pair_of(values[2], values[3]));
}

/* Two halves of `from` and two of `next`, put together as two pairs. */
static inline void tt_zip_halves(tt_half *first, tt_half *second, const tt_half *from, const tt_half *next)
{
    uint32_t a, b;
    __builtin_memcpy(&a, from, sizeof a);
    __builtin_memcpy(&b, next, sizeof b);
    __builtin_memcpy(first, &a, sizeof a);
    __builtin_memcpy(second, &b, sizeof b);
    first[1] = (tt_half)b;
    second[0] = (tt_half)(a >> 16);
}

/* `count` rows of `live` lanes, `pitch` apart: those of each two rows become pairs, `step` halves apart; and `lane` apart those of a row. */
static inline void tt_zip_rows(tt_half *to, int32_t lane, int32_t step, const tt_half *from, int32_t pitch, int32_t live, int32_t count)
{
    for (; count > 1; count -= 2, to += step, from += 2 * pitch) {
        int32_t v = 0;
        for (; v + 2 <= live; v += 2) {
            tt_zip_halves(to + v * lane, to + (v + 1) * lane, from + v, from + pitch + v);
        }
        if (v < live) {
            to[v * lane] = from[v];
            to[v * lane + 1] = from[pitch + v];
        }
    }
    for (int32_t v = 0; count && v < live; ++v) {
        to[v * lane] = from[v];
        to[v * lane + 1] = 0;
    }
}

/* The same of rows along the sum: `live` results, `pitch` apart, of `count` steps each. */
static inline void tt_strip_pairs(tt_half *to, const tt_half *from, int32_t pitch, int32_t live, int32_t count)
{
    for (int32_t i = 0; i < count; i += 2, to += 8, from += 2) {
        for (int32_t v = 0; v < live; ++v) {
            tt_pair_store(to + 2 * v, i + 1 < count ? tt_pair_load(from + v * pitch) : tt_pair_alone(from + v * pitch));
        }
    }
}

/* How `pairs` walks: as `direct` of tt_tile.h, in bytes where the name says so. A turn of its loop is of 24 pairs, and a run enters its first one
 * `late` pairs late: its turns are counted from that many before its start to its last turn, from which rows lead to there in the next one.
 * `more` is below 0 where a run has an odd half, above it where a row has several runs. */
typedef struct {
    tt_walk walk;
    int32_t next_bytes, turns_bytes, late, late_bytes, late_strip_bytes, row_bytes, row_strip_bytes, more;
} tt_walk_pairs;

static inline tt_walk_pairs tt_in_pairs(tt_walk w)
{
    const int32_t odd = w.steps & 1, pairs = w.steps >> 1, late = 23 - (pairs + 23) % 24;
    const tt_walk_pairs in_pairs = {
        w, 2 * w.a_next, 4 * (pairs + late - 24), late, 4 * late, 16 * late, 2 * (w.a_row + odd) + 4 * (24 - late),
        2 * w.b_row + 16 * (24 - late),
        odd ? -1 : w.cols - 1,
    };
    return in_pairs;
}

/* The sums of up to six rows of four: they stay in registers. */
typedef struct {
    tt_v_xpulp at[6];
} tt_tile_xpulp;

#if TT_XPULP && defined(__OPTIMIZE__)
#include "tt_simd_xpulp_tiles.h"
#else
static inline void tt_row_of_pairs_xpulp(float *sums, const tt_half *a, const tt_half *b, const tt_walk *w)
{
    for (int32_t row = w->rows; row > 0; --row, a += w->a_row, b += w->b_row) {
        for (int32_t col = w->cols; col > 0; --col) {
            for (int32_t i = 0; i < w->steps; i += 2, b += 8) {
                for (int32_t v = 0; v < 4; ++v) {
                    sums[v] = tt_madd_pair(sums[v], i + 1 < w->steps ? tt_pair_load(a + i) : tt_pair_alone(a + i), tt_pair_load(b + 2 * v));
                }
            }
            a += w->steps;
            if (col > 1) {
                a += w->a_col;
                b += w->b_col;
            }
        }
    }
}

#define TT_TILE_XPULP(name, P, type, walks, rows, place) \
    TT_SHARED tt_tile_xpulp name##_xpulp_##P(const tt_half *a, const tt_half *b, const type *how) \
    { \
        const tt_walk *const w = walks; \
        tt_tile_xpulp tile; \
        for (int32_t p = 0; p < (rows); ++p) { \
            float sums[4] = { 0.0f, 0.0f, 0.0f, 0.0f }; \
            tt_row_of_pairs_xpulp(sums, a + (place), b, w); \
            tile.at[p] = tt_load_xpulp(sums); \
        } \
        return tile; \
    }
/* at[p][lane] = Σ a[p] · strip[lane], over rows of runs of at least one pair; the strip is read as it stands. */
#define TT_PAIRS_C(none, P) TT_TILE_XPULP(tt_pairs, P, tt_walk_pairs, &how->walk, P, p * w->a_next)
TT_SIZES6(TT_PAIRS_C, )
/* Sums of P planes `a_next` apart, each with three neighbouring taps: at[3p + tap][lane] = Σ a[p][tap] · strip[lane], of up to 16 whole pairs. */
TT_TILE_XPULP(tt_window, 1, tt_walk, how, 3, p)
TT_TILE_XPULP(tt_window, 2, tt_walk, how, 6, p / 3 * w->a_next + p % 3)
#endif

#endif
