# cython: language_level=3, binding=False, embedsignature=False, boundscheck=False, wraparound=False
# cython: auto_pickle=False
"""The streams of an iroh connection, straight on the C functions of the loaded `iroh` library.

See `_driver.pyi` for what is offered, and `_driver.h` for the part that other threads run. What is
here runs on the loop's thread, with the GIL.

An operation (`Op`) is a Rust future. It is polled when it is started, and where it is then complete,
the loop is never involved. Else Rust reports progress later, `Driver` is woken once for all that has
been reported, and polls again. An outcome stays in its operation until somebody takes it, so a
waiter may be cancelled at any point and nothing is lost.

Handles: each call consumes a clone of its handle, as UniFFI has it. The handle itself is freed when
its object goes; a future, when it is complete or given up, whichever comes first.
"""

import os
import weakref
from asyncio import get_running_loop

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy

# Not those of `os`, which may be gone by the time when the last objects go.
cdef extern from "<unistd.h>" nogil:
    int close_descriptor "close"(int)
    ssize_t read_descriptor "read"(int, void *, size_t)
    ssize_t write_descriptor "write"(int, const void *, size_t)

cdef extern from "_driver.h" nogil:
    ctypedef struct rust_buffer:
        uint64_t capacity
        uint64_t len
        uint8_t *data
    ctypedef struct rust_status:
        int8_t code
        rust_buffer error
    ctypedef void (*rust_progress)(uint64_t data, int8_t code) noexcept
    ctypedef struct op_queue:
        int wake_fd
    ctypedef struct op:
        op *next
        op_queue *queue
        void *owner
        uint64_t future
    enum:
        OP_IDLE
        OP_PENDING
        OP_READY
        OP_DEAD
    void progress(uint64_t data, int8_t code) noexcept
    void op_start_poll(op *)
    int op_end_poll(op *)
    bint op_give_up(op *)
    void op_idle(op *)
    int op_state(op *)
    op *op_take_all(op_queue *)
    void put_length(uint8_t *at, uint32_t length)
    uint64_t get_u64(const uint8_t *at)

ctypedef void (*poll_fn)(uint64_t future, rust_progress callback, uint64_t data) noexcept nogil
ctypedef void (*free_fn)(uint64_t future) noexcept nogil
ctypedef void (*complete_void_fn)(uint64_t future, rust_status *) noexcept nogil
ctypedef uint64_t (*complete_u64_fn)(uint64_t future, rust_status *) noexcept nogil
ctypedef rust_buffer (*complete_buffer_fn)(uint64_t future, rust_status *) noexcept nogil
ctypedef uint64_t (*handle_fn)(uint64_t handle, rust_status *) noexcept nogil
ctypedef void (*drop_fn)(uint64_t handle, rust_status *) noexcept nogil
ctypedef uint64_t (*start_fn)(uint64_t handle) noexcept nogil
ctypedef uint64_t (*start_u32_fn)(uint64_t handle, uint32_t) noexcept nogil
ctypedef uint64_t (*start_i32_fn)(uint64_t handle, int32_t) noexcept nogil
ctypedef uint64_t (*start_u64_fn)(uint64_t handle, uint64_t) noexcept nogil
ctypedef uint64_t (*start_buffer_fn)(uint64_t handle, rust_buffer) noexcept nogil
ctypedef rust_buffer (*alloc_fn)(uint64_t size, rust_status *) noexcept nogil
ctypedef void (*free_buffer_fn)(rust_buffer, rust_status *) noexcept nogil
ctypedef rust_buffer (*text_fn)(uint64_t handle, rust_status *) noexcept nogil
ctypedef void (*close_fn)(uint64_t handle, int64_t code, rust_buffer, rust_status *) noexcept nogil
ctypedef void (*send_datagram_fn)(uint64_t handle, rust_buffer, rust_status *) noexcept nogil

cdef struct Library:
    alloc_fn alloc
    free_buffer_fn free_buffer
    poll_fn poll_void
    poll_fn poll_u64
    poll_fn poll_buffer
    complete_void_fn complete_void
    complete_u64_fn complete_u64
    complete_buffer_fn complete_buffer
    free_fn free_void
    free_fn free_u64
    free_fn free_buffer_future
    handle_fn clone_connection
    handle_fn clone_send
    handle_fn clone_recv
    handle_fn clone_bi
    handle_fn clone_error
    drop_fn free_connection
    drop_fn free_send
    drop_fn free_recv
    drop_fn free_bi
    drop_fn free_error
    start_fn open_bi
    start_fn open_uni
    start_fn accept_bi
    start_fn accept_uni
    start_fn closed
    start_fn read_datagram
    send_datagram_fn send_datagram
    close_fn close
    handle_fn bi_send
    handle_fn bi_recv
    start_u32_fn read
    start_u64_fn stop
    start_buffer_fn write_all
    start_fn finish
    start_fn stopped
    start_u64_fn reset
    start_i32_fn set_priority
    text_fn error_message

cdef Library lib

