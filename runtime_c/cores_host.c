/* SPDX-License-Identifier: Apache-2.0 */
/* Threads stand for the cores of a board: all but the first wait at the barrier for work. */
#define _POSIX_C_SOURCE 200809L
#include "tt_port.h"

#include <pthread.h>
#include <stdlib.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_barrier_t barrier;
static struct {
    tt_work work;
    const void *arguments;
} given;

static void *serve(void *core)
{
    for (;;) {
        tt_port_barrier();
        given.work(given.arguments, (int32_t)(intptr_t)core);
        tt_port_barrier();
    }
    return core; /* never: gcc asks for it */
}

static void start(void)
{
    int failed = pthread_barrier_init(&barrier, 0, TT_CORES);
    for (intptr_t core = 1; core < (intptr_t)TT_CORES; ++core) {
        pthread_t thread;
        failed |= pthread_create(&thread, 0, serve, (void *)core) || pthread_detach(thread);
    }
    if (failed) {
        abort(); /* this computer has no more threads */
    }
}

void tt_port_barrier(void)
{
    (void)pthread_barrier_wait(&barrier);
}

void tt_port_fork(tt_work work, const void *arguments)
{
    (void)pthread_once(&once, start);
    given.work = work;
    given.arguments = arguments;
    tt_port_barrier();
    work(arguments, 0);
    tt_port_barrier();
}

uint64_t tt_port_core_count(int32_t core)
{
    (void)core;
    return 0;
}
