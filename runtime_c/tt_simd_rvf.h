/* SPDX-License-Identifier: Apache-2.0 */
/* RISC-V with 32 single-precision registers: up to six times four sums stay in f0..f23 for a whole tile. In C, compilers keep fewer.
 * Elsewhere, and of fp16, the portable tiles stand for these. */
#ifndef TT_SIMD_RVF_H
#define TT_SIMD_RVF_H

#include "tt_simd_one.h"
#include "tt_simd_scalar.h"

/* Tiles of int8 sums are named `bytes`: sums[p][row] = Σ a[p] · b[row], of P patches of x that are widened to floats, `pitch` apart, and four
 * rows of a weight, `length` apart. Floats hold them exactly, as long as they have no more than 2^24 / (255 · 128) steps, and a product and
 * its sum are one instruction there, where integers take two. */
TT_SHARED void tt_widen_rvf(float *to, const int8_t *from, int32_t count, int32_t zero)
{
    for (; count >= 4; count -= 4, from += 4, to += 4) {
        const float a = (float)(from[0] - zero), b = (float)(from[1] - zero), c = (float)(from[2] - zero), d = (float)(from[3] - zero);
        to[0] = a;
        to[1] = b;
        to[2] = c;
        to[3] = d;
    }
    for (int32_t i = 0; i < count; ++i) {
        to[i] = (float)(from[i] - zero);
    }
}

#define tt_v_rvf tt_v_scalar
#define tt_zero_rvf tt_zero_scalar
#define tt_load_rvf tt_load_scalar
#define tt_sums_rvf tt_load_scalar
#define tt_load_half_rvf tt_load_half_scalar
#define tt_store_rvf tt_store_scalar
#define tt_madd_rvf tt_madd_scalar
#define tt_madd_lanes_rvf tt_madd_lanes_scalar
#define tt_splat_rvf tt_splat_scalar
#define tt_add_rvf tt_add_scalar
#define tt_sub_rvf tt_sub_scalar
#define tt_mul_rvf tt_mul_scalar

#if defined(__riscv_flen) && defined(__OPTIMIZE__) && TT_FUSED

#include "tt_simd_rvf_tiles.h"

static inline float tt_settled_rvf(float sum)
{
    __asm volatile("" : "+f"(sum));
    return sum;
}

/* a where x > y, else b: in the register of what is no constant */
static inline float tt_where_one_rvf(float x, float y, float a, float b)
{
    int32_t above;
    if (__builtin_constant_p(a > 0.0f)) {
        __asm("flt.s %[above], %[y], %[x]\n\t"
              "beqz %[above], 1f\n\t"
              "fmv.s %[b], %[a]\n"
              "1:" : [b] "+f"(b), [above] "=&r"(above) : [x] "f"(x), [y] "f"(y), [a] "f"(a));
        return b;
    }
    __asm("flt.s %[above], %[y], %[x]\n\t"
          "bnez %[above], 1f\n\t"
          "fmv.s %[a], %[b]\n"
          "1:" : [a] "+f"(a), [above] "=&r"(above) : [x] "f"(x), [y] "f"(y), [b] "f"(b));
    return a;
}

static inline tt_v_rvf tt_where_rvf(tt_v_rvf x, tt_v_rvf y, tt_v_rvf a, tt_v_rvf b)
{
    const tt_v_rvf v = {
        tt_where_one_rvf(x.f0, y.f0, a.f0, b.f0), tt_where_one_rvf(x.f1, y.f1, a.f1, b.f1),
        tt_where_one_rvf(x.f2, y.f2, a.f2, b.f2), tt_where_one_rvf(x.f3, y.f3, a.f3, b.f3),
    };
    return v;
}

#define TT_ALL_RVF(none, P) \
    TT_BROADCAST_RVF(P) \
    TT_DIRECT_RVF(P) \
    TT_OUTER_RVF(P) \
    TT_WIDE_RVF(P) \
    TT_DEPTH_RVF(P) \
    TT_BYTES_RVF(P) \
    TT_ACROSS(tt_depth_outer, rvf, 4, P, float, float, TT_MADD_PAIR, rvf, 4, tt_load_scalar, tt_load_scalar)
TT_SIZES6(TT_ALL_RVF, )
#else
#define tt_settled_rvf tt_settled_scalar
#define tt_where_rvf tt_where_scalar
TT_SIZES6(TT_FLOAT_TILES, rvf, 4)
TT_SIZES6(TT_PACKED_TILE, rvf)
TT_SIZES6(TT_OUTER_BY, rvf)

#define TT_BYTES_C(none, P) \
    TT_SHARED void tt_bytes_rvf_##P(int32_t *sums, const float *a, int32_t pitch, const int8_t *b, int32_t length, int32_t steps) \
    { \
        for (int32_t i = 0; i < 4 * P; ++i) { \
            float sum = 0.0f; \
            for (int32_t step = 0; step < steps; ++step) { \
                sum += a[i / 4 * pitch + step] * b[i % 4 * length + step]; \
            } \
            sums[i] = (int32_t)sum; \
        } \
    }
TT_SIZES6(TT_BYTES_C, )
#endif

TT_SIZES6(TT_HALF_TILES, rvf, 4)
TT_SIZES6(TT_HALVES_TILES, rvf, 4)
TT_STORE_HALF(rvf, 4)

#endif
