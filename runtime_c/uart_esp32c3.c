/* SPDX-License-Identifier: Apache-2.0 */
/* UART of the ESP32-C3. Technical Reference Manual, chapter 26; its clock is the crystal's, whatever the core runs at. */
#include "uart.h"

#include "tt_port.h"

#define FIFO UART_REGISTER(0x00)
#define CLKDIV UART_REGISTER(0x14) /* bits 11:0: whole, 23:20: sixteenths */
#define STATUS UART_REGISTER(0x1C) /* bits 9:0: bytes received, 25:16: to be sent */
#define CONF0 UART_REGISTER(0x20)
#define CLK_CONF UART_REGISTER(0x78)
#define ID (TT_UART_BASE + 0x80u) /* bit 31: take what was written; 0 when it is taken */
#define FRAME (BIT(28) | BIT(4) | UINT32_C(3) << 2) /* memory on, 1 stop bit, 8 data bits */
#define EMPTY_RECEIVED BIT(17)
#define FIFO_BYTES 128u

static void take(void)
{
    tt_chip_set(ID, 0, BIT(31));
    (void)tt_chip_becomes(ID, BIT(31), 0);
}

void tt_uart_start(uint32_t clock_hz)
{
    const uint32_t sixteenths = (clock_hz * 16u + TT_UART_BAUD / 2u) / TT_UART_BAUD;
    CLK_CONF = BIT(25) | BIT(24) | BIT(22) | UINT32_C(3) << 20; /* on, on, on, crystal */
    CLKDIV = sixteenths / 16u | sixteenths % 16u << 20;
    CONF0 = FRAME | EMPTY_RECEIVED; /* drop what came before */
    take();
    CONF0 = FRAME;
    take();
}

int tt_uart_ready(void)
{
    return (STATUS & UINT32_C(0x3FF)) != 0u;
}

uint8_t tt_uart_byte(void)
{
    return (uint8_t)FIFO;
}

void tt_port_put(uint8_t byte)
{
    while ((STATUS >> 16 & UINT32_C(0x3FF)) >= FIFO_BYTES - 1u) {
    }
    FIFO = byte;
}

void tt_port_flush(void)
{
}