# The order is that of the fields above.
FUNCTIONS = (
    "ffi_iroh_ffi_rustbuffer_alloc",
    "ffi_iroh_ffi_rustbuffer_free",
    "ffi_iroh_ffi_rust_future_poll_void",
    "ffi_iroh_ffi_rust_future_poll_u64",
    "ffi_iroh_ffi_rust_future_poll_rust_buffer",
    "ffi_iroh_ffi_rust_future_complete_void",
    "ffi_iroh_ffi_rust_future_complete_u64",
    "ffi_iroh_ffi_rust_future_complete_rust_buffer",
    "ffi_iroh_ffi_rust_future_free_void",
    "ffi_iroh_ffi_rust_future_free_u64",
    "ffi_iroh_ffi_rust_future_free_rust_buffer",
    "uniffi_iroh_ffi_fn_clone_connection",
    "uniffi_iroh_ffi_fn_clone_sendstream",
    "uniffi_iroh_ffi_fn_clone_recvstream",
    "uniffi_iroh_ffi_fn_clone_bistream",
    "uniffi_iroh_ffi_fn_clone_iroherror",
    "uniffi_iroh_ffi_fn_free_connection",
    "uniffi_iroh_ffi_fn_free_sendstream",
    "uniffi_iroh_ffi_fn_free_recvstream",
    "uniffi_iroh_ffi_fn_free_bistream",
    "uniffi_iroh_ffi_fn_free_iroherror",
    "uniffi_iroh_ffi_fn_method_connection_open_bi",
    "uniffi_iroh_ffi_fn_method_connection_open_uni",
    "uniffi_iroh_ffi_fn_method_connection_accept_bi",
    "uniffi_iroh_ffi_fn_method_connection_accept_uni",
    "uniffi_iroh_ffi_fn_method_connection_closed",
    "uniffi_iroh_ffi_fn_method_connection_read_datagram",
    "uniffi_iroh_ffi_fn_method_connection_send_datagram",
    "uniffi_iroh_ffi_fn_method_connection_close",
    "uniffi_iroh_ffi_fn_method_bistream_send",
    "uniffi_iroh_ffi_fn_method_bistream_recv",
    "uniffi_iroh_ffi_fn_method_recvstream_read",
    "uniffi_iroh_ffi_fn_method_recvstream_stop",
    "uniffi_iroh_ffi_fn_method_sendstream_write_all",
    "uniffi_iroh_ffi_fn_method_sendstream_finish",
    "uniffi_iroh_ffi_fn_method_sendstream_stopped",
    "uniffi_iroh_ffi_fn_method_sendstream_reset",
    "uniffi_iroh_ffi_fn_method_sendstream_set_priority",
    "uniffi_iroh_ffi_fn_method_iroherror_message",
)

# What the checksums of the methods are in the library that this was written for.
CHECKSUMS = {
    "connection_open_bi": 7884,
    "connection_open_uni": 45141,
    "connection_accept_bi": 24717,
    "connection_accept_uni": 14498,
    "connection_closed": 47559,
    "connection_read_datagram": 7530,
    "connection_send_datagram": 28522,
    "connection_close": 4437,
    "bistream_send": 17421,
    "bistream_recv": 64172,
    "recvstream_read": 19153,
    "recvstream_stop": 6249,
    "sendstream_write_all": 64390,
    "sendstream_finish": 43289,
    "sendstream_stopped": 18559,
    "sendstream_reset": 6025,
    "sendstream_set_priority": 18123,
    "iroherror_message": 60838,
}
CONTRACT = 30

cdef Py_ssize_t LARGE = 64 * 1024  # bytes that are worth a view of where they are, rather than a copy

cdef bint bound = False
cdef int generation = 0  # of processes: a fork leaves the runtime's threads behind
cdef uint64_t calls = 0  # into the library


def bind(addresses):
    """Takes the addresses of `FUNCTIONS`, in their order."""
    global bound
    cdef void **fields = <void **>&lib
    cdef Py_ssize_t i
    if len(addresses) * sizeof(void *) != sizeof(Library):
        raise ValueError(f"{len(addresses)} addresses for {len(FUNCTIONS)} functions")
    for i in range(len(addresses)):
        fields[i] = <void *><uintptr_t>addresses[i]
    bound = True


def counted_calls():
    return calls


def _forked():
    global generation, package_read_fd
    generation += 1
    # The descriptor is the parent's as well, and whoever reads takes what was meant for the other.
    package_read_fd = -1
    package_loops.clear()


os.register_at_fork(after_in_child=_forked)


cdef tuple new_wake_fds():
    """What a loop reads, and what wakes it when it is written."""
    if hasattr(os, "eventfd"):
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return fd, fd
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    os.set_blocking(write_fd, False)
    return read_fd, write_fd


# Values across the border

cdef rust_buffer allocate(uint64_t size) except *:
    cdef rust_status status
    status.code = 0
    cdef rust_buffer buffer = lib.alloc(size, &status)
    if status.code:
        raise MemoryError(f"no room for {size} bytes")
    return buffer


