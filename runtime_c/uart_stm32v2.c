/* SPDX-License-Identifier: Apache-2.0 */
/* USART of the STM32F7 and H7 families. ST RM0385 section 31.8, RM0433 section 48.7. */
#include "uart.h"

#include "tt_port.h"

#define CR1 UART_REGISTER(0x00)
#define BRR UART_REGISTER(0x0C)
#define ISR UART_REGISTER(0x1C) /* bit 3: a byte was lost, 5: byte received, 7: transmit register empty */
#define ICR UART_REGISTER(0x20)
#define RDR UART_REGISTER(0x24)
#define TDR UART_REGISTER(0x28)

void tt_uart_start(uint32_t clock_hz)
{
    BRR = (clock_hz + TT_UART_BAUD / 2u) / TT_UART_BAUD;
    CR1 = BIT(0) | BIT(5) | BIT(3) | BIT(2); /* on, receive interrupt, both ways */
    (void)RDR; /* drop what came before */
}

int tt_uart_ready(void)
{
    ICR = BIT(3); /* a lost byte would hold back all that follow; the CRC of the frame tells of it */
    return (ISR & BIT(5)) != 0u;
}

uint8_t tt_uart_byte(void)
{
    return (uint8_t)RDR;
}

void tt_port_put(uint8_t byte)
{
    while ((ISR & BIT(7)) == 0u) {
    }
    TDR = byte;
}

void tt_port_flush(void)
{
}
