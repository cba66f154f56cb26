/* SPDX-License-Identifier: Apache-2.0 */
/* Several harts of RISC-V: they sleep until a software interrupt of the CLINT, which one sends to the other.
 *
 * An emulator that counts has one counter for all harts. Told so (the word at TT_TURNS_AT is not 0), they run one after another: at each
 * barrier a hart hands the turn on and sleeps until it comes back. So each one's own instructions are known, and of what all of them took
 * between two barriers only what the slowest one did stays in the count. */
#include "tt_port.h"
#include "tt_start.h"

#define INTERRUPT(core) (*(volatile uint32_t *)(uintptr_t)(TT_CLINT_BASE + 4u * (core))) /* msip */
#define IN_TURNS (*(const volatile uint32_t *)(uintptr_t)TT_TURNS_AT)

static struct {
    tt_work work;
    const void *arguments;
    uint32_t arrived, passed; /* cores at the barrier, barriers that all have passed */
    uint32_t turn;            /* the core is the remainder by TT_CORES */
    uint32_t slowest;         /* instructions since the last barrier */
    uint64_t beside;
} cores;

static struct {
    uint32_t begun;
    uint64_t emulating, count;
} each[TT_CORES];

static uint32_t this_core(void)
{
    uint32_t core;
    __asm volatile("csrr %0, mhartid" : "=r"(core));
    return core;
}

static uint32_t retired(void)
{
    uint32_t low;
    __asm volatile("csrr %0, minstret" : "=r"(low)::"memory");
    return low;
}

/* An interrupt that comes too early only ends the next sleep. Machine interrupts stay off in mstatus. */
static void sleep_until(const uint32_t *counter, uint32_t value, uint32_t core)
{
    __asm volatile("csrsi mie, 8" ::: "memory");
    while (__atomic_load_n(counter, __ATOMIC_ACQUIRE) != value) {
        __asm volatile("wfi" ::: "memory");
        INTERRUPT(core) = 0;
    }
    __asm volatile("csrci mie, 8" ::: "memory");
}

static void take_turn(uint32_t turn, uint32_t core)
{
    sleep_until(&cores.turn, turn, core);
    if (core == 0) {
        const uint32_t all = retired() - each[0].begun;
        cores.beside += all - (uint32_t)(tt_emulating() - each[0].emulating) - cores.slowest;
        cores.slowest = 0;
    }
    each[core].emulating = tt_emulating();
    each[core].begun = retired();
}

static void hand_on(uint32_t core)
{
    const uint32_t took = retired() - each[core].begun - (uint32_t)(tt_emulating() - each[core].emulating), next = cores.turn + 1;
    each[core].count += took;
    cores.slowest = took > cores.slowest ? took : cores.slowest;
    __atomic_store_n(&cores.turn, next, __ATOMIC_RELEASE);
    INTERRUPT(next % TT_CORES) = 1;
    take_turn(next - 1 + TT_CORES, core);
}

static void meet(uint32_t core)
{
    const uint32_t next = cores.passed + 1;
    if (__atomic_add_fetch(&cores.arrived, 1, __ATOMIC_ACQ_REL) < TT_CORES) {
        sleep_until(&cores.passed, next, core);
        return;
    }
    cores.arrived = 0;
    __atomic_store_n(&cores.passed, next, __ATOMIC_RELEASE);
    for (uint32_t other = 0; other < TT_CORES; ++other) {
        if (other != core) {
            INTERRUPT(other) = 1;
        }
    }
}

void tt_port_barrier(void)
{
    (IN_TURNS ? hand_on : meet)(this_core());
}

void tt_port_fork(tt_work work, const void *arguments)
{
    cores.work = work;
    cores.arguments = arguments;
    if (IN_TURNS) {
        each[0].emulating = tt_emulating();
        each[0].begun = retired();
    } else {
        tt_port_barrier();
    }
    work(arguments, 0);
    tt_port_barrier();
}

void tt_cores_count_start(void)
{
    cores.beside = 0;
    for (uint32_t core = 0; core < TT_CORES; ++core) {
        each[core].count = 0;
    }
}

uint64_t tt_beside(void)
{
    return cores.beside;
}

uint64_t tt_port_core_count(int32_t core)
{
    return each[core].count;
}

void tt_core_serve(uint32_t core)
{
    if (core == 0) {
        for (uint32_t other = 1; other < TT_CORES; ++other) {
            INTERRUPT(other) = 1;
        }
        return;
    }
    if (IN_TURNS) {
        take_turn(core, core);
    }
    for (;;) {
        if (!IN_TURNS) {
            tt_port_barrier();
        }
        cores.work(cores.arguments, (int32_t)core);
        tt_port_barrier();
    }
}