cdef void release(rust_buffer buffer) noexcept:
    cdef rust_status status
    status.code = 0
    lib.free_buffer(buffer, &status)


cdef Py_ssize_t copy_into(uint8_t *at, object data, Py_ssize_t start, Py_ssize_t most) except -1:
    """Copies at most so many bytes of the data, from an offset on, and returns how many there were."""
    cdef Py_buffer view
    cdef Py_ssize_t size
    if PyBytes_CheckExact(data):
        size = min(PyBytes_GET_SIZE(data) - start, most)
        memcpy(at, PyBytes_AS_STRING(data) + start, size)
        return size
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    size = min(view.len - start, most)
    memcpy(at, <char *>view.buf + start, size)
    PyBuffer_Release(&view)
    return size


cdef rust_buffer lower_bytes(object data) except *:
    """Bytes as UniFFI sends them: a big-endian length, then the bytes."""
    cdef Py_ssize_t size = len(data) if PyBytes_CheckExact(data) else memoryview(data).nbytes
    cdef rust_buffer buffer = allocate(size + 4)
    put_length(buffer.data, <uint32_t>size)
    try:
        copy_into(buffer.data + 4, data, 0, size)
    except:
        release(buffer)
        raise
    buffer.len = size + 4
    return buffer


cdef class Chunk:
    """Bytes that came in one large piece, where the library has put them."""
    cdef rust_buffer buffer

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.buffer.data + 4, self.buffer.len - 4, 1, flags)

    def __dealloc__(self):
        release(self.buffer)


cdef object lift_bytes(rust_buffer buffer):
    """The bytes in a buffer, copied if they are few."""
    cdef Chunk chunk
    if buffer.len >= LARGE:
        chunk = Chunk.__new__(Chunk)
        chunk.buffer = buffer
        return memoryview(chunk)
    data = PyBytes_FromStringAndSize(<char *>buffer.data + 4, buffer.len - 4)
    release(buffer)
    return data


cdef object lift_text(rust_buffer buffer):
    text = PyBytes_FromStringAndSize(<char *>buffer.data, buffer.len).decode("utf-8", "replace")
    release(buffer)
    return text


cdef object error_text(rust_status *status):
    """The text of a failure, whose buffer is consumed."""
    cdef rust_status inner
    cdef uint64_t handle
    cdef rust_buffer message
    if status.code != 1 or status.error.len != 8:
        return lift_text(status.error) if status.error.len else "the iroh library failed without a message"
    handle = get_u64(status.error.data)
    release(status.error)
    inner.code = 0
    message = lib.error_message(lib.clone_error(handle, &inner), &inner)
    text = lift_text(message)
    lib.free_error(handle, &inner)
    return text


# Operations

cdef enum Returns:
    RETURNS_VOID
    RETURNS_HANDLE
    RETURNS_BUFFER


cdef class Op:
    """One operation at a time; it can be started again once its outcome was taken."""
    cdef op c
    cdef Driver driver
    cdef Returns returns
    cdef bint complete  # the outcome waits to be taken
    cdef uint64_t handle
    cdef rust_buffer buffer
    cdef object failure  # a text, where it failed
    cdef object waiter

    def __cinit__(self, Driver driver, int returns):
        self.driver = driver
        self.returns = <Returns>returns
        self.c.queue = &driver.queue
        self.c.owner = <void *>self
        self.buffer.data = NULL

    cdef bint start(self, uint64_t future) except -1:
        """Whether it is complete at once."""
        global calls
        calls += 1
        self.c.future = future
        if self.poll():
            return True
        # Rust may report until the future is freed, and reports to this memory.
        self.driver.armed.add(self)
        return False

    cdef bint poll(self) except -1:
        cdef uint64_t data = <uint64_t><uintptr_t>&self.c
        cdef int state
        while True:
            op_start_poll(&self.c)
            if self.returns == RETURNS_VOID:
                lib.poll_void(self.c.future, progress, data)
            elif self.returns == RETURNS_HANDLE:
                lib.poll_u64(self.c.future, progress, data)
            else:
                lib.poll_buffer(self.c.future, progress, data)
            state = op_end_poll(&self.c)
            if state == OP_PENDING:
                return False
            if state == OP_READY:
                self.take_outcome()
                return True

    cdef int take_outcome(self) except -1:
        cdef rust_status status
        cdef uint64_t future = self.c.future
        status.code = 0
        status.error.len = 0
        op_idle(&self.c)
        self.c.future = 0
        if self.returns == RETURNS_VOID:
            lib.complete_void(future, &status)
        elif self.returns == RETURNS_HANDLE:
            self.handle = lib.complete_u64(future, &status)
        else:
            self.buffer = lib.complete_buffer(future, &status)
        self.free_future(future)
        self.complete = True
        if status.code:
            self.buffer.data = NULL
            self.failure = error_text(&status)
        else:
            self.failure = None
        return 0

    cdef void free_future(self, uint64_t future) noexcept:
        if self.returns == RETURNS_VOID:
            lib.free_void(future)
        elif self.returns == RETURNS_HANDLE:
            lib.free_u64(future)
        else:
            lib.free_buffer_future(future)

    cdef int progressed(self) except -1:
        """Rust has reported, and the driver has taken it off the stack."""
        if op_state(&self.c) == OP_DEAD:
            self.driver.armed.discard(self)
        elif self.poll():
            self.driver.armed.discard(self)
            self.completed()
        return 0

    cdef int completed(self) except -1:
        """It was not complete at once, but is now."""
        self.wake()
        return 0

    cdef int wake(self) except -1:
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        return 0

    cdef int give_up(self) except -1:
        """Ends it wherever it is; it cannot be started again."""
        cdef uint64_t future = self.c.future
        cdef bint reported
        if future:
            self.c.future = 0
            if not self.driver.here():
                return 0
            reported = op_give_up(&self.c)
            # If another thread is about to report, this waits for it.
            self.free_future(future)
            if not reported:
                self.driver.armed.discard(self)
        self.wake()
        return 0

    cdef bint pending(self) noexcept:
        return self.c.future != 0

    cdef rust_buffer take_buffer(self) noexcept:
        """The buffer that it has brought, which is the caller's from here on."""
        cdef rust_buffer buffer = self.buffer
        self.buffer.data = NULL
        return buffer

    cdef object wait(self):
        """A future that is done once there is an outcome, or none will come."""
        if self.waiter is not None and not self.waiter.done():
            raise RuntimeError("another task waits for this already")
        self.waiter = self.driver.new_future()
        return self.waiter

    def __del__(self):
        self.give_up()
        if self.complete and self.buffer.data != NULL and self.driver.here():
            release(self.buffer)
            self.buffer.data = NULL


