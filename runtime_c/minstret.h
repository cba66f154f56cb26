/* SPDX-License-Identifier: Apache-2.0 */
/* Retired instructions in 64 bits (RISC-V privileged specification, minstret). */
#ifndef TT_MINSTRET_H
#define TT_MINSTRET_H

#include <stdint.h>

typedef uint64_t tt_count;

static inline tt_count tt_hart_retired(void)
{
    uint32_t high, low, again;
    do {
        __asm volatile("csrr %0, minstreth\n\t"
                       "csrr %1, minstret\n\t"
                       "csrr %2, minstreth"
                       : "=r"(high), "=r"(low), "=r"(again));
    } while (high != again);
    return ((uint64_t)high << 32) | low;
}

#endif
