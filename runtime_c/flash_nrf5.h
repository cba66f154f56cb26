/* SPDX-License-Identifier: Apache-2.0 */
/* Internal flash of nRF51 (Reference Manual §6, pages of 1 KB) and nRF52 (Product Specification, NVMC, pages of 4 KB). The core halts while
 * a page is erased, up to 85 ms, and while a word is programmed. */
#ifndef FLASH_NRF5_H
#define FLASH_NRF5_H

#include "tt_flash.h"

TT_FLASH_DRIVER(flash_nrf5);

#endif
