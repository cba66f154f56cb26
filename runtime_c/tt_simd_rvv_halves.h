/* SPDX-License-Identifier: Apache-2.0 */
/* What RISC-V vectors do with halves: words and tiles of tt_simd_rvv.h, which includes this. Zvfh multiplies two halves into a float,
 * rounded once: the bits of widening both first, as it is done without. A half that is no number becomes the one NaN. */
#ifndef TT_SIMD_RVV_HALVES_H
#define TT_SIMD_RVV_HALVES_H

#include "tt_half.h"
#include "tt_tile.h"
#include <stdint.h>

/* The largest of the bits of `count` halves without their signs. */
#if defined(__riscv_vector) && defined(__riscv_v_min_vlen) && __riscv_v_min_vlen >= 128
TT_SHARED uint32_t tt_largest_half_rvv(const tt_half *from, uint32_t count)
{
    vuint16m8_t most = __riscv_vmv_v_x_u16m8(0, 64);
    while (count > 0) {
        const uint32_t n = count < 64u ? count : 64u;
        most = __riscv_vmaxu_vv_u16m8_tu(most, most, __riscv_vand_vx_u16m8(__riscv_vle16_v_u16m8(from, n), 0x7FFF, n), n);
        from += n;
        count -= n;
    }
    return __riscv_vmv_x_s_u16m1_u16(__riscv_vredmaxu_vs_u16m8_u16m1(most, __riscv_vmv_v_x_u16m1(0, 1), 64));
}
#else
TT_SHARED uint32_t tt_largest_half_rvv(const tt_half *from, uint32_t count)
{
    uint32_t most = 0;
    for (; count > 0; --count, ++from) {
        const uint32_t size = *from & 0x7FFFu;
        most = size > most ? size : most;
    }
    return most;
}
#endif

/* Sixteen halves as floats, and such rounded to the nearest ones. Without conversions, what has no place among normal halves is rounded by
 * adding 0.5: the last bit of that is as much as the least half. */
#ifdef __riscv_zvfh
static inline tt_v_rvv tt_load_half_rvv(const tt_half *from)
{
    return __riscv_vfwcvt_f_f_v_f32m4(__riscv_vreinterpret_v_u16m2_f16m2(__riscv_vle16_v_u16m2(from, 16)), 16);
}

static inline vuint16m2_t tt_halves_of_rvv(tt_v_rvv v)
{
    return __riscv_vreinterpret_v_f16m2_u16m2(__riscv_vfncvt_f_f_w_f16m2(v, 16));
}
#elif defined(__riscv_vector) && defined(__riscv_v_min_vlen) && __riscv_v_min_vlen >= 128
static inline tt_v_rvv tt_load_half_rvv(const tt_half *from)
{
    return tt_widened_m4(__riscv_vle16_v_u16m2(from, 16), 16);
}

static inline vuint16m2_t tt_halves_of_rvv(tt_v_rvv v)
{
    const vuint32m4_t bits = __riscv_vreinterpret_v_f32m4_u32m4(v);
    const vuint32m4_t sign = __riscv_vand_vx_u32m4(__riscv_vsrl_vx_u32m4(bits, 16, 16), 0x8000, 16);
    const vuint32m4_t size = __riscv_vminu_vx_u32m4(__riscv_vand_vx_u32m4(bits, 0x7FFFFFFF, 16), 0x47800000, 16);
    const vuint32m4_t odd = __riscv_vand_vx_u32m4(__riscv_vsrl_vx_u32m4(size, 13, 16), 1, 16);
    const vuint32m4_t moved = __riscv_vadd_vv_u32m4(__riscv_vsub_vx_u32m4(size, (UINT32_C(112) << 23) - 0x0FFF, 16), odd, 16);
    const tt_v_rvv least = __riscv_vfadd_vf_f32m4(__riscv_vreinterpret_v_u32m4_f32m4(size), 0.5f, 16);
    const vuint32m4_t units = __riscv_vsub_vx_u32m4(__riscv_vreinterpret_v_f32m4_u32m4(least), 0x3F000000, 16);
    vuint32m4_t half = __riscv_vsrl_vx_u32m4(moved, 13, 16);
    half = __riscv_vmerge_vvm_u32m4(half, units, __riscv_vmsltu_vx_u32m4_b8(size, 0x38800000, 16), 16);
    half = __riscv_vor_vv_u32m4(half, sign, 16);
    half = __riscv_vmerge_vxm_u32m4(half, 0x7E00, __riscv_vmfne_vv_f32m4_b8(v, v, 16), 16);
    return __riscv_vncvt_x_x_w_u16m2(half, 16);
}
#else
static inline tt_v_rvv tt_load_half_rvv(const tt_half *from)
{
    float values[16];
    for (int i = 0; i < 16; ++i) {
        const float value = tt_half_to_float(from[i]);
        values[i] = value == value ? value : tt_from_bits(UINT32_C(0x7FC00000));
    }
    return tt_load_rvv(values);
}

