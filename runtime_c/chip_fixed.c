/* SPDX-License-Identifier: Apache-2.0 */
/* A chip, or an image of an FPGA board, whose clocks and pins are as they are. */
#include "chip.h"

tt_clocks tt_chip_start(void)
{
    return (tt_clocks){TT_CLOCK_HZ, TT_UART_CLOCK_HZ};
}
