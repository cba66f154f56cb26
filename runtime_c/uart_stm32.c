/* SPDX-License-Identifier: Apache-2.0 */
/* USART of the STM32F1, F2 and F4 families. ST RM0041 section 23.6, RM0090 section 30.6. */
#include "uart.h"

#include "tt_port.h"

#define SR UART_REGISTER(0x00) /* bit 5: byte received, bit 7: transmit register empty */
#define DR UART_REGISTER(0x04)
#define BRR UART_REGISTER(0x08)
#define CR1 UART_REGISTER(0x0C)

void tt_uart_start(uint32_t clock_hz)
{
    BRR = (clock_hz + TT_UART_BAUD / 2u) / TT_UART_BAUD;
    CR1 = BIT(13) | BIT(5) | BIT(3) | BIT(2); /* on, receive interrupt, both ways */
    (void)DR; /* drop what came before */
}

int tt_uart_ready(void)
{
    return (SR & BIT(5)) != 0u;
}

uint8_t tt_uart_byte(void)
{
    return (uint8_t)DR;
}

void tt_port_put(uint8_t byte)
{
    while ((SR & BIT(7)) == 0u) {
    }
    DR = byte;
}

void tt_port_flush(void)
{
}
