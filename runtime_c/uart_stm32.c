/* SPDX-License-Identifier: Apache-2.0 */
/* USART of the STM32F1/F2/F4 families. ST RM0090, chapter 30. Clocks and pins are the board's matter. */
#include "uart.h"

#include "tt_port.h"

#define SR UART_REGISTER(0x00) /* bit 5: byte received, bit 7: transmit register empty */
#define DR UART_REGISTER(0x04)
#define BRR UART_REGISTER(0x08)
#define CR1 UART_REGISTER(0x0C)

void tt_uart_start(void)
{
    BRR = TT_UART_CLOCK_HZ / TT_UART_BAUD;
    CR1 = (UINT32_C(1) << 13) | (UINT32_C(1) << 5) | (UINT32_C(1) << 3) | (UINT32_C(1) << 2); /* on, receive interrupt, both ways */
    (void)DR; /* drop what came before */
}

int tt_uart_ready(void)
{
    return (SR & (UINT32_C(1) << 5)) != 0u;
}

uint8_t tt_uart_byte(void)
{
    return (uint8_t)DR;
}

void tt_port_put(uint8_t byte)
{
    while ((SR & (UINT32_C(1) << 7)) == 0u) {
    }
    DR = byte;
}

void tt_port_flush(void)
{
}
