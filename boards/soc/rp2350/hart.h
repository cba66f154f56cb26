/* SPDX-License-Identifier: Apache-2.0 */
/* The Hazard3 cores of an RP2350 (data sheet sections 3.8.6.1, Xh3irq, and 3.8.9, CSRs): an array of enable bits in a CSR in place of a
 * PLIC, whose interrupts are levels, and a counter that stands still after reset. */
#ifndef TT_HART_H
#define TT_HART_H

#include "minstret.h"
#include "uart.h"

#define TT_TRAP_ALIGN 4
#define MCOUNTINHIBIT "0x320" /* bit 2: of minstret */
#define MEIEA "0xBE0"         /* bits 4:0: which 16 interrupts, 31:16: enabled */

static inline void tt_hart_start(void)
{
    __asm volatile("csrci " MCOUNTINHIBIT ", 4");
    __asm volatile("csrs " MEIEA ", %0" ::"r"(UINT32_C(1) << (16 + TT_UART_IRQ % 16) | TT_UART_IRQ / 16));
    __asm volatile("csrs mie, %0" ::"r"(1u << 11)); /* external interrupts */
}

static inline void tt_hart_rearm(void)
{
}

static inline void tt_hart_sleep(void)
{
    __asm volatile("wfi" ::: "memory");
}

#endif
