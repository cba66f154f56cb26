/* SPDX-License-Identifier: Apache-2.0 */
/* The core of an ESP32-C3 (Technical Reference Manual, chapter 1, registers of the core): a counter of its own in place of minstret, 32 bits wide, enough
 * for 100 s between start and stop at 40 MHz; and a table of traps at a multiple of 256 bytes, whose first entry is that of exceptions. The
 * serial port is asked again and again, so that its interrupt controller stays as it is. */
#ifndef TT_HART_H
#define TT_HART_H

#include "uart.h"

#define TT_TRAP_ALIGN 256
#define MPCER "0x7E0" /* bit 1: count instructions */
#define MPCMR "0x7E1" /* bit 0: count */
#define MPCCR "0x7E2"

typedef uint32_t tt_count;

static inline tt_count tt_hart_retired(void)
{
    uint32_t count;
    __asm volatile("csrr %0, " MPCCR : "=r"(count));
    return count;
}

static inline void tt_hart_start(void)
{
    __asm volatile("csrw " MPCER ", %0\n\tcsrw " MPCMR ", %1" ::"r"(2), "r"(1));
}

static inline void tt_hart_rearm(void)
{
}

static inline void tt_hart_sleep(void)
{
}

#endif
