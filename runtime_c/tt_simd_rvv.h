/* SPDX-License-Identifier: Apache-2.0 */
/* RISC-V vectors: sixteen floats in four registers of 128 bits (or in fewer, or in a part, of longer ones), six sums beside an operand.
 * In C for every other target, same bits: one NaN, and subnormal numbers as any others. */
#ifndef TT_SIMD_RVV_H
#define TT_SIMD_RVV_H

#include "tt_dsp.h"
#include "tt_requantise.h"
#include "tt_tile.h"
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

static inline tt_v_rvv tt_splat_rvv(float s)
{
    return __riscv_vfmv_v_f_f32m4(s, 16);
}

static inline tt_v_rvv tt_add_rvv(tt_v_rvv a, tt_v_rvv b)
{
    return __riscv_vfadd_vv_f32m4(a, b, 16);
}

static inline tt_v_rvv tt_sub_rvv(tt_v_rvv a, tt_v_rvv b)
{
    return __riscv_vfsub_vv_f32m4(a, b, 16);
}

static inline tt_v_rvv tt_mul_rvv(tt_v_rvv a, tt_v_rvv b)
{
    return __riscv_vfmul_vv_f32m4(a, b, 16);
}

/* a where x > y, else b */
static inline tt_v_rvv tt_where_rvv(tt_v_rvv x, tt_v_rvv y, tt_v_rvv a, tt_v_rvv b)
{
    return __riscv_vmerge_vvm_f32m4(b, a, __riscv_vmfgt_vv_f32m4_b8(x, y, 16), 16);
}

/* Integers: one weight of sixteen outputs as int16, and sixteen int32 to sum and requantise. */
typedef vint16m2_t tt_c_rvv;
typedef vint32m4_t tt_i_rvv;

static inline tt_c_rvv tt_c_load_rvv(const int8_t *from, int32_t pitch, uint32_t n)
{
    return __riscv_vsext_vf2_i16m2(__riscv_vlse8_v_i8m1(from, pitch, n), n);
}

static inline tt_i_rvv tt_i_all_rvv(int32_t value)
{
    return __riscv_vmv_v_x_i32m4(value, 16);
}

static inline tt_i_rvv tt_i_load_n_rvv(const int32_t *from, uint32_t n)
{
    return __riscv_vle32_v_i32m4(from, n);
}

static inline tt_i_rvv tt_i_load_rvv(const int32_t *from)
{
    return tt_i_load_n_rvv(from, 16);
}

static inline void tt_i_store_n_rvv(int32_t *to, tt_i_rvv i, uint32_t n)
{
    __riscv_vse32_v_i32m4(to, i, n);
}

static inline void tt_i_store_rvv(int32_t *to, tt_i_rvv i)
{
    tt_i_store_n_rvv(to, i, 16);
}

/* acc + column·s, without regard to overflow */
static inline tt_i_rvv tt_i_madd_rvv(tt_i_rvv acc, tt_c_rvv column, int32_t s, uint32_t n)
{
    return __riscv_vwmacc_vx_i32m4(acc, (int16_t)s, column, n);
}

static inline tt_i_rvv tt_i_add_rvv(tt_i_rvv a, tt_i_rvv b)
{
    return __riscv_vadd_vv_i32m4(a, b, 16);
}

/* Of whole numbers. */
static inline tt_i_rvv tt_i_of_rvv(tt_v_rvv v)
{
    return __riscv_vfcvt_x_f_v_i32m4(v, 16);
}

/* As tt_requantise, for m in [2^30, 2^31) or 0 and s from 3 on. With s = 33 the upper word of the product has the half below its last bit;
 * for a smaller s the sum is shifted to the left first, and limited so that it stays: what is cut off lies beyond all bounds. */
static inline tt_i_rvv tt_i_requantise_rvv(tt_i_rvv acc, tt_i_rvv m, tt_i_rvv s, int32_t zero_point, int32_t low, int32_t high)
{
    const vuint32m4_t left = __riscv_vreinterpret_v_i32m4_u32m4(__riscv_vmax_vx_i32m4(__riscv_vrsub_vx_i32m4(s, 33, 16), 0, 16));
    const vuint32m4_t right = __riscv_vreinterpret_v_i32m4_u32m4(__riscv_vmax_vx_i32m4(__riscv_vsub_vx_i32m4(s, 32, 16), 1, 16));
    const tt_i_rvv limit = __riscv_vsra_vv_i32m4(__riscv_vmv_v_x_i32m4(INT32_MAX, 16), left, 16);
    acc = __riscv_vmax_vv_i32m4(__riscv_vmin_vv_i32m4(acc, limit, 16), __riscv_vnot_v_i32m4(limit, 16), 16);
    const tt_i_rvv product = __riscv_vmulh_vv_i32m4(__riscv_vsll_vv_i32m4(acc, left, 16), m, 16);
    const tt_i_rvv q = __riscv_vadd_vx_i32m4(__riscv_vssra_vv_i32m4(product, right, __RISCV_VXRM_RNU, 16), zero_point, 16);
    return __riscv_vmin_vx_i32m4(__riscv_vmax_vx_i32m4(q, low, 16), high, 16);
}

