/* SPDX-License-Identifier: Apache-2.0 */
/* 16550-compatible UART with byte-wide registers. */
#include "uart.h"

#include "tt_port.h"

#define BYTE_REGISTER(offset) (*(volatile uint8_t *)(uintptr_t)(TT_UART_BASE + (offset)))
#define DATA BYTE_REGISTER(0)
#define INTERRUPTS BYTE_REGISTER(1)
#define FIFO_CONTROL BYTE_REGISTER(2)
#define LINE_CONTROL BYTE_REGISTER(3)
#define LINE_STATUS BYTE_REGISTER(5) /* bit 0: byte received, bit 5: transmit register empty */

void tt_uart_start(uint32_t clock_hz)
{
    (void)clock_hz;
    LINE_CONTROL = 0x83; /* the first two registers are the divisor */
    DATA = 1;            /* the highest rate: bytes that do not fill the FIFO are announced after four byte times */
    INTERRUPTS = 0;
    LINE_CONTROL = 3; /* 8 data bits, 1 stop bit */
    INTERRUPTS = 1;   /* on receive */
    FIFO_CONTROL = 0xC7; /* FIFOs on, empty, 14 bytes deep before the sender is held back */
    (void)DATA;          /* drop what came before */
}

int tt_uart_ready(void)
{
    return (LINE_STATUS & 1u) != 0u;
}

uint8_t tt_uart_byte(void)
{
    return DATA;
}

void tt_port_put(uint8_t byte)
{
    while ((LINE_STATUS & 0x20u) == 0u) {
    }
    DATA = byte;
}

void tt_port_flush(void)
{
}
