/* SPDX-License-Identifier: Apache-2.0 */
/* What the boot ROM of an RP2350 looks for in the first 4 KB of flash (data sheet section 5.9.5): a program for its RISC-V cores, which
 * begins at the first byte of flash. */
#include <stdint.h>

extern const uint32_t tt_image_def[5];
__attribute__((section(".image_def"), used)) const uint32_t tt_image_def[5] = {
    0xFFFFDED3, /* start of a block */
    0x11010142, /* image type: executable, RISC-V, RP2350 */
    0x000001FF, /* last item, after one word of items */
    0x00000000, /* no other block */
    0xAB123579, /* end */
};
