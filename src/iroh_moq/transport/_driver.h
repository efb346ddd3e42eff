/* What a thread of iroh's runtime may touch: no Python object, no GIL, no lock.
 *
 * An operation is a Rust future that is polled on the loop's thread. Rust reports progress on it by
 * calling `progress`, either inside that poll or later on a thread of its own. A later report puts
 * the operation on its driver's stack, and the first one on an empty stack wakes the loop.
 */
#ifndef IROH_MOQ_DRIVER_H
#define IROH_MOQ_DRIVER_H

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    uint64_t capacity;
    uint64_t len;
    uint8_t *data;
} rust_buffer;

typedef struct {
    int8_t code;
    rust_buffer error;
} rust_status;

typedef void (*rust_progress)(uint64_t data, int8_t code);

enum {
    OP_IDLE,    /* no future, or one that is complete */
    OP_POLLING, /* the loop's thread is inside poll */
    OP_PENDING, /* Rust will report */
    OP_READY,   /* reported: complete */
    OP_WOKEN,   /* reported: poll again */
    OP_DEAD     /* given up: a report is ignored */
};

typedef struct op {
    struct op *next;
    struct op_queue *queue;
    void *owner; /* the Python object, for the loop's thread alone */
    uint64_t future;
    _Atomic int state;
} op;

typedef struct op_queue {
    _Atomic(op *) head;
    int wake_fd;
} op_queue;

/* Rust calls this: code 0 says that the future is complete, any other that it wants another poll. */
static void progress(uint64_t data, int8_t code) {
    op *self = (op *)(uintptr_t)data;
    int next = code == 0 ? OP_READY : OP_WOKEN;
    int seen = OP_POLLING;
    if (atomic_compare_exchange_strong(&self->state, &seen, next))
        return; /* the poll under way will see it */
    if (seen != OP_PENDING || !atomic_compare_exchange_strong(&self->state, &seen, next))
        return; /* given up */
    op_queue *queue = self->queue;
    op *head = atomic_load(&queue->head);
    do
        self->next = head;
    while (!atomic_compare_exchange_weak(&queue->head, &head, self));
    if (head == NULL) {
        static const uint64_t one = 1;
        /* A full pipe wakes the loop as well as another byte would. */
        while (write(queue->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
            ;
    }
}

static inline void op_start_poll(op *self) { atomic_store(&self->state, OP_POLLING); }

/* After a poll: OP_PENDING if Rust will report later, else what it has reported. */
static inline int op_end_poll(op *self) {
    int seen = OP_POLLING;
    if (atomic_compare_exchange_strong(&self->state, &seen, OP_PENDING))
        return OP_PENDING;
    return seen;
}

/* Gives the operation up; whether it is, or is about to be, on the stack. */
static inline int op_give_up(op *self) {
    int seen = atomic_exchange(&self->state, OP_DEAD);
    return seen == OP_READY || seen == OP_WOKEN;
}

static inline void op_idle(op *self) { atomic_store(&self->state, OP_IDLE); }
static inline int op_state(op *self) { return atomic_load(&self->state); }

/* Everything on the stack, first reported first. */
static inline op *op_take_all(op_queue *queue) {
    op *taken = atomic_exchange(&queue->head, NULL), *first = NULL;
    while (taken != NULL) {
        op *next = taken->next;
        taken->next = first;
        first = taken;
        taken = next;
    }
    return first;
}

static inline void put_length(uint8_t *at, uint32_t length) {
    at[0] = length >> 24;
    at[1] = length >> 16;
    at[2] = length >> 8;
    at[3] = length;
}

static inline uint64_t get_u64(const uint8_t *at) {
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | at[i];
    return value;
}

#endif
