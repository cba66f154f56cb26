/* SPDX-License-Identifier: Apache-2.0 */
/* What port_riscv.c needs of a hart that the privileged specification leaves open: interrupts and the counter. Here those of chips with a
 * PLIC (RISC-V PLIC specification 1.0, machine mode of hart 0) and minstret; other chips have a hart.h of their own in their folder. */
#ifndef TT_HART_H
#define TT_HART_H

#include "minstret.h"
#include "uart.h"

#define TT_TRAP_ALIGN 4 /* of what mtvec points to */

#define PLIC_REGISTER(offset) (*(volatile uint32_t *)(uintptr_t)(TT_PLIC_BASE + (offset)))
#define PLIC_PRIORITY PLIC_REGISTER(4u * TT_UART_IRQ)
#define PLIC_ENABLE PLIC_REGISTER(0x2000 + TT_UART_IRQ / 32 * 4)
#define PLIC_THRESHOLD PLIC_REGISTER(0x200000)
#define PLIC_CLAIM PLIC_REGISTER(0x200004) /* reading claims, writing back completes */

/* Bytes that come end a sleep from now on. */
static inline void tt_hart_start(void)
{
    PLIC_PRIORITY = 1;
    PLIC_ENABLE = UINT32_C(1) << TT_UART_IRQ % 32;
    PLIC_THRESHOLD = 0;
    __asm volatile("csrs mie, %0" ::"r"(1u << 11)); /* external interrupts */
}

/* What has announced a byte no longer ends a sleep, only what comes from now on. */
static inline void tt_hart_rearm(void)
{
    PLIC_CLAIM = PLIC_CLAIM;
}

/* Until something comes, or not at all. */
static inline void tt_hart_sleep(void)
{
    __asm volatile("wfi" ::: "memory");
}

#endif
