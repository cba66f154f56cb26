/* SPDX-License-Identifier: Apache-2.0 */
/* A serial port that is polled: each uart_*.c implements this and the byte functions of tt_port.h. TT_UART_BASE: board.toml. */
#ifndef TT_UART_H
#define TT_UART_H

#include <stdint.h>

#define UART_REGISTER(offset) (*(volatile uint32_t *)(uintptr_t)(TT_UART_BASE + (offset)))

void tt_uart_start(void);

/* Some 20 turns between two looks at a status register: on an emulator each look takes the lock that an arriving byte needs. */
static inline void tt_uart_pause(void)
{
    for (uint32_t i = 0; i < 20; ++i) {
        __asm volatile("");
    }
}

#endif
