/* SPDX-License-Identifier: Apache-2.0 */
/* UART of nRF51 and nRF52. nRF51 Series Reference Manual section 29, nRF52840 Product Specification section 6.33. */
#include "uart.h"

#include "tt_port.h"

#define STARTRX UART_REGISTER(0x000)
#define STARTTX UART_REGISTER(0x008)
#define RXDRDY UART_REGISTER(0x108)
#define TXDRDY UART_REGISTER(0x11C)
#define INTENSET UART_REGISTER(0x304)
#define ENABLE UART_REGISTER(0x500)
#define PSELTXD UART_REGISTER(0x50C)
#define PSELRXD UART_REGISTER(0x514)
#define RXD UART_REGISTER(0x518)
#define TXD UART_REGISTER(0x51C)
#define BAUDRATE UART_REGISTER(0x524)

/* Ports lie 0x300 apart and have 32 pins. */
#define SELECTED(port, pin) (((port) - 0x50000000u) / 0x300u * 32u + (pin))

void tt_uart_start(uint32_t clock_hz)
{
    (void)clock_hz; /* 16 MHz, whatever else runs */
    PSELTXD = SELECTED(TT_UART_TX_PORT, TT_UART_TX_PIN);
    PSELRXD = SELECTED(TT_UART_RX_PORT, TT_UART_RX_PIN);
    BAUDRATE = (uint32_t)((((uint64_t)TT_UART_BAUD << 20) + TT_UART_CLOCK_HZ / 2u) / TT_UART_CLOCK_HZ) << 12; /* its lower 12 bits are 0 */
    ENABLE = 4;
    RXDRDY = 0;
    TXDRDY = 0;
    INTENSET = BIT(2); /* a byte has come */
    STARTTX = 1;
    STARTRX = 1;
    (void)RXD; /* drop what came before */
}

int tt_uart_ready(void)
{
    return RXDRDY != 0u;
}

uint8_t tt_uart_byte(void)
{
    RXDRDY = 0; /* before the byte is taken, which lets the next one come up */
    return (uint8_t)RXD;
}

void tt_port_put(uint8_t byte)
{
    TXD = byte;
    while (TXDRDY == 0u) {
    }
    TXDRDY = 0;
}

void tt_port_flush(void)
{
}
