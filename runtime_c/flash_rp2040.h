/* SPDX-License-Identifier: Apache-2.0 */
/* QSPI flash behind RP2040, by the functions of its boot ROM (RP2040 datasheet §2.8.3.1.3): sectors of 4,096 bytes, programmed 256 at
 * once, by addresses from 0x10000000. Meanwhile no code runs from flash: interrupts are off, and the other core must not run from there.
 * Until the next reset flash is then read as the boot ROM sets it up, which is slower than a second boot stage does. */
#ifndef FLASH_RP2040_H
#define FLASH_RP2040_H

#include "tt_flash.h"

TT_FLASH_DRIVER(flash_rp2040);

#endif
