/* SPDX-License-Identifier: Apache-2.0 */
/* The tile that all fp32 matrix work is made of: acc[p][lanes] = Σ a[p] · b[lanes], for P operands a and one vector b in each step of a sum.
 *
 * Vectors always run along results, never along a sum: each result is one sum in one order, so that its bits do not depend on the length
 * of a vector. A header tt_simd_<isa>.h gives the words (type v; zero, splat, load, load_half, sums, store, madd, madd_lanes, add, sub, mul,
 * where; each with its suffix; `sums` loads what a tile has left) and has the tiles made here, or writes them itself. */
#ifndef TT_TILE_H
#define TT_TILE_H

#include "tt_half.h"
#include <stdint.h>

/* A shared function: it stands in a project once, and not at all where nobody calls it. */
#define TT_SHARED __attribute__((unused, noinline)) static

/* acc + a·b, rounded once on boards whose `fused` says so, and in their host twins; twice everywhere else. */
#if defined(TT_FUSED) && TT_FUSED
#define TT_MADD(acc, a, b) __builtin_fmaf(a, b, acc)
#else
#define TT_MADD(acc, a, b) ((acc) + (a) * (b))
#endif

/* How a tile moves over its operands, in elements. A sum has `rows` rows of `cols` runs of `steps` steps. In `direct` a runs along the
 * sum, and a[p] are `a_next` apart; in the others (of one run a row) a[p] are neighbours, and steps of a are `a_step` apart. Steps of b are
 * `b_step` apart. `_col` and `_row` lead from the end of a run to the next one in its row, or to the next row. */
typedef struct {
    int32_t a_next, a_step, a_col, a_row;
    int32_t b_step, b_col, b_row;
    int32_t rows, cols, steps;
} tt_walk;

/* X(p, …) for each of P operands. */
#define TT_P1(X, ...) X(0, __VA_ARGS__)
#define TT_P2(X, ...) TT_P1(X, __VA_ARGS__) X(1, __VA_ARGS__)
#define TT_P3(X, ...) TT_P2(X, __VA_ARGS__) X(2, __VA_ARGS__)
#define TT_P4(X, ...) TT_P3(X, __VA_ARGS__) X(3, __VA_ARGS__)
#define TT_P5(X, ...) TT_P4(X, __VA_ARGS__) X(4, __VA_ARGS__)
#define TT_P6(X, ...) TT_P5(X, __VA_ARGS__) X(5, __VA_ARGS__)

#define TT_ZERO_C(p, simd, ...) tt_v_##simd c##p = tt_zero_##simd();
#define TT_RESUME_C(p, simd, N) tt_v_##simd c##p = tt_load_##simd(acc + (p) * (N));
#define TT_STORE_C(p, simd, N) tt_store_##simd(acc + (p) * (N), c##p);
#define TT_POINT_A(p, type) const type *a##p = a + (p) * w->a_next;
#define TT_MADD_RUN(p, simd, value) c##p = tt_madd_##simd(c##p, v, value(a##p[i]));
#define TT_MADD_ACROSS(p, simd, value, load) c##p = tt_madd_##simd(c##p, load(b), value(a[p]));
#define TT_MADD_WIDE(p, simd, N, value, load) c##p = tt_madd_##simd(c##p, load(b + (p) * (N)), value(a[0]));
#define TT_PLAIN(x) (x)

#define TT_MADD_LANES(p, simd, load) c##p = tt_madd_lanes_##simd(c##p, load(a##p), v);
#define TT_MADD_PAIR(p, simd, N, load, load_b) c##p = tt_madd_lanes_##simd(c##p, load(a + (p) * (N)), load_b(b + (p) * (N)));
#define TT_STEP_A(p, none) a##p += w->a_step;

/* The tiles of P operands a and one vector of N lanes, or (`wide`) of one a and P vectors side by side, in words. Of `direct`, a header may
 * have a quicker form that reads b packed, one step right behind the other: `broadcast`. `tag` is "" where both are stored as float, _half
 * where a is as fp16, _weights where b is, and _halves where both are; `load` reads b. */