cdef class Stopped(Op):
    """What becomes of a finished stream, for the future of whoever waits, or a call."""
    cdef Connection connection
    cdef object call
    cdef Stopped before  # what was asked earlier of the same stream

    cdef int completed(self) except -1:
        cdef rust_buffer buffer
        error = None
        self.complete = False
        if self.failure is not None:
            error = self.connection.to_error(self.failure)
        else:
            buffer = self.take_buffer()
            if buffer.data[0]:
                error = self.connection.to_stopped(get_u64(buffer.data + 1))
            release(buffer)
        return self.settle(error)

    cdef int settle(self, object error) except -1:
        waiter, self.waiter = self.waiter, None
        call, self.call = self.call, None
        if waiter is not None and not waiter.done():
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
                # Whoever still wants to know can ask; nobody may.
                waiter.exception()
        if call is not None:
            call()
        return 0

    cdef int abandon(self) except -1:
        """This side has reset the stream."""
        self.give_up_silently()
        self.settle_abandoned()
        return 0

    cdef int drop(self) except -1:
        """The stream was dropped unfinished, in whatever thread that was."""
        self.give_up_silently()
        loop = self.driver.loop_ref()
        if not self.driver.closed and self.driver.here() and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self.settle_abandoned)
        return 0

    cdef int give_up_silently(self) except -1:
        waiter, self.waiter = self.waiter, None
        self.give_up()
        self.waiter = waiter
        if self.before is not None:
            self.before.give_up_silently()
        return 0

    def settle_abandoned(self):
        before, self.before = self.before, None
        self.settle(self.connection.abandoned())
        if before is not None:
            (<Stopped>before).settle_abandoned()


