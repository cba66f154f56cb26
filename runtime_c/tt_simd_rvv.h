/* SPDX-License-Identifier: Apache-2.0 */
/* RISC-V vectors: sixteen floats in four registers of 128 bits (or in fewer, or in a part, of longer ones), six sums beside an operand.
 * In C for every other target, same bits: one NaN, and subnormal numbers as any others. */
#ifndef TT_SIMD_RVV_H
#define TT_SIMD_RVV_H

#include "tt_half.h"
#include <stdint.h>

#if defined(__riscv_vector) && defined(__riscv_v_min_vlen) && __riscv_v_min_vlen >= 128
#include <riscv_vector.h>

typedef vfloat32m4_t tt_v_rvv;

static inline tt_v_rvv tt_zero_rvv(void)
{
    return __riscv_vfmv_v_f_f32m4(0.0f, 16);
}

static inline tt_v_rvv tt_load_rvv(const float *from)
{
    return __riscv_vle32_v_f32m4(from, 16);
}

/* The first n of sixteen; the others are 0. */
static inline tt_v_rvv tt_load_n_rvv(const float *from, uint32_t n)
{
    return __riscv_vle32_v_f32m4_tu(tt_zero_rvv(), from, n);
}

/* from[i] − zero_point as floats */
static inline tt_v_rvv tt_load_s8_n_rvv(const int8_t *from, int32_t zero_point, uint32_t n)
{
    const vint32m4_t x = __riscv_vsext_vf4_i32m4(__riscv_vle8_v_i8m1(from, n), n);
    return __riscv_vfcvt_f_x_v_f32m4(zero_point ? __riscv_vsub_vx_i32m4(x, zero_point, n) : x, n);
}

static inline tt_v_rvv tt_load_s8_rvv(const int8_t *from, int32_t zero_point)
{
    return tt_load_s8_n_rvv(from, zero_point, 16);
}

static inline void tt_store_rvv(float *to, tt_v_rvv v)
{
    __riscv_vse32_v_f32m4(to, v, 16);
}

static inline void tt_store_n_rvv(float *to, tt_v_rvv v, uint32_t n)
{
    __riscv_vse32_v_f32m4(to, v, n);
}

/* acc + v·s, rounded once */
static inline tt_v_rvv tt_madd_rvv(tt_v_rvv acc, tt_v_rvv v, float s)
{
    return __riscv_vfmacc_vf_f32m4(acc, s, v, 16);
}

static inline tt_v_rvv tt_madd_lanes_rvv(tt_v_rvv acc, tt_v_rvv a, tt_v_rvv b)
{
    return __riscv_vfmacc_vv_f32m4(acc, a, b, 16);
}
#else
typedef struct {
    float at[16];
} tt_v_rvv;

static inline tt_v_rvv tt_zero_rvv(void)
{
    return (tt_v_rvv){ { 0.0f } };
}

static inline tt_v_rvv tt_load_rvv(const float *from)
{
    tt_v_rvv v;
    __builtin_memcpy(v.at, from, sizeof v.at);
    return v;
}

static inline tt_v_rvv tt_load_n_rvv(const float *from, uint32_t n)
{
    tt_v_rvv v = tt_zero_rvv();
    __builtin_memcpy(v.at, from, n * sizeof v.at[0]);
    return v;
}

static inline tt_v_rvv tt_load_s8_n_rvv(const int8_t *from, int32_t zero_point, uint32_t n)
{
    tt_v_rvv v = tt_zero_rvv();
    for (uint32_t i = 0; i < n; ++i) {
        v.at[i] = (float)(from[i] - zero_point);
    }
    return v;
}

static inline tt_v_rvv tt_load_s8_rvv(const int8_t *from, int32_t zero_point)
{
    return tt_load_s8_n_rvv(from, zero_point, 16);
}

static inline void tt_store_rvv(float *to, tt_v_rvv v)
{
    __builtin_memcpy(to, v.at, sizeof v.at);
}

static inline void tt_store_n_rvv(float *to, tt_v_rvv v, uint32_t n)
{
    __builtin_memcpy(to, v.at, n * sizeof v.at[0]);
}

static inline tt_v_rvv tt_madd_lanes_rvv(tt_v_rvv acc, tt_v_rvv a, tt_v_rvv b)
{
    for (int i = 0; i < 16; ++i) {
        const float r = __builtin_fmaf(a.at[i], b.at[i], acc.at[i]);
        acc.at[i] = r == r ? r : tt_from_bits(UINT32_C(0x7FC00000));
    }
    return acc;
}

static inline tt_v_rvv tt_madd_rvv(tt_v_rvv acc, tt_v_rvv v, float s)
{
    for (int i = 0; i < 16; ++i) {
        const float r = __builtin_fmaf(v.at[i], s, acc.at[i]);
        acc.at[i] = r == r ? r : tt_from_bits(UINT32_C(0x7FC00000));
    }
    return acc;
}
#endif

static inline tt_v_rvv tt_load_half_rvv(const tt_half *from)
{
    float values[16];
    for (int i = 0; i < 16; ++i) {
        values[i] = tt_half_to_float(from[i]);
    }
    return tt_load_rvv(values);
}

#endif