#define TT_TILES(simd, N, P, tag, type, value, type_b, load) \
    TT_DIRECT(simd, N, P, tag, type, value, type_b, load) \
    TT_ACROSS(tt_outer##tag, simd, N, P, type, type_b, TT_MADD_ACROSS, simd, value, load) \
    TT_ACROSS(tt_wide##tag, simd, N, P, type, type_b, TT_MADD_WIDE, simd, N, value, load)

#define TT_DIRECT(simd, N, P, tag, type, value, type_b, load) \
    TT_SHARED void tt_direct##tag##_##simd##_##P(float *acc, const type *a, const type_b *b, const tt_walk *w) \
    { \
        const int32_t steps = w->steps; \
        TT_P##P(TT_ZERO_C, simd, N) \
        for (int32_t row = w->rows; row > 0; --row) { \
            for (int32_t col = w->cols;;) { \
                TT_P##P(TT_POINT_A, type) \
                for (int32_t i = 0; i < steps; ++i, b += w->b_step) { \
                    const tt_v_##simd v = load(b); \
                    TT_P##P(TT_MADD_RUN, simd, value) \
                } \
                if (--col == 0) { \
                    break; \
                } \
                a += steps + w->a_col; \
                b += w->b_col; \
            } \
            a += steps + w->a_row; \
            b += w->b_row; \
        } \
        TT_P##P(TT_STORE_C, simd, N) \
    }

#define TT_ACROSS(name, ...) TT_ACROSS_FROM(TT_ZERO_C, name, __VA_ARGS__)
#define TT_ACROSS_FROM(begin, name, simd, N, P, type, type_b, madd, ...) \
    TT_SHARED void name##_##simd##_##P(float *acc, const type *a, const type_b *b, const tt_walk *w) \
    { \
        TT_P##P(begin, simd, N) \
        for (int32_t row = w->rows; row > 0; --row, a += w->a_row, b += w->b_row) { \
            for (int32_t i = w->steps; i > 0; --i, a += w->a_step, b += w->b_step) { \
                TT_P##P(madd, __VA_ARGS__) \
            } \
        } \
        TT_P##P(TT_STORE_C, simd, N) \
    }

/* P sums of their own: dot products of b, packed, with a[p] along the sum. */
#define TT_DOT(simd, P, tag, type, value) \
    TT_SHARED void tt_dot##tag##_##simd##_##P(float *acc, const type *a, const type *b, const tt_walk *w) \
    { \
        TT_P##P(TT_POINT_A, type) \
        TT_P##P(TT_ZERO_DOT, ) \
        for (int32_t i = 0; i < w->steps; ++i) { \
            TT_P##P(TT_MADD_DOT, value) \
        } \
        TT_P##P(TT_STORE_DOT, ) \
    }
#define TT_ZERO_DOT(p, none) float c##p = 0.0f;
#define TT_MADD_DOT(p, value) c##p = TT_MADD(c##p, value(a##p[i]), value(b[i]));
#define TT_STORE_DOT(p, none) acc[p] = c##p;

/* Tiles of sums that each have one channel: lane by lane, a · b. `depth` sums over taps, of P results that are a_next apart and share b;
 * `depth_outer` over pixels, of P vectors of neighbouring channels. A row has one run. `load` reads a, `load_b` b. */
#define TT_DEPTH_TILES(simd, N, P, tag, type, load, type_b, load_b) \
    TT_SHARED void tt_depth##tag##_##simd##_##P(float *acc, const type *a, const type_b *b, const tt_walk *w) \
    { \
        TT_P##P(TT_ZERO_C, simd, N) \
        for (int32_t row = w->rows; row > 0; --row, a += w->a_row, b += w->b_row) { \
            TT_P##P(TT_POINT_A, type) \
            for (int32_t i = w->steps; i > 0; --i, b += w->b_step) { \
                const tt_v_##simd v = load_b(b); \
                TT_P##P(TT_MADD_LANES, simd, load) \
                TT_P##P(TT_STEP_A, ) \
            } \
            a += w->steps * w->a_step; \
        } \
        TT_P##P(TT_STORE_C, simd, N) \
    } \
    TT_ACROSS(tt_depth_outer##tag, simd, N, P, type, type_b, TT_MADD_PAIR, simd, N, load, load_b)

/* All of them, of a stored as float or as fp16; `outer_on` goes on with the sums that acc has. Of `direct` there are forms besides where b are
 * int8 weights as they stand, widened as they are read. */
#define TT_FLOAT_TILES(simd, N, P) \
    TT_DOT(simd, P, , float, TT_PLAIN) \
    TT_ACROSS_FROM(TT_RESUME_C, tt_outer_on, simd, N, P, float, float, TT_MADD_ACROSS, simd, TT_PLAIN, tt_load_##simd) \
    TT_TILES(simd, N, P, , float, TT_PLAIN, float, tt_load_##simd) \
    TT_DEPTH_TILES(simd, N, P, , float, tt_load_##simd, float, tt_load_##simd)
#define TT_WEIGHTS_TILE(simd, N, P) TT_DIRECT(simd, N, P, _weights, float, TT_PLAIN, tt_half, tt_load_half_##simd)
#define TT_HALF_TILES(simd, N, P) \
    TT_TILES(simd, N, P, _half, tt_half, tt_half_to_float, float, tt_load_##simd) \
    TT_DEPTH_TILES(simd, N, P, _half, tt_half, tt_load_half_##simd, float, tt_load_##simd)
#define TT_HALVES_TILES(simd, N, P) TT_WEIGHTS_TILE(simd, N, P) TT_OF_HALVES_TILES(simd, N, P)
#define TT_OF_HALVES_TILES(simd, N, P) \
    TT_DOT(simd, P, _halves, tt_half, tt_half_to_float) \
    TT_TILES(simd, N, P, _halves, tt_half, tt_half_to_float, tt_half, tt_load_half_##simd) \
    TT_DEPTH_TILES(simd, N, P, _halves, tt_half, tt_load_half_##simd, tt_half, tt_load_half_##simd)

/* Halves of a vector of N floats, rounded one by one. */
#define TT_STORE_HALF(simd, N) \
    static inline void tt_store_half_##simd(tt_half *to, tt_v_##simd v) \
    { \
        float values[N]; \
        tt_store_##simd(values, v); \
        for (int i = 0; i < (N); ++i) { \
            to[i] = tt_float_to_half(values[i]); \
        } \
    }
#define TT_S8_TILE(simd, N, load, P) TT_DIRECT(simd, N, P, _s8, float, TT_PLAIN, int8_t, load)
#define TT_HALF_S8_TILE(simd, N, load, P) TT_DIRECT(simd, N, P, _half_s8, tt_half, tt_half_to_float, int8_t, load)

/* `broadcast`, where nothing is gained by b being packed. */
#define TT_PACKED_TILE(simd, P) \
    static inline void tt_broadcast_##simd##_##P(float *acc, const float *a, const float *b, const tt_walk *w) \
    { \
        tt_direct_##simd##_##P(acc, a, b, w); \
    }

/* `outer` that is told the steps of its operands, where nothing is gained by that. */
#define TT_OUTER_BY(simd, P) \
    static inline void tt_outer_by_##simd##_##P(float *acc, const float *a, const float *b, const tt_walk *w, int32_t a_step, int32_t b_step) \
    { \
        (void)a_step; \
        (void)b_step; \
        tt_outer_##simd##_##P(acc, a, b, w); \
    } \
    static inline void tt_outer_by_on_##simd##_##P(float *acc, const float *a, const float *b, const tt_walk *w, int32_t a_step, int32_t b_step) \
    { \
        (void)a_step; \
        (void)b_step; \
        tt_outer_on_##simd##_##P(acc, a, b, w); \
    }

/* One vector into up to three sums, each time with another operand. */
#define TT_MADDS_AT(simd) \
    static inline void tt_madd_at1_##simd(tt_v_##simd *s, const float *from, tt_v_##simd a) \
    { \
        *s = tt_madd_lanes_##simd(*s, tt_load_##simd(from), a); \
    } \
    static inline void tt_madd_at2_##simd(tt_v_##simd *s, tt_v_##simd *t, const float *from, tt_v_##simd a, tt_v_##simd b) \
    { \
        const tt_v_##simd v = tt_load_##simd(from); \
        *s = tt_madd_lanes_##simd(*s, v, a); \
        *t = tt_madd_lanes_##simd(*t, v, b); \
    } \
    static inline void tt_madd_at3_##simd(tt_v_##simd *s, tt_v_##simd *t, tt_v_##simd *u, const float *from, tt_v_##simd a, \
                                          tt_v_##simd b, tt_v_##simd c) \
    { \
        const tt_v_##simd v = tt_load_##simd(from); \
        *s = tt_madd_lanes_##simd(*s, v, a); \
        *t = tt_madd_lanes_##simd(*t, v, b); \
        *u = tt_madd_lanes_##simd(*u, v, c); \
    }

/* Tiles of sums that are one run: `run` reads a packed strip; `packing` reads int8 weights, whose steps are `pitch` apart, and packs them. */
#define TT_RUN_TILES(simd, N, tile, P) \
    static inline void tt_run_##simd##_##P(float *acc, const float *a, const float *b, const tt_walk *w) \
    { \
        tt_##tile##_##simd##_##P(acc, a, b, w); \
    } \
    TT_SHARED void tt_packing_##simd##_##P(float *acc, const float *a, const int8_t *b, int32_t pitch, float *strip, const tt_walk *w) \
    { \
        for (int32_t i = 0; i < w->steps; ++i) { \
            tt_store_##simd(strip + i * (N), tt_load_s8_##simd(b + i * pitch, 0)); \
        } \
        tt_##tile##_##simd##_##P(acc, a, strip, w); \
    }

/* X(…, P) for each size up to 3, 4, 5 or 6. */
#define TT_SIZES3(X, ...) X(__VA_ARGS__, 1) X(__VA_ARGS__, 2) X(__VA_ARGS__, 3)
#define TT_SIZES4(X, ...) TT_SIZES3(X, __VA_ARGS__) X(__VA_ARGS__, 4)
#define TT_SIZES5(X, ...) TT_SIZES4(X, __VA_ARGS__) X(__VA_ARGS__, 5)
#define TT_SIZES6(X, ...) TT_SIZES5(X, __VA_ARGS__) X(__VA_ARGS__, 6)

/* All tiles of a unit with vectors of N lanes but those of halves alone; `load` widens int8 weights as it reads them. */
#define TT_VECTOR_TILES(simd, N, load) \
    TT_SIZES6(TT_FLOAT_TILES, simd, N) \
    TT_SIZES6(TT_HALF_TILES, simd, N) \
    TT_SIZES6(TT_RUN_TILES, simd, N, direct) \
    TT_MADDS_AT(simd) \
    TT_SIZES6(TT_S8_TILE, simd, N, load) \
    TT_SIZES6(TT_HALF_S8_TILE, simd, N, load)

/* A strip is a part of a weight as `broadcast` reads it: `lanes` results side by side for each step. `runs` puts `live` lanes of it
 * there, each a run of `count` floats, `pitch` apart; `rows` as many lanes as `from` has side by side, `count` rows of them `pitch` apart, each
 * integer without the zero point. Four lanes at once are the quickest. */
#define TT_STRIP_RUNS(tag, type, value) \
    TT_SHARED void tt_strip_runs_##tag(float *to, int32_t lanes, const type *from, int32_t pitch, int32_t live, int32_t count) \
    { \
        if (live == 4) { \
            const type *a = from, *b = a + pitch, *c = b + pitch, *d = c + pitch; \
            for (int32_t i = count & 1; i > 0; --i, to += lanes) { \
                to[0] = value(*a++); \
                to[1] = value(*b++); \
                to[2] = value(*c++); \
                to[3] = value(*d++); \
            } \
            for (int32_t i = count >> 1; i > 0; --i, a += 2, b += 2, c += 2, d += 2, to += 2 * lanes) { \
                const float a0 = value(a[0]), a1 = value(a[1]), b0 = value(b[0]), b1 = value(b[1]); \
                const float c0 = value(c[0]), c1 = value(c[1]), d0 = value(d[0]), d1 = value(d[1]); \
                to[0] = a0; \
                to[1] = b0; \
                to[2] = c0; \
                to[3] = d0; \
                to[lanes] = a1; \
                to[lanes + 1] = b1; \
                to[lanes + 2] = c1; \
                to[lanes + 3] = d1; \
            } \
            return; \
        } \
        for (int32_t v = 0; v < live; ++v) { \
            for (int32_t i = 0; i < count; ++i) { \
                to[i * lanes + v] = value(from[v * pitch + i]); \
            } \
        } \
    }
TT_STRIP_RUNS(f32, float, TT_PLAIN)

#define TT_STRIPS(tag, type, value) \
    TT_SHARED void tt_strip_rows_##tag(float *to, int32_t lanes, const type *from, int32_t pitch, int32_t live, int32_t count, int32_t zero) \
    { \
        if (live == 4) { \
            for (int32_t i = 0; i < count; ++i, to += lanes, from += pitch) { \
                const float a = value(from[0]), b = value(from[1]), c = value(from[2]), d = value(from[3]); \
                to[0] = a; \
                to[1] = b; \
                to[2] = c; \
                to[3] = d; \
            } \
            return; \
        } \
        for (int32_t i = 0; i < count; ++i, to += lanes, from += pitch) { \
            for (int32_t v = 0; v < live; ++v) { \
                to[v] = value(from[v]); \
            } \
        } \
        (void)zero; \
    }

#define TT_CENTRED(x) (float)((x) - zero)
TT_STRIPS(f32, float, TT_PLAIN)
TT_STRIPS(s8, int8_t, TT_CENTRED)

TT_SHARED void tt_strip_zero(float *to, int32_t count)
{
    int32_t i = 0;
    for (; i + 8 <= count; i += 8, to += 8) {
        to[0] = to[1] = to[2] = to[3] = to[4] = to[5] = to[6] = to[7] = 0.0f;
    }
    for (; i < count; ++i) {
        *to++ = 0.0f;
    }
}

#include "tt_widen.h"

#endif