static inline void tt_store_half_rvv(tt_half *to, tt_v_rvv v)
{
    float values[16];
    tt_store_rvv(values, v);
    for (int i = 0; i < 16; ++i) {
        to[i] = values[i] == values[i] ? tt_float_to_half(values[i]) : (tt_half)0x7E00u;
    }
}
#endif

#if defined(__riscv_vector) && defined(__riscv_v_min_vlen) && __riscv_v_min_vlen >= 128
static inline void tt_store_half_rvv(tt_half *to, tt_v_rvv v)
{
    __riscv_vse16_v_u16m2(to, tt_halves_of_rvv(v), 16);
}

/* Sixteen that are `pitch` apart. */
static inline tt_v_rvv tt_load_apart_rvv(const tt_half *from, int32_t pitch)
{
    return tt_widened_m4(__riscv_vlse16_v_u16m2(from, 2 * pitch, 16), 16);
}
#else
static inline tt_v_rvv tt_load_apart_rvv(const tt_half *from, int32_t pitch)
{
    tt_half together[16];
    for (int i = 0; i < 16; ++i, from += pitch) {
        together[i] = *from;
    }
    return tt_load_half_rvv(together);
}
#endif

/* Of floats, and of weights that are halves as they stand: see tt_tile.h. */
#define TT_LOAD_APART(b) tt_load_apart_rvv(b, w->a_step)
#define TT_WEIGHTS_RVV(none, P) \
    TT_WEIGHTS_TILE(rvv, 16, P) \
    TT_DIRECT(rvv, 16, P, _apart_weights, float, TT_PLAIN, tt_half, TT_LOAD_APART)
TT_SIZES6(TT_WEIGHTS_RVV, )

#ifdef __riscv_zvfh

/* Strips that stay halves, of up to 32 lanes: see tt_tile.h. */
TT_SHARED void tt_strip_runs_halves_rvv(tt_half *to, int32_t lanes, const tt_half *from, int32_t pitch, int32_t live, int32_t count)
{
    for (; count > 0; --count, ++from, to += lanes) {
        const vuint16m4_t v = __riscv_vlse16_v_u16m4(from, 2 * pitch, (size_t)live);
        __riscv_vse16_v_u16m4(to, v, (size_t)live);
    }
}

TT_SHARED void tt_strip_rows_halves_rvv(tt_half *to, int32_t lanes, const tt_half *from, int32_t pitch, int32_t live, int32_t count,
                                        int32_t zero)
{
    (void)zero;
    for (; count > 0; --count, from += pitch, to += lanes) {
        __riscv_vse16_v_u16m4(to, __riscv_vle16_v_u16m4(from, (size_t)live), (size_t)live);
    }
}

static inline vfloat16m2_t tt_halves_m2_rvv(const tt_half *from)
{
    return __riscv_vreinterpret_v_u16m2_f16m2(__riscv_vle16_v_u16m2(from, 16));
}

static inline vfloat16m4_t tt_halves_m4_rvv(const tt_half *from)
{
    return __riscv_vreinterpret_v_u16m4_f16m4(__riscv_vle16_v_u16m4(from, 32));
}

/* A lane from each of neighbours that are `pitch` apart. */
static inline vfloat16m2_t tt_halves_apart_m2_rvv(const tt_half *from, int32_t pitch)
{
    return __riscv_vreinterpret_v_u16m2_f16m2(__riscv_vlse16_v_u16m2(from, 2 * pitch, 16));
}

static inline vfloat16m4_t tt_halves_apart_m4_rvv(const tt_half *from, int32_t pitch)
{
    return __riscv_vreinterpret_v_u16m4_f16m4(__riscv_vlse16_v_u16m4(from, 2 * pitch, 32));
}

static inline _Float16 tt_scalar_half(const tt_half *from)
{
    _Float16 half;
    __builtin_memcpy(&half, from, sizeof half);
    return half;
}

/* acc[v] = Σ a[i] · row v of `live` rows of b, each of `count` */
TT_SHARED void tt_rows_halves_rvv(float *acc, const tt_half *a, const tt_half *b, int32_t count, int32_t live)
{
    vfloat32m4_t sums = tt_zero_rvv();
    for (int32_t i = 0; i < count; ++i) {
        const vuint16m2_t v = __riscv_vlse16_v_u16m2(b + i, 2 * count, (size_t)live);
        sums = __riscv_vfwmacc_vf_f32m4(sums, tt_scalar_half(a + i), __riscv_vreinterpret_v_u16m2_f16m2(v), (size_t)live);
    }
    tt_store_n_rvv(acc, sums, (uint32_t)live);
}

