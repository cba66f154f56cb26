/* SPDX-License-Identifier: Apache-2.0 */
/* What tt_master.h says, of the weights in a vector: in the words for floats, and in away, nearest, further, between, lift and drawn, which a
 * header gives in instructions or has made here for N lanes in C; as int16 that are int32 in vectors. */
#ifndef TT_MASTER_WORDS_H
#define TT_MASTER_WORDS_H

#include "tt_master.h"
#include <stdint.h>

#define TT_MASTER_WORDS(simd) \
    static inline tt_v_##simd tt_master_half_##simd(tt_v_##simd number) \
    { \
        const tt_v_##simd away = tt_away_##simd(number); \
        return tt_nearest_##simd(tt_sub_##simd(tt_add_##simd(number, away), away)); \
    } \
    static inline tt_v_##simd tt_master_##simd(tt_v_##simd half, tt_i_##simd rest) \
    { \
        const tt_v_##simd away = tt_away_##simd(half); \
        return tt_sub_##simd(tt_further_##simd(tt_add_##simd(half, away), rest), away); \
    } \
    static inline tt_i_##simd tt_i_rest_##simd(tt_v_##simd number, tt_v_##simd half) \
    { \
        const tt_v_##simd away = tt_away_##simd(number); \
        return tt_i_between_##simd(tt_add_##simd(half, away), tt_add_##simd(number, away)); \
    } \
    static inline tt_v_##simd tt_half_stochastic_##simd(tt_v_##simd number, tt_i_##simd word) \
    { \
        const tt_v_##simd lift = tt_lift_##simd(number); \
        return tt_sub_##simd(tt_drawn_##simd(tt_add_##simd(number, lift), word), lift); \
    }

/* A vector of floats, and of integers beside it, lane by lane: x[v] and i[v] are theirs. */
#define TT_EACH_REAL(simd, N, word, value) \
    static inline tt_v_##simd tt_##word##_##simd(tt_v_##simd number) \
    { \
        float x[N]; \
        tt_store_##simd(x, number); \
        for (int32_t v = 0; v < (N); ++v) { \
            x[v] = value; \
        } \
        return tt_load_##simd(x); \
    }
#define TT_EACH_REAL_BY(simd, N, word, value) \
    static inline tt_v_##simd tt_##word##_##simd(tt_v_##simd number, tt_i_##simd by) \
    { \
        float x[N]; \
        int32_t i[N]; \
        tt_store_##simd(x, number); \
        tt_i_store_##simd(i, by); \
        for (int32_t v = 0; v < (N); ++v) { \
            x[v] = value; \
        } \
        return tt_load_##simd(x); \
    }

#define TT_MASTER_LANES(simd, N) \
    static inline tt_i_##simd tt_i_load_s16_##simd(const int16_t *from) \
    { \
        int32_t i[N]; \
        for (int32_t v = 0; v < (N); ++v) { \
            i[v] = from[v]; \
        } \
        return tt_i_load_##simd(i); \
    } \
    static inline void tt_i_store_s16_##simd(int16_t *to, tt_i_##simd a) \
    { \
        int32_t i[N]; \
        tt_i_store_##simd(i, a); \
        for (int32_t v = 0; v < (N); ++v) { \
            to[v] = (int16_t)i[v]; \
        } \
    } \
    TT_EACH_REAL(simd, N, away, tt_away(x[v])) \
    TT_EACH_REAL(simd, N, nearest, tt_nearest_half(x[v])) \
    TT_EACH_REAL_BY(simd, N, further, tt_from_bits(tt_to_bits(x[v]) + (uint32_t)i[v])) \
    TT_EACH_REAL(simd, N, lift, tt_lift(x[v])) \
    TT_EACH_REAL_BY(simd, N, drawn, tt_drawn(x[v], (uint32_t)i[v])) \
    static inline tt_i_##simd tt_i_between_##simd(tt_v_##simd from, tt_v_##simd to) \
    { \
        float x[N], y[N]; \
        int32_t i[N]; \
        tt_store_##simd(x, from); \
        tt_store_##simd(y, to); \
        for (int32_t v = 0; v < (N); ++v) { \
            i[v] = (int32_t)(tt_to_bits(y[v]) - tt_to_bits(x[v])); \
        } \
        return tt_i_load_##simd(i); \
    }

#endif
