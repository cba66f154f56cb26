/* SPDX-License-Identifier: Apache-2.0 */
/* A serial port: each uart_*.c implements this and the sending half of tt_port.h. TT_UART_BASE and TT_UART_BAUD come
 * from board.toml. */
#ifndef TT_UART_H
#define TT_UART_H

#include "chip.h"

#define UART_REGISTER(offset) (*(volatile uint32_t *)(uintptr_t)(TT_UART_BASE + (offset)))

void tt_uart_start(uint32_t clock_hz);
int tt_uart_ready(void);    /* a byte has arrived */
uint8_t tt_uart_byte(void); /* takes it, and withdraws the interrupt that announced it */

#endif