/* Tiles as in tt_tile.h, of N lanes: sums in m registers of 128 bits, halves in h of them. */
#define TT_ZERO_H(p, m, N) vfloat32##m##_t c##p = __riscv_vfmv_v_f_f32##m(0.0f, N);
#define TT_STORE_ROW_H(p, m, N) __riscv_vse32_v_f32##m(acc + (p) * (N), c##p, N);
#define TT_RUN_H(p, m, N, i) c##p = __riscv_vfwmacc_vf_f32##m(c##p, tt_scalar_half(a##p + (i)), v, N);
#define TT_ACROSS_H(p, m, N) c##p = __riscv_vfwmacc_vf_f32##m(c##p, tt_scalar_half(a + (p)), v, N);
#define TT_WIDE_H(p, m, h, N) c##p = __riscv_vfwmacc_vf_f32##m(c##p, s, tt_halves_##h##_rvv(b + (p) * (N)), N);
#define TT_LANES_H(p, none) c##p = __riscv_vfwmacc_vv_f32m4(c##p, tt_halves_m2_rvv(a##p), v, 16);
#define TT_PAIR_H(p, none) c##p = __riscv_vfwmacc_vv_f32m4(c##p, tt_halves_m2_rvv(a + (p) * 16), tt_halves_m2_rvv(b + (p) * 16), 16);

#define TT_BESIDE_H(h) tt_halves_##h##_rvv(b)
#define TT_APART_H(h) tt_halves_apart_##h##_rvv(b, w->a_step)
#define TT_ALONG_STEP_H(P, m, h, N, load, i) \
    { \
        const vfloat16##h##_t v = load(h); \
        b += w->b_step; \
        TT_P##P(TT_RUN_H, m, N, i) \
    }
#define TT_ALONG_FOUR_H(P, m, h, N, load, i) \
    TT_ALONG_STEP_H(P, m, h, N, load, i) TT_ALONG_STEP_H(P, m, h, N, load, i + 1) \
    TT_ALONG_STEP_H(P, m, h, N, load, i + 2) TT_ALONG_STEP_H(P, m, h, N, load, i + 3)
#define TT_OUTER_STEP_H(P, m, h, N) \
    { \
        const vfloat16##h##_t v = tt_halves_##h##_rvv(b); \
        TT_P##P(TT_ACROSS_H, m, N) \
    }
#define TT_WIDE_STEP_H(P, m, h, N) \
    { \
        const _Float16 s = tt_scalar_half(a); \
        TT_P##P(TT_WIDE_H, m, h, N) \
    }
#define TT_PAIR_STEP_H(P, m, h, N) TT_P##P(TT_PAIR_H, )

/* `direct`, and the same of a weight whose lanes are w->a_step apart. A turn of a loop takes eight steps, or four, for what it costs beside
 * them is then a fraction. */
#define TT_DIRECT_H(name, m, h, N, load, P) \
    TT_SHARED void name##_rvv_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w) \
    { \
        const int32_t steps = w->steps; \
        TT_P##P(TT_ZERO_H, m, N) \
        for (int32_t row = w->rows; row > 0; --row) { \
            for (int32_t col = w->cols;;) { \
                int32_t i = 0; \
                TT_P##P(TT_POINT_A, tt_half) \
                for (; i + 8 <= steps; i += 8) { \
                    TT_ALONG_FOUR_H(P, m, h, N, load, i) TT_ALONG_FOUR_H(P, m, h, N, load, i + 4) \
                } \
                for (; i < steps; ++i) \
                    TT_ALONG_STEP_H(P, m, h, N, load, i) \
                if (--col == 0) { \
                    break; \
                } \
                a += steps + w->a_col; \
                b += w->b_col; \
            } \
            a += steps + w->a_row; \
            b += w->b_row; \
        } \
        TT_P##P(TT_STORE_ROW_H, m, N) \
    }

#define TT_MOVES_H(step, P, m, h, N) \
    step(P, m, h, N) \
    a += w->a_step; \
    b += w->b_step;
#define TT_STEPS_H(name, step, m, h, N, P) \
    TT_SHARED void name##_rvv_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w) \
    { \
        TT_P##P(TT_ZERO_H, m, N) \
        for (int32_t row = w->rows; row > 0; --row, a += w->a_row, b += w->b_row) { \
            int32_t i = w->steps; \
            for (; i >= 4; i -= 4) { \
                TT_MOVES_H(step, P, m, h, N) TT_MOVES_H(step, P, m, h, N) TT_MOVES_H(step, P, m, h, N) TT_MOVES_H(step, P, m, h, N) \
            } \
            for (; i > 0; --i) { \
                TT_MOVES_H(step, P, m, h, N) \
            } \
        } \
        TT_P##P(TT_STORE_ROW_H, m, N) \
    }