static inline void tt_i_store_n_s8_rvv(int8_t *to, tt_i_rvv i, uint32_t n)
{
    __riscv_vse8_v_i8m1(to, __riscv_vncvt_x_x_w_i8m1(__riscv_vncvt_x_x_w_i16m2(i, n), n), n);
}

static inline void tt_i_store_s8_rvv(int8_t *to, tt_i_rvv i)
{
    tt_i_store_n_s8_rvv(to, i, 16);
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

static inline tt_v_rvv tt_splat_rvv(float s)
{
    tt_v_rvv v;
    for (int i = 0; i < 16; ++i) {
        v.at[i] = s;
    }
    return v;
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
    return tt_madd_lanes_rvv(acc, v, tt_splat_rvv(s));
}

/* A sum and a product are a fused one with 1 and with −0. */
static inline tt_v_rvv tt_add_rvv(tt_v_rvv a, tt_v_rvv b)
{
    return tt_madd_rvv(a, b, 1.0f);
}

static inline tt_v_rvv tt_sub_rvv(tt_v_rvv a, tt_v_rvv b)
{
    return tt_madd_rvv(a, b, -1.0f);
}

static inline tt_v_rvv tt_mul_rvv(tt_v_rvv a, tt_v_rvv b)
{
    return tt_madd_lanes_rvv(tt_splat_rvv(-0.0f), a, b);
}

static inline tt_v_rvv tt_where_rvv(tt_v_rvv x, tt_v_rvv y, tt_v_rvv a, tt_v_rvv b)
{
    for (int i = 0; i < 16; ++i) {
        a.at[i] = x.at[i] > y.at[i] ? a.at[i] : b.at[i];
    }
    return a;
}

typedef struct {
    int16_t at[16];
} tt_c_rvv;

typedef struct {
    int32_t at[16];
} tt_i_rvv;

static inline tt_c_rvv tt_c_load_rvv(const int8_t *from, int32_t pitch, uint32_t n)
{
    tt_c_rvv c = { { 0 } };
    for (uint32_t i = 0; i < n; ++i, from += pitch) {
        c.at[i] = *from;
    }
    return c;
}

static inline tt_i_rvv tt_i_all_rvv(int32_t value)
{
    tt_i_rvv all;
    for (int i = 0; i < 16; ++i) {
        all.at[i] = value;
    }
    return all;
}

static inline tt_i_rvv tt_i_load_n_rvv(const int32_t *from, uint32_t n)
{
    tt_i_rvv i = { { 0 } };
    __builtin_memcpy(i.at, from, 4 * n);
    return i;
}

static inline tt_i_rvv tt_i_load_rvv(const int32_t *from)
{
    return tt_i_load_n_rvv(from, 16);
}

static inline void tt_i_store_n_rvv(int32_t *to, tt_i_rvv i, uint32_t n)
{
    __builtin_memcpy(to, i.at, 4 * n);
}

static inline void tt_i_store_rvv(int32_t *to, tt_i_rvv i)
{
    tt_i_store_n_rvv(to, i, 16);
}

static inline tt_i_rvv tt_i_madd_rvv(tt_i_rvv acc, tt_c_rvv column, int32_t s, uint32_t n)
{
    for (uint32_t i = 0; i < n; ++i) {
        acc.at[i] = (int32_t)((uint32_t)acc.at[i] + (uint32_t)(column.at[i] * s));
    }
    return acc;
}

static inline tt_i_rvv tt_i_add_rvv(tt_i_rvv a, tt_i_rvv b)
{
    for (int i = 0; i < 16; ++i) {
        a.at[i] = (int32_t)((uint32_t)a.at[i] + (uint32_t)b.at[i]);
    }
    return a;
}

static inline tt_i_rvv tt_i_of_rvv(tt_v_rvv v)
{
    tt_i_rvv of;
    for (int i = 0; i < 16; ++i) {
        of.at[i] = (int32_t)v.at[i];
    }
    return of;
}

static inline tt_i_rvv tt_i_requantise_rvv(tt_i_rvv acc, tt_i_rvv m, tt_i_rvv s, int32_t zero_point, int32_t low, int32_t high)
{
    for (int i = 0; i < 16; ++i) {
        acc.at[i] = m.at[i] == 0 ? tt_clamp(zero_point, low, high) : tt_requantise(acc.at[i], m.at[i], s.at[i], zero_point, low, high);
    }
    return acc;
}

static inline void tt_i_store_n_s8_rvv(int8_t *to, tt_i_rvv i, uint32_t n)
{
    for (uint32_t v = 0; v < n; ++v) {
        to[v] = (int8_t)i.at[v];
    }
}

static inline void tt_i_store_s8_rvv(int8_t *to, tt_i_rvv i)
{
    tt_i_store_n_s8_rvv(to, i, 16);
}
#endif

#include "tt_simd_rvv_bytes.h"
#include "tt_simd_rvv_halves.h"
#include "tt_simd_rvv_integer.h"
#include "tt_simd_rvv_master.h"

#define TT_WIDENED_RVV(from) tt_load_s8_rvv(from, 0)
#define tt_sums_rvv tt_load_rvv
TT_VECTOR_TILES(rvv, 16, TT_WIDENED_RVV)

#endif
