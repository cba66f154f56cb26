/* SPDX-License-Identifier: Apache-2.0 */
/* What tt_master.h says, of N weights side by side, and int16 as int32 in vectors: for all units but those whose header says it in
 * instructions. */
#ifndef TT_MASTER_WORDS_H
#define TT_MASTER_WORDS_H

#include "tt_master.h"
#include <stdint.h>

#define TT_MASTER_WORDS(simd, N) \
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
    static inline tt_v_##simd tt_nearest_##simd(tt_v_##simd number) \
    { \
        float x[N]; \
        tt_store_##simd(x, number); \
        for (int32_t v = 0; v < (N); ++v) { \
            x[v] = tt_half_to_float(tt_float_to_half(x[v])); \
        } \
        return tt_load_##simd(x); \
    } \
    static inline tt_v_##simd tt_master_##simd(tt_v_##simd half, tt_i_##simd rest) \
    { \
        float x[N]; \
        int32_t i[N]; \
        tt_store_##simd(x, half); \
        tt_i_store_##simd(i, rest); \
        for (int32_t v = 0; v < (N); ++v) { \
            x[v] = tt_master(x[v], i[v]); \
        } \
        return tt_load_##simd(x); \
    } \
    static inline tt_i_##simd tt_i_rest_##simd(tt_v_##simd master, tt_v_##simd half) \
    { \
        float x[N], y[N]; \
        int32_t i[N]; \
        tt_store_##simd(x, master); \
        tt_store_##simd(y, half); \
        for (int32_t v = 0; v < (N); ++v) { \
            i[v] = tt_rest(x[v], y[v]); \
        } \
        return tt_i_load_##simd(i); \
    } \
    static inline tt_v_##simd tt_half_stochastic_##simd(tt_v_##simd number, tt_i_##simd word) \
    { \
        float x[N]; \
        int32_t i[N]; \
        tt_store_##simd(x, number); \
        tt_i_store_##simd(i, word); \
        for (int32_t v = 0; v < (N); ++v) { \
            x[v] = tt_half_stochastic(x[v], (uint32_t)i[v]); \
        } \
        return tt_load_##simd(x); \
    }

#endif
