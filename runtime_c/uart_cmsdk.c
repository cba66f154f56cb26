/* SPDX-License-Identifier: Apache-2.0 */
/* UART of Arm's CMSDK (MPS2 and MPS3 boards). Arm DDI 0479, chapter 4.3. */
#include "uart.h"

#include "tt_port.h"

#define DATA UART_REGISTER(0x00)
#define STATE UART_REGISTER(0x04) /* bit 0: transmit buffer full, bit 1: byte received */
#define CTRL UART_REGISTER(0x08)
#define INTSTATUS UART_REGISTER(0x0C) /* bit 1: byte received; writing it clears it */
#define BAUDDIV UART_REGISTER(0x10)

void tt_uart_start(uint32_t clock_hz)
{
    BAUDDIV = clock_hz / TT_UART_BAUD;
    CTRL = 11;  /* transmit, receive, interrupt on receive */
    (void)DATA; /* drop what came before */
}

int tt_uart_ready(void)
{
    return (STATE & 2u) != 0u;
}

uint8_t tt_uart_byte(void)
{
    const uint8_t byte = (uint8_t)DATA;
    INTSTATUS = 2;
    return byte;
}

void tt_port_put(uint8_t byte)
{
    while ((STATE & 1u) != 0u) {
    }
    DATA = byte;
}

void tt_port_flush(void)
{
}