cdef class Driver:
    """The operations of one event loop.

    The loop holds it through the reader of its descriptor, and lets go of that when it closes.
    """
    cdef op_queue queue
    cdef int read_fd
    cdef int generation
    cdef object loop_ref
    cdef set armed
    cdef bint closed
    cdef readonly uint64_t wakeups
    cdef readonly uint64_t reports
    cdef op *taken  # off the stack, and not yet taken up
    cdef object __weakref__

    def __cinit__(self):
        self.closed = True

    def __init__(self, loop):
        if not bound:
            raise RuntimeError("the driver has no library yet")
        if not self.closed:
            raise RuntimeError("a driver is for one loop")
        self.generation = generation
        self.loop_ref = weakref.ref(loop)
        self.armed = set()
        self.read_fd, self.queue.wake_fd = new_wake_fds()
        self.closed = False
        loop.add_reader(self.read_fd, _Reader(self))

    cdef bint here(self) noexcept:
        """Whether this is the process that made it, whose threads are those of the runtime."""
        return self.generation == generation

    cdef int check(self) except -1:
        """Raises where its operations cannot end any more."""
        if self.closed or self.generation != generation:
            self.living_loop()
        return 0

    cdef object new_future(self):
        return self.living_loop().create_future()

    cdef object living_loop(self):
        loop = self.loop_ref()
        if self.closed or loop is None:
            raise RuntimeError("the event loop of this connection is closed")
        if not self.here():
            raise RuntimeError("this connection belongs to the process that this one was forked from")
        return loop

    def pending(self):
        """How many operations are under way."""
        return len(self.armed)

    cdef int drain(self) except -1:
        """Takes up all that was reported."""
        cdef Op operation
        cdef uint64_t signals[64]
        if self.closed:
            return 0
        self.wakeups += 1
        # As many as there are: where none is left, that is an error, and nothing to see to.
        read_descriptor(self.read_fd, signals, sizeof(signals))
        if self.taken == NULL:
            self.taken = op_take_all(&self.queue)
        else:
            # What an interrupt has kept from being taken up; the rest must be looked for again.
            self.wake()
        while self.taken != NULL:
            operation = <Op>self.taken.owner
            self.taken = self.taken.next
            self.reports += 1
            try:
                operation.progressed()
            except Exception as error:
                self.living_loop().call_exception_handler({"message": "an operation failed", "exception": error})
            except BaseException:
                if self.taken != NULL:
                    self.wake()
                raise
        return 0

    cdef int wake(self) except -1:
        """Has itself called again."""
        cdef uint64_t one = 1
        write_descriptor(self.queue.wake_fd, &one, sizeof(one))
        return 0

    cdef int close(self) except -1:
        """The loop is closed: gives up what is under way. Nothing of it can be used any more."""
        if self.closed:
            return 0
        for operation in list(self.armed):
            (<Op>operation).waiter = None
            (<Op>operation).give_up()
        self.closed = True
        if self.here():
            op_take_all(&self.queue)
        self.taken = NULL
        self.armed.clear()
        close_descriptor(self.read_fd)
        if self.queue.wake_fd != self.read_fd:
            close_descriptor(self.queue.wake_fd)
        return 0

    def __del__(self):
        self.close()


cdef class _Reader:
    """What the loop calls; its end is that of the loop."""
    cdef Driver driver

    def __init__(self, Driver driver):
        self.driver = driver

    def __call__(self):
        self.driver.drain()

    def __del__(self):
        self.driver.close()


# The package's own calls
#
# The library reports on those to a function that it is given with a number, and does so with a connection's lock
# held. Were that function Python, its thread would wait for the GIL, and the thread that has the GIL for the lock, in
# a call of this driver. So it is `progress`, and the number stands for a `Continuation`. All loops watch one
# descriptor, which is never closed: a report may come when the loop that waited for it has long been closed.

cdef op_queue package_queue
cdef int package_read_fd = -1
cdef set package_waiting = set()
cdef object package_loops = weakref.WeakSet()
cdef list package_told = []

PROGRESS = <uint64_t><uintptr_t>&progress


cdef class Continuation:
    """A future of the package's, which waits for one report."""
    cdef op c
    cdef object loop
    cdef object future

    def __cinit__(self):
        self.c.queue = &package_queue
        self.c.owner = <void *>self


def package_waits(loop, future):
    """Has a future told what the library will report, and returns what that goes by."""
    cdef Continuation continuation = Continuation.__new__(Continuation)
    if loop not in package_loops:
        watch_package(loop)
    continuation.loop = loop
    continuation.future = future
    op_start_poll(&continuation.c)
    op_end_poll(&continuation.c)
    package_waiting.add(continuation)
    return <uint64_t><uintptr_t>&continuation.c


cdef int watch_package(object loop) except -1:
    global package_read_fd
    if package_read_fd < 0:
        package_read_fd, package_queue.wake_fd = new_wake_fds()
    loop.add_reader(package_read_fd, tell_package)
    package_loops.add(loop)
    return 0


def tell_package():
    """Tells the futures of all loops what was reported."""
    cdef uint64_t signals[64]
    cdef op *taken
    cdef Continuation continuation
    read_descriptor(package_read_fd, signals, sizeof(signals))
    taken = op_take_all(&package_queue)
    while taken != NULL:
        continuation = <Continuation>taken.owner
        taken = taken.next
        package_waiting.discard(continuation)
        code = 0 if op_state(&continuation.c) == OP_READY else 1
        package_told.append((continuation.loop, continuation.future, code))
    # What an interrupt keeps from being told now is told with the next.
    while package_told:
        loop, future, code = package_told.pop(0)
        if loop is get_running_loop():
            tell_future(future, code)
        else:
            try:
                loop.call_soon_threadsafe(tell_future, future, code)
            except RuntimeError:
                # It was closed, with what waited in it.
                pass


def tell_future(future, code):
    if not future.done():
        future.set_result(code)


# Streams

cdef uint32_t FIRST_READ = 4 * 1024
cdef Py_ssize_t READ_SIZE = 256 * 1024
cdef Py_ssize_t PIECE = 256 * 1024


