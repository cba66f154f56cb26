/* SPDX-License-Identifier: Apache-2.0 */
/* Halves made floats before a kernel reads them again and again: runs of them, and strips as in tt_tile.h, which includes this. */
#ifndef TT_WIDEN_H
#define TT_WIDEN_H

#include "tt_half.h"
#include "tt_tile.h"
#include <stdint.h>

#if defined(__riscv_vector) && defined(__riscv_v_min_vlen) && __riscv_v_min_vlen >= 128
#include <riscv_vector.h>

/* Vectors of m registers from halves in h of them. Without conversions, the bits of a half are read as those of a float, which is 2^112 times
 * too small, and what is infinite or no number as such a float. */
#ifdef __riscv_zvfh
#define TT_WIDENED(m, h, b) \
    static inline vfloat32##m##_t tt_widened_##m(vuint16##h##_t halves, size_t n) \
    { \
        return __riscv_vfwcvt_f_f_v_f32##m(__riscv_vreinterpret_v_u16##h##_f16##h(halves), n); \
    }
#else
#define TT_WIDENED(m, h, b) \
    static inline vfloat32##m##_t tt_widened_##m(vuint16##h##_t halves, size_t n) \
    { \
        const vint32##m##_t wide = __riscv_vsext_vf2_i32##m(__riscv_vreinterpret_v_u16##h##_i16##h(halves), n); \
        const vuint32##m##_t moved = __riscv_vreinterpret_v_i32##m##_u32##m(__riscv_vsll_vx_i32##m(wide, 13, n)); \
        const vuint32##m##_t bits = __riscv_vand_vx_u32##m(moved, 0x8FFFE000, n); \
        const vbool##b##_t none = __riscv_vmsgtu_vx_u16##h##_b##b(__riscv_vand_vx_u16##h(halves, 0x7FFF, n), 0x7BFF, n); \
        const vuint32##m##_t all = __riscv_vor_vx_u32##m##_mu(none, bits, bits, 0x7F800000, n); \
        return __riscv_vfmul_vf_f32##m(__riscv_vreinterpret_v_u32##m##_f32##m(all), 0x1p112f, n); \
    }
#endif
TT_WIDENED(m4, m2, 8)
TT_WIDENED(m8, m4, 4)

TT_SHARED void tt_widen(float *to, const tt_half *from, int32_t count)
{
    while (count > 0) {
        const size_t n = __riscv_vsetvl_e16m4((size_t)count);
        __riscv_vse32_v_f32m8(to, tt_widened_m8(__riscv_vle16_v_u16m4(from, n), n), n);
        to += n;
        from += n;
        count -= (int32_t)n;
    }
}

TT_SHARED void tt_strip_runs_f16(float *to, int32_t lanes, const tt_half *from, int32_t pitch, int32_t live, int32_t count)
{
    for (int32_t v = 0; v < live; ++v, from += pitch) {
        for (int32_t i = 0; i < count;) {
            const size_t n = __riscv_vsetvl_e16m4((size_t)(count - i));
            __riscv_vsse32_v_f32m8(to + i * lanes + v, 4 * lanes, tt_widened_m8(__riscv_vle16_v_u16m4(from + i, n), n), n);
            i += (int32_t)n;
        }
    }
}

#else

#if defined(__ARM_FP) && defined(__thumb__) && defined(__OPTIMIZE__)
/* Eight at once. A load of several registers wants an address that four divides. */
TT_SHARED void tt_widen(float *to, const tt_half *from, int32_t count)
{
    if (((uintptr_t)from & 2u) && count > 0) {
        *to++ = tt_half_to_float(*from++);
        --count;
    }
    for (; count >= 8; count -= 8) {
        __asm volatile("vldmia %[from]!, {s8-s11}\n\t"
                       "vcvtb.f32.f16 s0, s8\n\tvcvtt.f32.f16 s1, s8\n\tvcvtb.f32.f16 s2, s9\n\tvcvtt.f32.f16 s3, s9\n\t"
                       "vcvtb.f32.f16 s4, s10\n\tvcvtt.f32.f16 s5, s10\n\tvcvtb.f32.f16 s6, s11\n\tvcvtt.f32.f16 s7, s11\n\t"
                       "vstmia %[to]!, {s0-s7}"
                       : [from] "+r"(from), [to] "+r"(to) : : "memory", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11");
    }
    for (; count > 0; --count) {
        *to++ = tt_half_to_float(*from++);
    }
}
#else
static inline void tt_widen(float *to, const tt_half *from, int32_t count)
{
    for (; count >= 4; count -= 4, from += 4, to += 4) {
#ifdef TT_FOUR_HALVES
        tt_four_halves(to, from);
#else
        const float a = tt_half_to_float(from[0]), b = tt_half_to_float(from[1]), c = tt_half_to_float(from[2]), d = tt_half_to_float(from[3]);
        to[0] = a;
        to[1] = b;
        to[2] = c;
        to[3] = d;
#endif
    }
    for (; count > 0; --count) {
        *to++ = tt_half_to_float(*from++);
    }
}
#endif

#if defined(__ARM_FP) && defined(__thumb__) && defined(__OPTIMIZE__)
#define TT_TWO_AT_ONCE
static inline void tt_two_halves(float *to, int32_t apart, const tt_half *from)
{
    uint32_t word;
    float low, high;
    __builtin_memcpy(&word, __builtin_assume_aligned(from, 4), sizeof word);
    __asm("vmov %0, %2\n\tvcvtt.f32.f16 %1, %0\n\tvcvtb.f32.f16 %0, %0" : "=&t"(low), "=t"(high) : "r"(word));
    to[0] = low;
    to[apart] = high;
}
#elif defined(TT_FOUR_HALVES)
#define TT_TWO_AT_ONCE
static inline void tt_two_halves(float *to, int32_t apart, const tt_half *from)
{
    uint32_t word;
    __builtin_memcpy(&word, __builtin_assume_aligned(from, 4), sizeof word);
    const int special = (((word & 0x7C007C00u) + 0x04000400u) & 0x80008000u) != 0;
    to[0] = special ? tt_half_to_float(from[0]) : tt_of_upper_half(word << 16);
    to[apart] = special ? tt_half_to_float(from[1]) : tt_of_upper_half(word);
}
#endif

#ifdef TT_TWO_AT_ONCE
TT_STRIP_RUNS(each_f16, tt_half, tt_half_to_float)

/* Of four lanes two steps at once, where both lie in a word. */
TT_SHARED void tt_strip_runs_f16(float *to, int32_t lanes, const tt_half *from, int32_t pitch, int32_t live, int32_t count)
{
    if (live == 4 && (((uintptr_t)from | (uint32_t)pitch * 2u) & 3u) == 0u) {
        for (; count >= 2; count -= 2, from += 2, to += 2 * lanes) {
            tt_two_halves(to, lanes, from);
            tt_two_halves(to + 1, lanes, from + pitch);
            tt_two_halves(to + 2, lanes, from + 2 * pitch);
            tt_two_halves(to + 3, lanes, from + 3 * pitch);
        }
    }
    tt_strip_runs_each_f16(to, lanes, from, pitch, live, count);
}
#else
TT_STRIP_RUNS(f16, tt_half, tt_half_to_float)
#endif

#endif

TT_SHARED void tt_strip_rows_f16(float *to, int32_t lanes, const tt_half *from, int32_t pitch, int32_t live, int32_t count, int32_t zero)
{
    for (; count > 0; --count, to += lanes, from += pitch) {
        tt_widen(to, from, live);
    }
    (void)zero;
}

#endif
