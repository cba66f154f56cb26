/* SPDX-License-Identifier: Apache-2.0 */
/* What a target must provide. port_*.c has the processor's part (start-up, counter, stack), uart_*.c the serial port. */
#ifndef TT_PORT_H
#define TT_PORT_H

#include <stdint.h>

#ifndef TT_CORES
#define TT_CORES 1 /* that share the work of a step */
#endif

void tt_port_start(void); /* serial port on */
int tt_port_get(void);    /* next byte, waits for it; -1 when the other side has gone */
void tt_port_put(uint8_t byte);
void tt_port_flush(void);

uint32_t tt_port_clock_hz(void); /* of the processor, as it runs now; 0 on the host */

/* Ticks from start to stop: SysTick on Cortex-M, retired instructions on RISC-V, always 0 on the host.
 * Starting aligns a coarse tick with the code that is measured, so that equal code gives equal counts. */
void tt_port_count_start(void);
uint64_t tt_port_count_stop(void);

/* Of a firmware for several cores: tt_port_fork runs work(arguments, core) on all of them, and returns when each has; what `work` does in
 * between two calls of tt_port_barrier, all have done before any goes on behind it. */
typedef void (*tt_work)(const void *arguments, int32_t core);
void tt_port_fork(tt_work work, const void *arguments);
void tt_port_barrier(void);
uint64_t tt_port_core_count(int32_t core); /* as tt_port_count_stop, of one core; 0 where they run at the same time */

/* The stack is painted at start-up. Its lowest bytes are a guard: they must keep the paint. */
uint32_t tt_stack_bytes(void);
uint32_t tt_stack_used(void); /* deepest use since start-up, bytes */
int tt_stack_intact(void);

/* Called by fault handlers: reports over the serial port and never returns. */
void tt_fault(uint32_t pc, uint32_t cause, uint32_t address);

#define TT_STACK_PAINT UINT32_C(0xC5C5C5C5)
#define TT_STACK_GUARD_BYTES 32

#endif
