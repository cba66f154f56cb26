/* SPDX-License-Identifier: Apache-2.0 */
/* Caches of a Cortex-M7 (Arm DDI 0403, B2.2.7 and B3.2; DDI 0489, chapter 5: lines of 32 bytes, four ways of data). On other cores of Armv7-M
 * the bit that would say that they are on is 0, and nothing is done.
 *
 * Flash is stored to through the data cache, which may lose such data (Arm erratum 1259864), and which afterwards would be read in place of
 * the flash: drivers suspend it. */
#ifndef TT_CACHE_M7_H
#define TT_CACHE_M7_H

#include <stdint.h>

#define CACHE_REGISTER(address) (*(volatile uint32_t *)(uintptr_t)UINT32_C(address))
#define CACHE_CCR CACHE_REGISTER(0xE000ED14)    /* bit 16: data cache on, 17: instruction cache on */
#define CACHE_CCSIDR CACHE_REGISTER(0xE000ED80) /* bits 27:13: sets of what CSSELR chooses, less one */
#define CACHE_CSSELR CACHE_REGISTER(0xE000ED84)
#define CACHE_ICIALLU CACHE_REGISTER(0xE000EF50) /* forget all instructions */
#define CACHE_DCISW CACHE_REGISTER(0xE000EF60)   /* forget a line of data */
#define CACHE_DCCISW CACHE_REGISTER(0xE000EF74)  /* the same, after it is written back */
#define CACHE_DATA_ON (UINT32_C(1) << 16)
#define CACHE_INSTRUCTIONS_ON (UINT32_C(1) << 17)
#define CACHE_BARRIER() __asm volatile("dsb\n\tisb" ::: "memory")
#define MPU_CTRL CACHE_REGISTER(0xE000ED94)
#define MPU_RNR CACHE_REGISTER(0xE000ED98)
#define MPU_RBAR CACHE_REGISTER(0xE000ED9C)
#define MPU_RASR CACHE_REGISTER(0xE000EDA0)

/* Off, and each line of it done with `operation`. Until the last one, memory is not what the program has written, and what is written there
 * may be lost: all is in registers, and no interrupt is taken. */
static inline void tt_cache_data_off(volatile uint32_t *operation)
{
    CACHE_CSSELR = 0;
    uint32_t line = (CACHE_CCSIDR >> 13 & UINT32_C(0x7FFF)) << 5; /* bits 31:30: way, the others: set */
    uint32_t masked;
    __asm volatile("mrs %[masked], primask\n\t"
                   "cpsid i\n\t"
                   "dsb\n\t"
                   "str %[off], [%[control]]\n\t"
                   "dsb\n"
                   "1:\n\t"
                   "str %[line], [%[operation]]\n\t"
                   "adds %[line], %[line], #0x40000000\n\t"
                   "str %[line], [%[operation]]\n\t"
                   "adds %[line], %[line], #0x40000000\n\t"
                   "str %[line], [%[operation]]\n\t"
                   "adds %[line], %[line], #0x40000000\n\t"
                   "str %[line], [%[operation]]\n\t"
                   "adds %[line], %[line], #0x40000000\n\t"
                   "subs %[line], %[line], #32\n\t"
                   "bpl 1b\n\t"
                   "dsb\n\t"
                   "isb\n\t"
                   "msr primask, %[masked]"
                   : [line] "+&r"(line), [masked] "=&r"(masked)
                   : [off] "r"(CACHE_CCR & ~CACHE_DATA_ON), [control] "r"(&CACHE_CCR), [operation] "r"(operation)
                   : "cc", "memory");
}

/* Whether the data cache was on; it is off now. */
static inline int tt_cache_suspend(void)
{
    const int on = (CACHE_CCR & CACHE_DATA_ON) != 0;
    if (on) {
        tt_cache_data_off(&CACHE_DCCISW);
    }
    return on;
}

static inline void tt_cache_resume(int was_on)
{
    if (was_on) {
        CACHE_CCR |= CACHE_DATA_ON;
        CACHE_BARRIER();
    }
}

/* Both on. The core reads ahead where it may: from 0x60000000 to 0xDFFFFFFF, where external memory would be, region 0 of the MPU forbids
 * that, as ST AN4838 asks for; elsewhere its default map holds. */
static inline void tt_cache_start(void)
{
    MPU_RNR = 0;
    MPU_RBAR = 0;
    MPU_RASR = UINT32_C(1) << 28 | UINT32_C(0x87) << 8 | UINT32_C(31) << 1 | 1u; /* no access, eighths 3 to 6 of 4 GB, on */
    MPU_CTRL = 5;
    CACHE_BARRIER();
    tt_cache_data_off((CACHE_CCR & CACHE_DATA_ON) != 0 ? &CACHE_DCCISW : &CACHE_DCISW); /* after reset it holds anything */
    CACHE_ICIALLU = 0;
    CACHE_BARRIER();
    CACHE_CCR |= CACHE_DATA_ON | CACHE_INSTRUCTIONS_ON;
    CACHE_BARRIER();
}

#endif