cdef class RecvStream:
    """The receiving half of a stream."""
    cdef Connection connection
    cdef uint64_t handle
    cdef Op reading
    cdef uint32_t size  # of the next read: the library makes a buffer of that size, and clears it
    cdef uint32_t asked
    cdef object held  # what came beyond the limit of the read that took it
    cdef bint over

    cdef object take(self, Py_ssize_t limit):
        """What the complete read has brought."""
        cdef Op reading = self.reading
        reading.complete = False
        if reading.failure is not None:
            self.over = True
            raise self.connection.to_error(reading.failure)
        data = lift_bytes(reading.take_buffer())
        if not data:
            self.over = True
        elif len(data) >= self.asked:
            self.size = <uint32_t>min(<Py_ssize_t>self.asked * 4, READ_SIZE)
        return self.within(data, limit)

    cdef object within(self, object data, Py_ssize_t limit):
        self.held = None
        if len(data) > limit:
            self.held = data[limit:]
            return data[:limit]
        return data

    def read_nowait(self, Py_ssize_t limit=READ_SIZE):
        if self.held is not None:
            return self.within(self.held, limit)
        if self.over:
            return b""
        if self.reading.complete:
            return self.take(limit)
        if self.reading.pending():
            self.connection.driver.check()
            return None
        self.asked = <uint32_t>min(<Py_ssize_t>self.size, limit)
        if self.reading.start(lib.read(self.connection.clone(lib.clone_recv, self.handle), self.asked)):
            return self.take(limit)
        return None

    async def read(self, Py_ssize_t limit=READ_SIZE):
        data = self.read_nowait(limit)
        while data is None:
            await self.reading.wait()
            data = self.read_nowait(limit)
        return data

    def stop(self, uint64_t code):
        cdef Connection connection = self.connection
        if not self.over:
            self.over = True
            self.held = None
            # Else the read would keep its lock on the stream.
            self.reading.give_up()
            connection.detach(lib.stop(connection.clone(lib.clone_recv, self.handle), connection.to_wire(code)))

    def __init__(self):
        raise TypeError("a connection makes its streams")

    def __del__(self):
        if self.connection is not None:
            self.reading.give_up()
            self.connection.drop(lib.free_recv, self.handle)


cdef RecvStream new_recv(Connection connection, uint64_t handle):
    cdef RecvStream stream = RecvStream.__new__(RecvStream)
    stream.connection = connection
    stream.handle = handle
    stream.size = FIRST_READ
    stream.reading = Op.__new__(Op, connection.driver, RETURNS_BUFFER)
    return stream


cdef class Write(Op):
    """A write in pieces. Each goes out when the library has taken the one before, without a turn of the loop."""
    cdef Connection connection
    cdef uint64_t stream
    cdef tuple data
    cdef Py_ssize_t index  # of the first buffer that is not wholly written
    cdef Py_ssize_t offset  # in that buffer
    cdef Py_ssize_t left  # bytes

    cdef bint begin(self, tuple data) except -1:
        """Whether all is written at once."""
        cdef Py_ssize_t left = 0
        cdef list held = None
        cdef Py_ssize_t i = 0
        for each in data:
            if PyBytes_CheckExact(each):
                left += PyBytes_GET_SIZE(each)
            else:
                # A view keeps it from being resized before it is written.
                view = memoryview(each)
                if not view.c_contiguous:
                    raise BufferError("the bytes of a buffer that is written must follow one another")
                left += view.nbytes
                if held is None:
                    held = list(data)
                held[i] = view
            i += 1
        self.data = data if held is None else tuple(held)
        self.index = self.offset = 0
        self.left = left
        return self.go_on()

    cdef bint go_on(self) except -1:
        cdef rust_buffer buffer
        while self.left and self.failure is None:
            self.complete = False
            self.driver.check()
            # The call consumes it and a handle, so neither may be left over where the other cannot be made.
            buffer = self.piece()
            if not self.start(lib.write_all(self.connection.clone(lib.clone_send, self.stream), buffer)):
                return False
        self.data = None
        return True

    cdef rust_buffer piece(self) except *:
        """The next bytes, in one buffer."""
        cdef Py_ssize_t size = min(self.left, PIECE)
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t count
        cdef rust_buffer buffer = allocate(size + 4)
        put_length(buffer.data, <uint32_t>size)
        try:
            while at < size:
                count = copy_into(buffer.data + 4 + at, self.data[self.index], self.offset, size - at)
                at += count
                if at < size:
                    self.index += 1
                    self.offset = 0
                else:
                    self.offset += count
        except:
            release(buffer)
            raise
        self.left -= size
        buffer.len = size + 4
        return buffer

    cdef int completed(self) except -1:
        if self.go_on():
            self.wake()
        return 0


