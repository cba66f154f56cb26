/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors of one lane, for kernels that keep what neighbours along a row share in registers, and go through channels one by one. */
#ifndef TT_SIMD_ONE_H
#define TT_SIMD_ONE_H

#include "tt_requantise.h"
#include "tt_tile.h"

typedef float tt_v_one;
typedef int32_t tt_i_one;

static inline tt_v_one tt_zero_one(void)
{
    return 0.0f;
}

static inline tt_v_one tt_load_one(const float *from)
{
    return *from;
}

static inline tt_v_one tt_load_s8_one(const int8_t *from, int32_t zero_point)
{
    return (float)(*from - zero_point);
}

static inline void tt_store_one(float *to, tt_v_one v)
{
    *to = v;
}

static inline tt_v_one tt_madd_lanes_one(tt_v_one acc, tt_v_one a, tt_v_one b)
{
    return TT_MADD(acc, a, b);
}

static inline tt_i_one tt_i_load_one(const int32_t *from)
{
    return *from;
}

static inline void tt_i_store_one(int32_t *to, tt_i_one i)
{
    *to = i;
}

static inline void tt_i_store_s8_one(int8_t *to, tt_i_one i)
{
    *to = (int8_t)i;
}

static inline tt_i_one tt_i_of_one(tt_v_one v)
{
    return (int32_t)v;
}

static inline tt_i_one tt_i_add_one(tt_i_one a, tt_i_one b)
{
    return a + b;
}

static inline tt_i_one tt_i_requantise_one(tt_i_one acc, tt_i_one m, tt_i_one s, int32_t zero_point, int32_t low, int32_t high)
{
    return tt_requantise(acc, m, s, zero_point, low, high);
}

#endif
