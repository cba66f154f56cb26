/* SPDX-License-Identifier: Apache-2.0 */
/* Memory-mapped NOR flash with the Intel command set (JEDEC JEP137, CFI set 0001): two 16-bit chips beside each other on 32 bits, each with
 * half of every word. The code that programs it must run from other memory. */
#ifndef FLASH_CFI_H
#define FLASH_CFI_H

#include "tt_flash.h"

TT_FLASH_DRIVER(flash_cfi);

#endif
