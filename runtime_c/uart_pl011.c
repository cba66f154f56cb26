/* SPDX-License-Identifier: Apache-2.0 */
/* PrimeCell UART PL011. Arm DDI 0183, chapter 3. */
#include "uart.h"

#include "tt_port.h"

#define DATA UART_REGISTER(0x00)
#define FLAGS UART_REGISTER(0x18) /* bit 4: nothing received, 5: no room to send */
#define INTEGER_DIVIDER UART_REGISTER(0x24)
#define FRACTION_DIVIDER UART_REGISTER(0x28)
#define LINE UART_REGISTER(0x2C)
#define CONTROL UART_REGISTER(0x30)
#define LEVELS UART_REGISTER(0x34)
#define INTERRUPTS UART_REGISTER(0x38)

void tt_uart_start(uint32_t clock_hz)
{
    const uint32_t sixtyfourths = (clock_hz * 4u + TT_UART_BAUD / 2u) / TT_UART_BAUD; /* of clock / 16 / baud */
    CONTROL = 0;
    INTEGER_DIVIDER = sixtyfourths / 64u;
    FRACTION_DIVIDER = sixtyfourths % 64u;
    LINE = 0x70;       /* 8 bits, FIFOs; takes the dividers, too */
    LEVELS = 0;        /* two bytes of sixteen */
    INTERRUPTS = 0x50; /* received, and received some time ago */
    CONTROL = 0x301;   /* on, both ways */
}

int tt_uart_ready(void)
{
    return (FLAGS & 0x10u) == 0u;
}

uint8_t tt_uart_byte(void)
{
    return (uint8_t)DATA;
}

void tt_port_put(uint8_t byte)
{
    while ((FLAGS & 0x20u) != 0u) {
    }
    DATA = byte;
}

void tt_port_flush(void)
{
}
