/* SPDX-License-Identifier: Apache-2.0 */
/* Integers beside the floats of a vector, lane by lane: as many int32 as a vector has floats. In plain C, for a type tt_i of an array `at`
 * of N, on all targets but those whose header says it in instructions. Numbers are those of tt_update.h and tt_random.h. */
#ifndef TT_INTEGER_WORDS_H
#define TT_INTEGER_WORDS_H

#include "tt_random.h"
#include "tt_requantise.h"
#include "tt_update.h"
#include <stdint.h>

/* A function of lanes, of which `value` is lane v of the result. */
#define TT_EACH_LANE(simd, N, name, arguments, value) \
    static inline tt_i_##simd tt_i_##name##_##simd arguments \
    { \
        tt_i_##simd i; \
        for (int32_t v = 0; v < (N); ++v) { \
            i.at[v] = (int32_t)(value); \
        } \
        return i; \
    }

/* The same of a vector of floats d, whose lane v is x[v]. */
#define TT_EACH_FLOAT(simd, N, name, arguments, value) \
    static inline tt_i_##simd tt_i_##name##_##simd arguments \
    { \
        float x[N]; \
        tt_i_##simd i; \
        tt_store_##simd(x, d); \
        for (int32_t v = 0; v < (N); ++v) { \
            i.at[v] = value; \
        } \
        return i; \
    }

/* `bits`: bit i and those behind it, of rows whose length is `row`: i is a multiple of four where that is. */
#define TT_INTEGER_WORDS(simd, N) \
    TT_EACH_LANE(simd, N, load_s8, (const int8_t *from), from[v]) \
    TT_EACH_LANE(simd, N, load_u8, (const uint8_t *from), from[v]) \
    TT_EACH_LANE(simd, N, bits, (const uint8_t *bits, int32_t i0, int32_t row), row >= 0 ? (bits[(i0 + v) >> 3] >> ((i0 + v) & 7)) & 1 : 0) \
    TT_EACH_LANE(simd, N, random, (uint32_t seed, uint32_t counter), tt_random(seed, counter + (uint32_t)v)) \
    TT_EACH_LANE(simd, N, moved, (tt_i_##simd w, tt_i_##simd step, int32_t bound), tt_moved(w.at[v], step.at[v], bound)) \
    TT_EACH_LANE(simd, N, moved_wide, (tt_i_##simd w, tt_i_##simd step, int32_t bound), tt_moved_wide(w.at[v], step.at[v], bound)) \
    TT_EACH_LANE(simd, N, weighted, (tt_i_##simd a, int32_t ma, tt_i_##simd b, int32_t mb, int32_t c, int32_t shift), \
                 (a.at[v] * ma + b.at[v] * mb + c) >> shift) \
    TT_EACH_LANE(simd, N, mul, (tt_i_##simd a, tt_i_##simd b), (uint32_t)a.at[v] * (uint32_t)b.at[v]) \
    TT_EACH_LANE(simd, N, more, (tt_i_##simd x, tt_i_##simd y, tt_i_##simd a, tt_i_##simd b), x.at[v] > y.at[v] ? a.at[v] : b.at[v]) \
    TT_EACH_LANE(simd, N, within, (tt_i_##simd a, int32_t low, int32_t high), tt_clamp(a.at[v], low, high)) \
    TT_EACH_FLOAT(simd, N, quantise, (tt_v_##simd d, float scale, int32_t zero_point, int32_t low, int32_t high), \
                  tt_quantise(x[v], scale, zero_point, low, high)) \
    TT_EACH_FLOAT(simd, N, nearest, (tt_v_##simd d, float limit), tt_round_nearest(x[v], limit)) \
    TT_EACH_FLOAT(simd, N, stochastic, (tt_v_##simd d, float limit, tt_i_##simd word), \
                  tt_round_stochastic(x[v], limit, (uint32_t)word.at[v])) \
    static inline tt_v_##simd tt_real_##simd(tt_i_##simd i) \
    { \
        float x[N]; \
        for (int32_t v = 0; v < (N); ++v) { \
            x[v] = (float)i.at[v]; \
        } \
        return tt_load_##simd(x); \
    } \
    static inline tt_v_##simd tt_pick_##simd(tt_i_##simd bits, tt_v_##simd a, tt_v_##simd b) \
    { \
        float x[N], y[N]; \
        tt_store_##simd(x, a); \
        tt_store_##simd(y, b); \
        for (int32_t v = 0; v < (N); ++v) { \
            x[v] = bits.at[v] ? x[v] : y[v]; \
        } \
        return tt_load_##simd(x); \
    } \
    static inline tt_v_##simd tt_equal_##simd(tt_i_##simd i, int32_t number, tt_v_##simd a, tt_v_##simd b) \
    { \
        for (int32_t v = 0; v < (N); ++v) { \
            i.at[v] = i.at[v] == number; \
        } \
        return tt_pick_##simd(i, a, b); \
    } \
    static inline tt_i_##simd tt_i_where_##simd(tt_v_##simd x, tt_v_##simd y, tt_i_##simd a, tt_i_##simd b) \
    { \
        float above[N]; \
        tt_store_##simd(above, tt_where_##simd(x, y, tt_splat_##simd(1.0f), tt_zero_##simd())); \
        for (int32_t v = 0; v < (N); ++v) { \
            a.at[v] = above[v] > 0.0f ? a.at[v] : b.at[v]; \
        } \
        return a; \
    }

#endif
