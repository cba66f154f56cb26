/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin of QEMU (API version 1): how often each instruction ran between two places of a firmware, its calls of tt_port_count_start and
 * tt_port_count_stop, and how often the program went elsewhere than on behind it. counting.py builds, loads and reads it.
 * The numbers lie in a file that is mapped, so that they are there whenever the firmware has answered. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What is used of qemu/qemu-plugin.h, which no package has. */
typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { NO_REGISTERS = 0, ADD_U64 = 0 };
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*translated)(plugin_id id, struct qemu_plugin_tb *block));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, void (*run)(unsigned cpu, void *data), int registers, void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, void (*run)(unsigned cpu, void *data), int registers, void *data);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int operation, void *number, uint64_t with);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv);

typedef struct {
    uint64_t ran, left; /* of the instruction at one even address */
} slot;

typedef struct {
    uint64_t start, last, end; /* addresses of its first and last instruction and of what lies behind */
} block_place;

static uint64_t base, bytes, start_at, stop_at; /* the code that is counted, and the places */
static slot *counts, *shown;                    /* of now, and of the last time that stop_at was reached: the file */
static const block_place *before;               /* the block that ran before */

static slot *slot_of(uint64_t address)
{
    return address - base < bytes ? &counts[(address - base) / 2] : NULL;
}

static void start(unsigned cpu, void *data)
{
    (void)cpu;
    (void)data;
    memset(counts, 0, bytes / 2 * sizeof *counts);
}

static void stop(unsigned cpu, void *data)
{
    (void)cpu;
    (void)data;
    memcpy(shown, counts, bytes / 2 * sizeof *counts);
}

static void enter(unsigned cpu, void *data)
{
    const block_place *now = data;
    (void)cpu;
    if (before != NULL && before->end != now->start) {
        slot *from = slot_of(before->last);
        if (from != NULL) {
            ++from->left;
        }
    }
    before = now;
}

static void translated(plugin_id id, struct qemu_plugin_tb *block)
{
    const size_t n = qemu_plugin_tb_n_insns(block);
    const struct qemu_plugin_insn *last = qemu_plugin_tb_get_insn(block, n - 1);
    block_place *place = malloc(sizeof *place); /* translated code may run until the end */
    (void)id;
    if (place == NULL) {
        abort();
    }
    place->start = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(block, 0));
    place->last = qemu_plugin_insn_vaddr(last);
    place->end = place->last + qemu_plugin_insn_size(last);
    qemu_plugin_register_vcpu_tb_exec_cb(block, enter, NO_REGISTERS, place);
    for (size_t i = 0; i < n; ++i) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(block, i);
        const uint64_t address = qemu_plugin_insn_vaddr(insn);
        slot *at = slot_of(address);
        if (at != NULL) {
            qemu_plugin_register_vcpu_insn_exec_inline(insn, ADD_U64, &at->ran, 1);
        }
        if (address == start_at) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, start, NO_REGISTERS, NULL);
        }
        if (address == stop_at) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, stop, NO_REGISTERS, NULL);
        }
    }
}

int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    int file = -1;
    (void)info;
    for (int i = 0; i < argc; ++i) { /* name=value */
        const char *value = strchr(argv[i], '=');
        const uint64_t number = value != NULL ? strtoull(value + 1, NULL, 0) : 0;
        switch (argv[i][0]) {
        case 'c':
            file = value != NULL ? open(value + 1, O_RDWR) : -1;
            break;
        case 'b':
            base = number;
            break;
        case 'e':
            bytes = number - base;
            break;
        case 's':
            start_at = number;
            break;
        case 't':
            stop_at = number;
            break;
        }
    }
    counts = calloc(bytes / 2, sizeof *counts);
    shown = mmap(NULL, bytes / 2 * sizeof *shown, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (counts == NULL || shown == MAP_FAILED) {
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
