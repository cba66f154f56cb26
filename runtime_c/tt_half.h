/* SPDX-License-Identifier: Apache-2.0 */
/* IEEE 754 half precision as a way of storing floats: the same bits on every target, those of the float16 of NumPy. A half has 1 sign,
 * 5 exponent and 10 fraction bits. */
#ifndef TT_HALF_H
#define TT_HALF_H

#include "tt_math.h"
#include "tt_types.h"

/* Four words side by side: vectors where there are some. */
typedef uint32_t tt_words __attribute__((vector_size(16), aligned(4)));

/* The bits of neighbours, of which the first lies at a multiple of four bytes. */
static inline tt_words tt_words_at(const void *from)
{
    tt_words words;
    __builtin_memcpy(&words, __builtin_assume_aligned(from, 4), sizeof words);
    return words;
}

#if defined(__ARM_FP) && __ARM_ARCH_PROFILE == 'M' /* all floating-point units of Cortex-M convert halves */

static inline float tt_half_to_float(tt_half half)
{
    float number;
    __asm("vmov %0, %1\n\tvcvtb.f32.f16 %0, %0" : "=t"(number) : "r"((uint32_t)half));
    return number;
}

static inline tt_half tt_float_to_half(float number)
{
    uint32_t half;
    __asm("vcvtb.f16.f32 %1, %1\n\tvmov %0, %1" : "=r"(half), "+t"(number));
    return (tt_half)half;
}

#define TT_NEAREST_HALF
static inline float tt_nearest_half(float number)
{
    __asm("vcvtb.f16.f32 %0, %0\n\tvcvtb.f32.f16 %0, %0" : "+t"(number));
    return number;
}

#elif defined(__riscv_zfh) /* what is not a number becomes the one that all arithmetic of RISC-V gives */

static inline float tt_half_to_float(tt_half half)
{
    _Float16 number;
    __builtin_memcpy(&number, &half, sizeof number);
    return (float)number;
}

static inline tt_half tt_float_to_half(float number)
{
    const _Float16 rounded = (_Float16)number;
    tt_half half;
    __builtin_memcpy(&half, &rounded, sizeof half);
    return half;
}

#else

#define TT_REBIAS (UINT32_C(112) << 23) /* from the exponents of a half, whose bias is 15, to those of a float */

/* Exact. */
static inline float tt_half_to_float(tt_half half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t bits = (uint32_t)(half & 0x7FFFu) << 13;
    if (bits >= 0x0F800000u) {
        bits += 2u * TT_REBIAS; /* infinite, or not a number: then quiet */
        bits |= bits > 0x7F800000u ? 0x00400000u : 0u;
        return tt_from_bits(sign | bits);
    }
#ifdef __riscv_flen /* as a float it is 2^112 times too small, subnormal or not, and its unit keeps subnormal numbers */
    return tt_from_bits(sign | bits) * 0x1p112f;
#else
    if (bits >= 0x00800000u) {
        bits += TT_REBIAS;
    } else if (bits != 0u) {
        uint32_t exponent = TT_REBIAS; /* subnormal: as a float it has a leading one */
        for (; bits < 0x00800000u; bits <<= 1) {
            exponent -= 0x00800000u;
        }
        bits += exponent;
    }
    return tt_from_bits(sign | bits);
#endif
}

#ifdef __riscv_flen
/* Four neighbours, two of a word at once: an exponent of ones carries into the bit of the sign. */
#define TT_FOUR_HALVES
static inline float tt_of_upper_half(uint32_t word)
{
    return tt_from_bits((uint32_t)((int32_t)word >> 3) & 0x8FFFE000u) * 0x1p112f;
}

__attribute__((unused, noinline)) static void tt_four_special_halves(float *to, const tt_half *from)
{
    for (int i = 0; i < 4; ++i) {
        to[i] = tt_half_to_float(from[i]);
    }
}

static inline __attribute__((always_inline)) void tt_four_halves(float *to, const tt_half *from)
{
    uint32_t a, b;
    if ((uintptr_t)from & 3u) {
        a = from[0] | (uint32_t)from[1] << 16;
        b = from[2] | (uint32_t)from[3] << 16;
    } else {
        uint32_t words[2];
        __builtin_memcpy(words, __builtin_assume_aligned(from, 4), sizeof words);
        a = words[0];
        b = words[1];
    }
    to[0] = tt_of_upper_half(a << 16);
    to[1] = tt_of_upper_half(a);
    to[2] = tt_of_upper_half(b << 16);
    to[3] = tt_of_upper_half(b);
    if ((((a & 0x7C007C00u) + 0x04000400u) | ((b & 0x7C007C00u) + 0x04000400u)) & 0x80008000u) {
        tt_four_special_halves(to, from);
    }
}
#endif

/* The nearest half, a tie goes to the even one: from ±65520 on that is infinite. What is not a number stays so. */
static inline tt_half tt_float_to_half(float number)
{
    const uint32_t sign = tt_to_bits(number) >> 16 & 0x8000u, size = tt_to_bits(number) & 0x7FFFFFFFu;
    uint32_t half = 0;
    if (size - 0x38800000u < 0x0F000000u) {
        half = (size - TT_REBIAS + 0x0FFFu + (size >> 13 & 1u)) >> 13;
    } else if (size >= 0x47800000u) {
        half = size > 0x7F800000u ? 0x7E00u | (size >> 13 & 0x01FFu) : 0x7C00u;
    } else if (size >= 0x33000000u) {
        const uint32_t shift = 126u - (size >> 23); /* subnormal: whole units of 2^-24 */
        const uint32_t whole = (size & 0x007FFFFFu) | 0x00800000u, rest = whole << (32u - shift);
        half = whole >> shift;
        half += rest > 0x80000000u || (rest == 0x80000000u && (half & 1u));
    }
    return (tt_half)(sign | half);
}

#endif

#ifndef TT_NEAREST_HALF
static inline float tt_nearest_half(float number)
{
    return tt_half_to_float(tt_float_to_half(number));
}
#endif

#endif
