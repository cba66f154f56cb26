/* SPDX-License-Identifier: Apache-2.0 */
/* Counter-based random numbers: value = f(seed, counter), the same bits on every target and in tinytrain/random.py.
 *
 * Two rounds of a 32-bit finaliser (xor-shift, multiply); the seed enters both, so that two seeds do not
 * give one sequence in another order. There is no state: any element of a sequence can be made alone. */
#ifndef TT_RANDOM_H
#define TT_RANDOM_H

#include <stdint.h>

static inline uint32_t tt_mix(uint32_t h)
{
    h ^= h >> 16;
    h *= UINT32_C(0x85EBCA6B);
    h ^= h >> 13;
    h *= UINT32_C(0xC2B2AE35);
    return h ^ (h >> 16);
}

/* Uniform over all 32-bit values. */
static inline uint32_t tt_random(uint32_t seed, uint32_t counter)
{
    const uint32_t h = tt_mix(counter * UINT32_C(0x9E3779B1) + seed);
    uint32_t key = seed * UINT32_C(0x85EBCA77) + UINT32_C(0x165667B1);
#if defined(__arm__)
    __asm("" : "+r"(key)); /* in a register, or loaded: not put together byte by byte each time */
#endif
    return tt_mix(h ^ key);
}

/* Uniform over [0, 1) in steps of 2^-24: every value is exact in fp32. */
static inline float tt_random_unit(uint32_t seed, uint32_t counter)
{
    return (float)(int32_t)(tt_random(seed, counter) >> 8) * 0x1p-24f;
}

#endif
