/* SPDX-License-Identifier: Apache-2.0 */
/* Nordic nRF51 and nRF52. The clock is that of reset, from a crystal now, which serial ports need: nRF51 Series Reference Manual section 13,
 * nRF52840 Product Specification section 5.4; ports in 14 and 6.9. Wait states and dividers there are none to set. */
#include "chip.h"

#define HFCLKSTART 0x40000000u
#define HFCLKSTARTED 0x40000100u
#define OUTSET 0x508u
#define PIN_CNF 0x700u /* bit 0: output, 1: no input buffer, 3:2: 3 for a pull-up */

tt_clocks tt_chip_start(void)
{
    CHIP_REGISTER(HFCLKSTARTED) = 0;
    CHIP_REGISTER(HFCLKSTART) = 1;
    (void)tt_chip_becomes(HFCLKSTARTED, 1, 1); /* without it the same clock runs on, less exact */
    CHIP_REGISTER(TT_UART_TX_PORT + OUTSET) = BIT(TT_UART_TX_PIN);
    CHIP_REGISTER(TT_UART_TX_PORT + PIN_CNF + 4u * TT_UART_TX_PIN) = 3;
    CHIP_REGISTER(TT_UART_RX_PORT + PIN_CNF + 4u * TT_UART_RX_PIN) = 0xC;
    return (tt_clocks){TT_CLOCK_HZ, TT_UART_CLOCK_HZ};
}
