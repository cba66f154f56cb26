/* SPDX-License-Identifier: Apache-2.0 */
/* What the boot ROM of an RP2350 looks for in the first 4 KB of flash (data sheet section 5.9.5): a program for its Arm cores, in the secure
 * world, whose vectors stand first. */
#include <stdint.h>

extern const uint32_t tt_image_def[5];
__attribute__((section(".image_def"), used)) const uint32_t tt_image_def[5] = {
    0xFFFFDED3, /* start of a block */
    0x10210142, /* image type: executable, Arm, secure, RP2350 */
    0x000001FF, /* last item, after one word of items */
    0x00000000, /* no other block */
    0xAB123579, /* end */
};
