/* SPDX-License-Identifier: Apache-2.0 */
/* Portable vocabulary: a vector is four floats, in registers of their own or, where the compiler of a host twin or of a browser has
 * them, in one. */
#ifndef TT_SIMD_SCALAR_H
#define TT_SIMD_SCALAR_H

#include "tt_tile.h"

#if defined(__SSE2__) || defined(__ARM_NEON) || defined(__wasm_simd128__)
typedef float tt_v_scalar __attribute__((vector_size(16), aligned(4)));

static inline tt_v_scalar tt_zero_scalar(void)
{
    return (tt_v_scalar){ 0.0f, 0.0f, 0.0f, 0.0f };
}

static inline tt_v_scalar tt_load_scalar(const float *from)
{
    return *(const tt_v_scalar *)(const void *)from;
}

static inline void tt_store_scalar(float *to, tt_v_scalar v)
{
    *(tt_v_scalar *)(void *)to = v;
}

static inline tt_v_scalar tt_madd_scalar(tt_v_scalar acc, tt_v_scalar v, float s)
{
#if defined(TT_FUSED) && TT_FUSED
    return (tt_v_scalar){ TT_MADD(acc[0], v[0], s), TT_MADD(acc[1], v[1], s), TT_MADD(acc[2], v[2], s), TT_MADD(acc[3], v[3], s) };
#else
    return acc + v * s;
#endif
}

static inline tt_v_scalar tt_madd_lanes_scalar(tt_v_scalar acc, tt_v_scalar a, tt_v_scalar b)
{
#if defined(TT_FUSED) && TT_FUSED
    return (tt_v_scalar){ TT_MADD(acc[0], a[0], b[0]), TT_MADD(acc[1], a[1], b[1]), TT_MADD(acc[2], a[2], b[2]), TT_MADD(acc[3], a[3], b[3]) };
#else
    return acc + a * b;
#endif
}

static inline tt_v_scalar tt_splat_scalar(float s)
{
    return (tt_v_scalar){ s, s, s, s };
}

static inline tt_v_scalar tt_where_scalar(tt_v_scalar x, tt_v_scalar y, tt_v_scalar a, tt_v_scalar b)
{
    typedef int32_t tt_mask __attribute__((vector_size(16)));
    const tt_mask above = (tt_mask)(x > y);
    return (tt_v_scalar)(((tt_mask)a & above) | ((tt_mask)b & ~above));
}

#define TT_EACH(a, op, b) a op b
#else
typedef struct {
    float f0, f1, f2, f3;
} tt_v_scalar;

static inline tt_v_scalar tt_zero_scalar(void)
{
    const tt_v_scalar v = { 0.0f, 0.0f, 0.0f, 0.0f };
    return v;
}

static inline tt_v_scalar tt_load_scalar(const float *from)
{
    const tt_v_scalar v = { from[0], from[1], from[2], from[3] };
    return v;
}

static inline void tt_store_scalar(float *to, tt_v_scalar v)
{
    to[0] = v.f0;
    to[1] = v.f1;
    to[2] = v.f2;
    to[3] = v.f3;
}

static inline tt_v_scalar tt_madd_scalar(tt_v_scalar acc, tt_v_scalar v, float s)
{
    const tt_v_scalar sum = { TT_MADD(acc.f0, v.f0, s), TT_MADD(acc.f1, v.f1, s), TT_MADD(acc.f2, v.f2, s), TT_MADD(acc.f3, v.f3, s) };
    return sum;
}

static inline tt_v_scalar tt_madd_lanes_scalar(tt_v_scalar acc, tt_v_scalar a, tt_v_scalar b)
{
    const tt_v_scalar sum = { TT_MADD(acc.f0, a.f0, b.f0), TT_MADD(acc.f1, a.f1, b.f1), TT_MADD(acc.f2, a.f2, b.f2), TT_MADD(acc.f3, a.f3, b.f3) };
    return sum;
}

static inline tt_v_scalar tt_splat_scalar(float s)
{
    const tt_v_scalar v = { s, s, s, s };
    return v;
}

/* a where x > y, else b */
static inline tt_v_scalar tt_where_scalar(tt_v_scalar x, tt_v_scalar y, tt_v_scalar a, tt_v_scalar b)
{
    const tt_v_scalar v = { x.f0 > y.f0 ? a.f0 : b.f0, x.f1 > y.f1 ? a.f1 : b.f1, x.f2 > y.f2 ? a.f2 : b.f2, x.f3 > y.f3 ? a.f3 : b.f3 };
    return v;
}

#define TT_EACH(a, op, b) { a.f0 op b.f0, a.f1 op b.f1, a.f2 op b.f2, a.f3 op b.f3 }
#endif

static inline tt_v_scalar tt_add_scalar(tt_v_scalar a, tt_v_scalar b)
{
    const tt_v_scalar v = TT_EACH(a, +, b);
    return v;
}

static inline tt_v_scalar tt_sub_scalar(tt_v_scalar a, tt_v_scalar b)
{
    const tt_v_scalar v = TT_EACH(a, -, b);
    return v;
}

static inline tt_v_scalar tt_mul_scalar(tt_v_scalar a, tt_v_scalar b)
{
    const tt_v_scalar v = TT_EACH(a, *, b);
    return v;
}

static inline tt_v_scalar tt_load_half_scalar(const tt_half *from)
{
#ifdef TT_FOUR_HALVES
    float f[4];
    tt_four_halves(f, from);
    return tt_load_scalar(f);
#else
    const tt_v_scalar v = { tt_half_to_float(from[0]), tt_half_to_float(from[1]), tt_half_to_float(from[2]), tt_half_to_float(from[3]) };
    return v;
#endif
}

/* A sum that is complete here, and not only where it is used. */
static inline float tt_settled_scalar(float sum)
{
    return sum;
}

#define tt_sums_scalar tt_load_scalar
TT_SIZES4(TT_FLOAT_TILES, scalar, 4)
TT_SIZES4(TT_HALF_TILES, scalar, 4)
TT_SIZES4(TT_HALVES_TILES, scalar, 4)
TT_STORE_HALF(scalar, 4)

#endif