cdef class SendStream:
    """The sending half of a stream."""
    cdef Connection connection
    cdef uint64_t handle
    cdef Write writing
    cdef Stopped fate
    cdef bint finished
    cdef bint over

    def write_nowait(self, *data):
        cdef Write writing = self.writing
        if writing.pending():
            raise RuntimeError("a write on this stream is under way: await flushed() first")
        if self.over:
            raise self.connection.abandoned()
        if writing.begin(data):
            self.check()
            return True
        return False

    async def flushed(self):
        while self.writing.pending():
            await self.writing.wait()
        if self.over:
            raise self.connection.abandoned()
        self.check()

    async def write(self, *data):
        if not self.write_nowait(*data):
            await self.flushed()

    cdef int check(self) except -1:
        failure, self.writing.failure = self.writing.failure, None
        if failure is not None:
            raise self.connection.to_error(failure)
        return 0

    def finish(self):
        cdef Connection connection = self.connection
        if not self.over:
            self.finished = True
            connection.detach(lib.finish(connection.clone(lib.clone_send, self.handle)))

    def acknowledged(self):
        future = self.connection.driver.new_future()
        self.await_fate(future, None)
        return future

    def when_over(self, call):
        self.await_fate(None, call)

    cdef int await_fate(self, object future, object call) except -1:
        cdef Connection connection = self.connection
        cdef Stopped fate = Stopped.__new__(Stopped, connection.driver, RETURNS_BUFFER)
        fate.connection = connection
        fate.waiter = future
        fate.call = call
        if self.over:
            return fate.settle(connection.abandoned())
        if self.fate is not None and self.fate.pending():
            fate.before = self.fate
        self.fate = fate
        if fate.start(lib.stopped(connection.clone(lib.clone_send, self.handle))):
            fate.completed()
        return 0

    def reset(self, uint64_t code):
        cdef Connection connection = self.connection
        if not self.over:
            self.over = True
            # Else they would keep their lock on the stream.
            self.writing.give_up()
            if self.fate is not None:
                self.fate.abandon()
            connection.detach(lib.reset(connection.clone(lib.clone_send, self.handle), connection.to_wire(code)))

    def set_priority(self, int32_t priority):
        cdef Connection connection = self.connection
        if not self.over:
            connection.detach(lib.set_priority(connection.clone(lib.clone_send, self.handle), priority))

    def __init__(self):
        raise TypeError("a connection makes its streams")

    def __del__(self):
        if self.connection is not None:
            self.writing.give_up()
            if self.fate is not None and not self.finished and not self.over:
                # It would keep open what nobody can end any more.
                self.fate.drop()
            self.connection.drop(lib.free_send, self.handle)


cdef SendStream new_send(Connection connection, uint64_t handle):
    cdef SendStream stream = SendStream.__new__(SendStream)
    cdef Write writing
    stream.connection = connection
    stream.handle = handle
    writing = stream.writing = Write.__new__(Write, connection.driver, RETURNS_VOID)
    writing.connection = connection
    writing.stream = handle
    return stream


cdef class Closed(Op):
    """The end of the connection, and what is to be called with the library's words for it."""
    cdef object report

    cdef int completed(self) except -1:
        report, self.report = self.report, None
        report(self.failure if self.failure is not None else lift_text(self.take_buffer()))
        return 0


