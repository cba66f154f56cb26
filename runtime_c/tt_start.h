/* SPDX-License-Identifier: Apache-2.0 */
/* What the start-up code of every bare-metal processor shares, and the symbols of the linker script. */
#ifndef TT_START_H
#define TT_START_H

#include <stdint.h>

extern uint32_t tt_stack_bottom[], tt_stack_top[];
extern uint32_t tt_data_load[], tt_data_start[], tt_data_end[], tt_bss_start[], tt_bss_end[];

/* Entered with the stack pointer at the top: paints the stack, fills .data and .bss, runs main. */
void tt_start(void);

int main(void);

/* Retired instructions of this core since start-up that stood for one of the processor's own: 0 where nothing emulates any. */
uint64_t tt_emulating(void);
void tt_emulator_start(uint32_t core);

/* Of several cores: what the counter has counted, since its start, beside the slowest core of each part that they share. */
void tt_cores_count_start(void);
uint64_t tt_beside(void);
void tt_core_serve(uint32_t core); /* of core 0: wakes the others, which stay in it */

#endif
