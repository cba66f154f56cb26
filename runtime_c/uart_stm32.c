/* SPDX-License-Identifier: Apache-2.0 */
/* USART1 of the STM32F2/F4 families on pins PA9 (out) and PA10 (in), clocked by the oscillator that runs after reset. ST RM0090. */
#include "uart.h"

#include "tt_port.h"

#define SR UART_REGISTER(0x00) /* bit 5: byte received, bit 7: transmit register empty */
#define DR UART_REGISTER(0x04)
#define BRR UART_REGISTER(0x08)
#define CR1 UART_REGISTER(0x0C)

#define CHIP_REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define RCC_AHB1ENR CHIP_REGISTER(0x40023830) /* bit 0: port A has a clock */
#define RCC_APB2ENR CHIP_REGISTER(0x40023844) /* bit 4: USART1 has a clock */
#define GPIOA_MODER CHIP_REGISTER(0x40020000) /* two bits a pin, 2: alternate function */
#define GPIOA_AFRH CHIP_REGISTER(0x40020024)  /* four bits a pin from 8 on, 7: USART1 */

static void connect_pins(void)
{
    RCC_AHB1ENR |= UINT32_C(1) << 0;
    RCC_APB2ENR |= UINT32_C(1) << 4;
    (void)RCC_APB2ENR; /* the clock runs two cycles after it was written: a read takes them */
    GPIOA_MODER = (GPIOA_MODER & ~(UINT32_C(0xF) << 18)) | (UINT32_C(0xA) << 18);
    GPIOA_AFRH = (GPIOA_AFRH & ~(UINT32_C(0xFF) << 4)) | (UINT32_C(0x77) << 4);
}

void tt_uart_start(void)
{
    connect_pins();
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
