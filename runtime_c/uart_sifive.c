/* SPDX-License-Identifier: Apache-2.0 */
/* UART of SiFive's FE310. FE310-G002 manual, chapter 18. */
#include "uart.h"

#include "tt_port.h"

#define TXDATA UART_REGISTER(0x00) /* bit 31: full */
#define RXDATA UART_REGISTER(0x04)
#define TXCTRL UART_REGISTER(0x08)
#define RXCTRL UART_REGISTER(0x0C)
#define ENABLED UART_REGISTER(0x10) /* bit 1: interrupt on receive */
#define PENDING UART_REGISTER(0x14) /* bit 1: a byte has been received */
#define DIVIDER UART_REGISTER(0x18)

void tt_uart_start(uint32_t clock_hz)
{
    DIVIDER = (clock_hz + TT_UART_BAUD / 2u) / TT_UART_BAUD - 1u;
    TXCTRL = 1;
    RXCTRL = 1;
    ENABLED = 2;
}

int tt_uart_ready(void)
{
    return (PENDING & 2u) != 0u;
}

uint8_t tt_uart_byte(void)
{
    return (uint8_t)RXDATA;
}

void tt_port_put(uint8_t byte)
{
    while ((TXDATA & UINT32_C(0x80000000)) != 0u) {
    }
    TXDATA = byte;
}

void tt_port_flush(void)
{
}