#define TT_DEPTH_H(none, P) \
    TT_SHARED void tt_depth_halves_rvv_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w) \
    { \
        TT_P##P(TT_ZERO_H, m4, 16) \
        for (int32_t row = w->rows; row > 0; --row, a += w->a_row, b += w->b_row) { \
            TT_P##P(TT_POINT_A, tt_half) \
            for (int32_t i = w->steps; i > 0; --i, b += w->b_step) { \
                const vfloat16m2_t v = tt_halves_m2_rvv(b); \
                TT_P##P(TT_LANES_H, ) \
                TT_P##P(TT_STEP_A, ) \
            } \
            a += w->steps * w->a_step; \
        } \
        TT_P##P(TT_STORE_ROW_H, m4, 16) \
    }

TT_SIZES6(TT_DIRECT_H, tt_direct_halves, m4, m2, 16, TT_BESIDE_H)
TT_SIZES6(TT_DIRECT_H, tt_direct_apart_halves, m4, m2, 16, TT_APART_H)
TT_SIZES6(TT_STEPS_H, tt_outer_halves, TT_OUTER_STEP_H, m4, m2, 16)
TT_SIZES6(TT_STEPS_H, tt_wide_halves, TT_WIDE_STEP_H, m4, m2, 16)
TT_SIZES6(TT_STEPS_H, tt_depth_outer_halves, TT_PAIR_STEP_H, m4, m2, 16)
TT_SIZES6(TT_DEPTH_H, )

/* The same of 32 lanes: three sums in all registers but those for halves. */
TT_SIZES3(TT_DIRECT_H, tt_direct_double_halves, m8, m4, 32, TT_BESIDE_H)
TT_SIZES3(TT_DIRECT_H, tt_direct_apart_double_halves, m8, m4, 32, TT_APART_H)
TT_SIZES3(TT_STEPS_H, tt_outer_double_halves, TT_OUTER_STEP_H, m8, m4, 32)

#else

TT_SHARED void tt_strip_runs_halves_rvv(tt_half *to, int32_t lanes, const tt_half *from, int32_t pitch, int32_t live, int32_t count)
{
    for (int32_t i = 0; i < count; ++i) {
        for (int32_t v = 0; v < live; ++v) {
            to[i * lanes + v] = from[v * pitch + i];
        }
    }
}

TT_SHARED void tt_strip_rows_halves_rvv(tt_half *to, int32_t lanes, const tt_half *from, int32_t pitch, int32_t live, int32_t count,
                                        int32_t zero)
{
    (void)zero;
    for (int32_t i = 0; i < count; ++i) {
        __builtin_memcpy(to + i * lanes, from + i * pitch, (size_t)live * sizeof to[0]);
    }
}

TT_SHARED void tt_rows_halves_rvv(float *acc, const tt_half *a, const tt_half *b, int32_t count, int32_t live)
{
    for (int32_t v = 0; v < live; ++v, b += count) {
        float sum = 0.0f;
        for (int32_t i = 0; i < count; ++i) {
            sum = __builtin_fmaf(tt_half_to_float(a[i]), tt_half_to_float(b[i]), sum);
        }
        acc[v] = sum == sum ? sum : tt_from_bits(UINT32_C(0x7FC00000));
    }
}

#define TT_APART_RVV(none, P) TT_DIRECT(rvv, 16, P, _apart_halves, tt_half, tt_half_to_float, tt_half, TT_LOAD_APART)
TT_SIZES6(TT_OF_HALVES_TILES, rvv, 16)
TT_SIZES6(TT_APART_RVV, )

#define TT_DOUBLE_RVV(tile, pitch, P) \
    static inline void tt_##tile##_double_halves_rvv_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w) \
    { \
        float part[16 * P]; \
        for (int32_t lane = 0; lane < 32; lane += 16) { \
            tt_##tile##_halves_rvv_##P(part, a, b + lane * (pitch), w); \
            for (int32_t p = 0; p < P; ++p) { \
                __builtin_memcpy(acc + 32 * p + lane, part + 16 * p, 16 * sizeof part[0]); \
            } \
        } \
    }
TT_SIZES3(TT_DOUBLE_RVV, direct, 1)
TT_SIZES3(TT_DOUBLE_RVV, direct_apart, w->a_step)
TT_SIZES3(TT_DOUBLE_RVV, outer, 1)

#endif

/* As tt_passes_rvv. */
static inline void tt_passes_half_rvv(uint8_t *bits, const tt_half *from, float low, float high)
{
    float values[16];
    tt_store_rvv(values, tt_load_half_rvv(from));
    tt_passes_rvv(bits, values, low, high);
}

#endif
