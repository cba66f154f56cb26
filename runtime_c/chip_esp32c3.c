/* SPDX-License-Identifier: Apache-2.0 */
/* ESP32-C3. Technical Reference Manual, chapters 5 (IO MUX), 6 (clocks), 12 (watchdogs). It runs from its crystal of 40 MHz: for the
 * PLL's 160 MHz the core's voltage has to be raised by registers that the manual does not describe. */
#include "chip.h"

#define TIMER_GROUP_0 0x6001F000u
#define TIMER_GROUP_1 0x60020000u
#define TIMER_GROUP_WATCHDOG 0x48u /* bit 22: take what was written, bit 31: on */
#define TIMER_GROUP_PROTECT 0x64u
#define RTC_WATCHDOG 0x60008090u /* bit 31: on, 12: on while flash is booted */
#define RTC_PROTECT 0x600080A8u
#define SUPER_WATCHDOG 0x600080ACu /* bit 31: fed by itself */
#define SUPER_PROTECT 0x600080B0u
#define KEY UINT32_C(0x50D83AA1)
#define SUPER_KEY UINT32_C(0x8F1D312A)
#define SYSCLK_CONF 0x600C0058u /* bits 9:0: divider less one, 11:10: 0 for the crystal */
#define PIN 4u
#define FUNCTION_SHIFT 12u
#define PULL_UP BIT(8)
#define INPUT BIT(9)

static void stop_timer_group(uint32_t group)
{
    CHIP_REGISTER(group + TIMER_GROUP_PROTECT) = KEY;
    CHIP_REGISTER(group + TIMER_GROUP_WATCHDOG) = 0;
    CHIP_REGISTER(group + TIMER_GROUP_WATCHDOG) = BIT(22);
    CHIP_REGISTER(group + TIMER_GROUP_PROTECT) = 0;
}

/* The ROM leaves one of them on, and the super watchdog is on whenever the chip is. */
static void stop_watchdogs(void)
{
    stop_timer_group(TIMER_GROUP_0);
    stop_timer_group(TIMER_GROUP_1);
    CHIP_REGISTER(RTC_PROTECT) = KEY;
    CHIP_REGISTER(RTC_WATCHDOG) = 0;
    CHIP_REGISTER(RTC_PROTECT) = 0;
    CHIP_REGISTER(SUPER_PROTECT) = SUPER_KEY;
    tt_chip_set(SUPER_WATCHDOG, 0, BIT(31));
    CHIP_REGISTER(SUPER_PROTECT) = 0;
}

tt_clocks tt_chip_start(void)
{
    stop_watchdogs();
    tt_chip_set(SYSCLK_CONF, UINT32_C(0xFFF), 0);
    tt_chip_set(TT_UART_TX_PORT + PIN + 4u * TT_UART_TX_PIN, UINT32_C(7) << FUNCTION_SHIFT, TT_UART_TX_FUNCTION << FUNCTION_SHIFT);
    tt_chip_set(TT_UART_RX_PORT + PIN + 4u * TT_UART_RX_PIN, UINT32_C(7) << FUNCTION_SHIFT,
                TT_UART_RX_FUNCTION << FUNCTION_SHIFT | PULL_UP | INPUT);
    return (tt_clocks){TT_CLOCK_HZ, TT_UART_CLOCK_HZ};
}
