/* SPDX-License-Identifier: Apache-2.0 */
#include "tt_start.h"

#include "tt_port.h"

void tt_start(void)
{
    volatile uint32_t here = 0;                                /* marks where this frame lies */
    const uintptr_t limit = ((uintptr_t)&here & ~(uintptr_t)3) - 64u; /* below anything it may hold */
    for (volatile uint32_t *p = tt_stack_bottom; (uintptr_t)p < limit; ++p) {
        *p = TT_STACK_PAINT;
    }
    const uint32_t *from = tt_data_load;
    for (uint32_t *to = tt_data_start; to < tt_data_end; ++to) {
        *to = *from++;
    }
    for (uint32_t *to = tt_bss_start; to < tt_bss_end; ++to) {
        *to = 0;
    }
    (void)main();
    for (;;) {
    }
}

uint32_t tt_stack_bytes(void)
{
    return (uint32_t)((uintptr_t)tt_stack_top - (uintptr_t)tt_stack_bottom);
}

/* Each core has an equal part of the stack, core 0 the highest one. */
#define EACH ((uint32_t)(tt_stack_top - tt_stack_bottom) / TT_CORES)

uint32_t tt_stack_used(void)
{
    uint32_t words = 0;
    for (uint32_t core = 0; core < TT_CORES; ++core) {
        const volatile uint32_t *p = tt_stack_bottom + core * EACH, *const top = p + EACH;
        while (p < top && *p == TT_STACK_PAINT) {
            ++p;
        }
        words += (uint32_t)(top - p);
    }
    return words * (uint32_t)sizeof *tt_stack_bottom;
}

int tt_stack_intact(void)
{
    for (uint32_t core = 0; core < TT_CORES; ++core) {
        const volatile uint32_t *p = tt_stack_bottom + core * EACH;
        for (uint32_t i = 0; i < TT_STACK_GUARD_BYTES / sizeof *p; ++i) {
            if (p[i] != TT_STACK_PAINT) {
                return 0;
            }
        }
    }
    return 1;
}
