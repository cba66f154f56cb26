/* SPDX-License-Identifier: Apache-2.0 */
/* Four int8 in a word, two int16 in a word: the instructions of Armv7E-M, and what they compute in C for every other target. */
#ifndef TT_DSP_H
#define TT_DSP_H

#include <stdint.h>
#if defined(__riscv_vector)
#include <riscv_vector.h>
#endif

/* Loops in assembly take all registers but one: without optimisation there are not enough, and the same loops stand in C. */
#if defined(__ARM_FEATURE_DSP) && defined(__OPTIMIZE__)
#define TT_DSP_LOOPS 1
#else
#define TT_DSP_LOOPS 0
#endif

/* Four bytes from any address, the first one lowest. */
static inline uint32_t tt_load4(const int8_t *from)
{
    uint32_t word;
    __builtin_memcpy(&word, from, 4);
    return word;
}

/* The last `rest` (1 to 3) bytes of a run of at least four, lowest first; the bytes above them are 0. */
static inline uint32_t tt_load_last(const int8_t *from, uint32_t rest)
{
    return tt_load4(from + rest - 4) >> (8u * (4u - rest));
}

/* The same of a run of only `rest` bytes. */
static inline uint32_t tt_load_few(const int8_t *from, uint32_t rest)
{
    uint32_t word = 0;
    for (uint32_t i = 0; i < rest; ++i) {
        word |= (uint32_t)(uint8_t)from[i] << (8u * i);
    }
    return word;
}

/* Runs are short: with vectors a call takes longer than the copy. */
static inline void tt_copy_run(int8_t *to, const int8_t *from, uint32_t bytes)
{
#if defined(__riscv_vector)
    for (uint32_t n; bytes > 0; bytes -= n, from += n, to += n) {
        n = (uint32_t)__riscv_vsetvl_e8m8(bytes);
        __riscv_vse8_v_i8m8(to, __riscv_vle8_v_i8m8(from, n), n);
    }
#else
    __builtin_memcpy(to, from, bytes);
#endif
}

static inline void tt_fill_run(int8_t *to, int32_t value, uint32_t bytes)
{
    __builtin_memset(to, value, bytes);
}

/* Two int16 in one word. */
static inline uint32_t tt_pair(int32_t low, int32_t high)
{
    return ((uint32_t)low & 0xFFFFu) | ((uint32_t)high << 16);
}

static inline int32_t tt_low(uint32_t pair)
{
    return (int16_t)(pair & 0xFFFFu);
}

static inline int32_t tt_high(uint32_t pair)
{
    return (int16_t)(pair >> 16);
}

/* Bytes 0 and 2 of a word as int16. */
static inline uint32_t tt_even(uint32_t bytes)
{
#if defined(__ARM_FEATURE_DSP)
    uint32_t pair;
    __asm("sxtb16 %0, %1" : "=r"(pair) : "r"(bytes));
    return pair;
#else
    return tt_pair((int8_t)(bytes & 0xFFu), (int8_t)((bytes >> 16) & 0xFFu));
#endif
}

/* Bytes 1 and 3. */
static inline uint32_t tt_odd(uint32_t bytes)
{
#if defined(__ARM_FEATURE_DSP)
    uint32_t pair;
    __asm("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(bytes));
    return pair;
#else
    return tt_even(bytes >> 8);
#endif
}

/* Bytes 0 and 2, and bytes 1 and 3, each plus the int16 of `offset`. */
static inline uint32_t tt_even_plus(uint32_t offset, uint32_t bytes)
{
#if defined(__ARM_FEATURE_DSP)
    uint32_t pair;
    __asm("sxtab16 %0, %1, %2" : "=r"(pair) : "r"(offset), "r"(bytes));
    return pair;
#else
    const uint32_t pair = tt_even(bytes);
    return tt_pair(tt_low(pair) + tt_low(offset), tt_high(pair) + tt_high(offset));
#endif
}

static inline uint32_t tt_odd_plus(uint32_t offset, uint32_t bytes)
{
#if defined(__ARM_FEATURE_DSP)
    uint32_t pair;
    __asm("sxtab16 %0, %1, %2, ror #8" : "=r"(pair) : "r"(offset), "r"(bytes));
    return pair;
#else
    return tt_even_plus(offset, bytes >> 8);
#endif
}

/* sum + low·low + high·high */
static inline int32_t tt_dot2(uint32_t a, uint32_t b, int32_t sum)
{
#if defined(__ARM_FEATURE_DSP)
    int32_t result;
    __asm("smlad %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
#else
    return sum + tt_low(a) * tt_low(b) + tt_high(a) * tt_high(b);
#endif
}

/* Two pairs side by side: what one instruction loads. */
static inline uint64_t tt_pairs(uint32_t first, uint32_t second)
{
    return first | (uint64_t)second << 32;
}

/* sum + both products of pairs; loaded right where they are used, which keeps as many sums in registers as there are. */
static inline int32_t tt_dot4(const uint64_t *pairs, uint32_t first, uint32_t second, int32_t sum)
{
#if defined(__ARM_FEATURE_DSP)
    uint32_t low, high;
    __asm("ldrd %1, %2, %3\n\tsmlad %0, %1, %4, %0\n\tsmlad %0, %2, %5, %0"
          : "+r"(sum), "=&r"(low), "=&r"(high)
          : "m"(*pairs), "r"(first), "r"(second));
    return sum;
#else
    return tt_dot2((uint32_t)(*pairs >> 32), second, tt_dot2((uint32_t)*pairs, first, sum));
#endif
}

#endif
