# cython: language_level=3, binding=False, embedsignature=False, boundscheck=False, wraparound=False
# cython: auto_pickle=False
"""Cuts frames from what has come of a group's stream, in C.

Only what is plain: whatever is not whole, too large or wrong is left where it is, for the decoder.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t


cdef inline Py_ssize_t _varint(const uint8_t *at, Py_ssize_t left, uint64_t *value) noexcept nogil:
    """Reads a number; how many bytes it has, or 0 if they are not all there."""
    cdef Py_ssize_t size, i
    cdef uint64_t number
    if left < 1:
        return 0
    number = at[0]
    if number < 0x40:
        value[0] = number
        return 1
    size = <Py_ssize_t> 1 << (number >> 6)
    if left < size:
        return 0
    number &= 0x3F
    for i in range(1, size):
        number = number << 8 | at[i]
    value[0] = number
    return size


def cut(bytes data not None, Py_ssize_t position, uint64_t most, list frames not None):
    cdef const uint8_t *start = <const uint8_t *> PyBytes_AS_STRING(data)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(data), at
    cdef uint64_t size
    while position < end:
        at = _varint(start + position, end - position, &size)
        if at == 0 or size > most or size > <uint64_t> (end - position - at):
            break
        position += at
        frames.append(PyBytes_FromStringAndSize(<const char *> start + position, <Py_ssize_t> size))
        position += <Py_ssize_t> size
    return position


def cut_timed(
    bytes data not None,
    Py_ssize_t position,
    uint64_t most,
    int64_t last,
    int64_t latest,
    list frames not None,
    list times not None,
):
    cdef const uint8_t *start = <const uint8_t *> PyBytes_AS_STRING(data)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(data), at, more
    cdef uint64_t difference, size
    cdef int64_t moved
    cdef object stamp = last
    while position < end:
        at = _varint(start + position, end - position, &difference)
        if at == 0:
            break
        more = _varint(start + position + at, end - position - at, &size)
        at += more
        if more == 0 or size > most or size > <uint64_t> (end - position - at):
            break
        if difference:
            moved = <int64_t> (difference >> 1)
            moved = last + moved if difference & 1 == 0 else last - moved - 1
            if not 0 <= moved <= latest:
                break
            last = moved
            stamp = last
        position += at
        frames.append(PyBytes_FromStringAndSize(<const char *> start + position, <Py_ssize_t> size))
        times.append(stamp)
        position += <Py_ssize_t> size
    return position, last