cdef class Connection:
    """The streams of one connection, for the loop that runs when it is made.

    Args:
        handle: a handle of the library's connection, which is freed with this object.
        closed: called once with the library's words for the end of the connection.
        error: makes an exception of the library's words for a failure.
        stopped: makes an exception of a code with which the peer stopped a stream.
        abandoned: makes the exception for the use of a stream that this side has reset.
        to_wire: a stream code as it travels.
    """
    cdef Driver driver
    cdef uint64_t handle
    cdef Op accepting_bi
    cdef Op accepting_uni
    cdef Op receiving
    cdef Closed closing
    cdef object error
    cdef object stopped
    cdef readonly object abandoned
    cdef object wire

    def __init__(self, Driver driver, uint64_t handle, *, closed, error, stopped, abandoned, to_wire):
        self.driver = driver
        self.handle = handle
        self.error = error
        self.stopped = stopped
        self.abandoned = abandoned
        self.wire = to_wire
        self.wait_anew()
        self.closing = Closed.__new__(Closed, driver, RETURNS_BUFFER)
        self.closing.report = closed
        driver.living_loop()
        if self.closing.start(lib.closed(self.clone(lib.clone_connection, handle))):
            self.closing.completed()

    cdef int wait_anew(self) except -1:
        self.accepting_bi = Op.__new__(Op, self.driver, RETURNS_HANDLE)
        self.accepting_uni = Op.__new__(Op, self.driver, RETURNS_HANDLE)
        self.receiving = Op.__new__(Op, self.driver, RETURNS_BUFFER)
        return 0

    # For its streams

    cdef uint64_t clone(self, handle_fn function, uint64_t handle) except? 0:
        """A handle for a call to consume."""
        cdef rust_status status
        self.driver.check()
        status.code = 0
        return function(handle, &status)

    cdef int drop(self, drop_fn function, uint64_t handle) except -1:
        cdef rust_status status
        if handle and self.driver.here():
            status.code = 0
            function(handle, &status)
        return 0

    cdef int detach(self, uint64_t future) except -1:
        """Sees a call to its end whose outcome nobody waits for: it can only be too late."""
        (<Op>Op.__new__(Op, self.driver, RETURNS_VOID)).start(future)
        return 0

    cdef object to_error(self, object text):
        return self.error(text)

    cdef object to_stopped(self, uint64_t code):
        return self.stopped(code)

    cdef uint64_t to_wire(self, uint64_t code) except? 0:
        return self.wire(code)

    cdef uint64_t take(self, Op operation) except? 0:
        """The handle that a complete operation has brought."""
        operation.complete = False
        if operation.failure is not None:
            raise self.to_error(operation.failure)
        return operation.handle

    # Opening

    def open_uni_nowait(self):
        cdef Op opening = Op.__new__(Op, self.driver, RETURNS_HANDLE)
        if opening.start(lib.open_uni(self.clone(lib.clone_connection, self.handle))):
            return new_send(self, self.take(opening))
        opening.give_up()
        return None

    async def open_uni(self):
        cdef Op opening = Op.__new__(Op, self.driver, RETURNS_HANDLE)
        if not opening.start(lib.open_uni(self.clone(lib.clone_connection, self.handle))):
            try:
                await opening.wait()
            except BaseException:
                if opening.complete and opening.failure is None:
                    # Nobody will ever use it, and a stream that ends without a word would puzzle the peer.
                    new_send(self, self.take(opening)).reset(0)
                opening.give_up()
                raise
        return new_send(self, self.take(opening))

    async def open_bi(self):
        cdef Op opening = Op.__new__(Op, self.driver, RETURNS_HANDLE)
        if not opening.start(lib.open_bi(self.clone(lib.clone_connection, self.handle))):
            try:
                await opening.wait()
            except BaseException:
                if opening.complete and opening.failure is None:
                    send, recv = self.halves(self.take(opening))
                    send.reset(0)
                    recv.stop(0)
                opening.give_up()
                raise
        return self.halves(self.take(opening))

    cdef tuple halves(self, uint64_t stream):
        cdef rust_status status
        status.code = 0
        send = new_send(self, lib.bi_send(lib.clone_bi(stream, &status), &status))
        recv = new_recv(self, lib.bi_recv(lib.clone_bi(stream, &status), &status))
        lib.free_bi(stream, &status)
        return send, recv

    # Accepting

    def accept_uni_nowait(self):
        cdef Op accepting = self.accepting_uni
        if not accepting.complete:
            if accepting.pending():
                self.driver.check()
                return None
            if not accepting.start(lib.accept_uni(self.clone(lib.clone_connection, self.handle))):
                return None
        return new_recv(self, self.take(accepting))

    async def accept_uni(self):
        stream = self.accept_uni_nowait()
        while stream is None:
            await self.accepting_uni.wait()
            stream = self.accept_uni_nowait()
        return stream

    async def accept_bi(self):
        while not self.accepting_bi.complete:
            if not self.accepting_bi.pending():
                if self.accepting_bi.start(lib.accept_bi(self.clone(lib.clone_connection, self.handle))):
                    break
            await self.accepting_bi.wait()
        return self.halves(self.take(self.accepting_bi))

    @property
    def accept_is_idle(self):
        """Whether an accept waits, and no unidirectional stream had come when this was asked."""
        return self.accepting_uni.pending() and op_state(&self.accepting_uni.c) == OP_PENDING

    # Datagrams

    def send_datagram(self, data):
        cdef rust_status status
        status.code = 0
        status.error.len = 0
        # A call consumes both, so none may be left over where the other cannot be made.
        self.driver.check()
        cdef rust_buffer buffer = lower_bytes(data)
        lib.send_datagram(self.clone(lib.clone_connection, self.handle), buffer, &status)
        if status.code:
            raise self.to_error(error_text(&status))

    async def read_datagram(self):
        cdef Op receiving
        while not self.receiving.complete:
            if not self.receiving.pending():
                if self.receiving.start(lib.read_datagram(self.clone(lib.clone_connection, self.handle))):
                    break
            await self.receiving.wait()
        receiving = self.receiving
        receiving.complete = False
        if receiving.failure is not None:
            raise self.to_error(receiving.failure)
        return lift_bytes(receiving.take_buffer())

    # The end

    def close(self, int64_t code, reason):
        cdef rust_status status
        status.code = 0
        status.error.len = 0
        self.driver.check()
        cdef rust_buffer buffer = lower_bytes(reason)
        lib.close(self.clone(lib.clone_connection, self.handle), code, buffer, &status)
        if status.code:
            raise self.to_error(error_text(&status))

    def give_up(self):
        """Ends what waits for the peer, and drops what has come and was not asked for."""
        cdef Op uni = self.accepting_uni
        cdef Op bi = self.accepting_bi
        cdef Op receiving = self.receiving
        # Given up, they may still be on the driver's stack, so they cannot be started again.
        self.wait_anew()
        bi.give_up()
        uni.give_up()
        receiving.give_up()
        if uni.complete and uni.failure is None:
            self.drop(lib.free_recv, uni.handle)
        if bi.complete and bi.failure is None:
            self.drop(lib.free_bi, bi.handle)

    def __del__(self):
        if self.closing is not None:
            self.give_up()
            self.closing.give_up()
        if self.driver is not None:
            self.drop(lib.free_connection, self.handle)
