# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, binding=False, autotestdict=False, freethreading_compatible=False
"""The C core: the map, slots and their gather, blocks. Thin, named after the C it calls; policy lives in store/."""

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_SIMPLE, PyBUF_WRITABLE,
    PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

import os

cdef extern from "format.h":
    enum:
        MS_MAX_DIMS, MS_ENTRY_BYTES, MS_TENSOR, MS_FAILURE, MS_BLOCK_FIXED, MS_HEADER_MIN, MS_HEADER_STEP
        MS_PAGE_HEADER, MS_ALIGN
    uint32_t ms_itemsize(uint32_t) nogil
    uint16_t ms_load16(const uint8_t *) nogil
    uint32_t ms_load32(const uint8_t *) nogil
    uint64_t ms_load64(const uint8_t *) nogil
    void ms_store32(uint8_t *, uint32_t) nogil
    void ms_store64(uint8_t *, uint64_t) nogil

cdef extern from "block.h":
    ctypedef struct ms_block:
        uint32_t header_bytes, view, count, run, table_bytes
        uint64_t block, total_bytes, checksum
        int64_t time
    ctypedef struct ms_record:
        uint64_t checksum
        uint32_t offset, bytes
        uint8_t dtype, ndim, flags
        uint16_t name_bytes
        uint32_t shape[6]
        const uint8_t *name
    size_t ms_header_bytes(size_t) nogil
    size_t ms_record_bytes(size_t, size_t) nogil
    size_t ms_write_record(uint8_t *, const ms_record *) nogil
    void ms_write_block(uint8_t *, const ms_block *) nogil
    int ms_read_block(const uint8_t *, size_t, ms_block *) nogil
    int ms_read_record(const uint8_t *, const ms_block *, size_t *, ms_record *) nogil

cdef extern from "scan.h":
    enum:
        MS_NONFINITE, MS_ZERO_ROW
    unsigned ms_scan(const uint8_t *, uint32_t, size_t, size_t) nogil

cdef extern from "slot.h":
    enum:
        MS_UNRESOLVED, MS_MISSING
    ctypedef struct ms_slot:
        uint64_t offset
        uint32_t bytes, length
        uint8_t dtype, status, flags
    ctypedef struct ms_shape_rule:
        uint64_t page_bytes, file_bytes, row_elements
        int ragged
    int ms_resolve(const uint8_t *, size_t, const ms_shape_rule *, ms_slot *) nogil

cdef extern from "map.h":
    ctypedef struct ms_map:
        int fd
        uint8_t *base
        size_t reserved
    ctypedef struct ms_warmth:
        pass
    int ms_map_open(ms_map *, const char *, size_t) nogil
    void ms_map_close(ms_map *) nogil
    int64_t ms_map_size(const ms_map *) nogil
    void ms_willneed(const ms_map *, const ms_slot *, size_t) nogil
    bint ms_looks_cold(const ms_map *, const ms_slot *, size_t, ms_warmth *) nogil

cdef extern from "gather.h":
    ctypedef struct ms_batch:
        uint8_t *out
        uint32_t dtype
        uint64_t row_elements
    ctypedef enum ms_gather_status:
        MS_GATHERED
    uint64_t ms_total_rows(const ms_slot *, size_t, uint64_t) nogil
    ms_gather_status ms_check(const ms_map *, const ms_slot *, size_t, uint32_t, int, size_t *) nogil
    ms_gather_status ms_gather(
        const ms_map *, const ms_slot *, size_t, uint64_t, const ms_batch *) nogil
    ms_gather_status ms_pad(
        const ms_map *, const ms_slot *, size_t, uint64_t, int, const ms_batch *) nogil

ENTRY_BYTES = MS_ENTRY_BYTES
MAX_DIMS = MS_MAX_DIMS

NONFINITE = MS_NONFINITE
ZERO_ROW = MS_ZERO_ROW

UNRESOLVED = MS_UNRESOLVED
TENSOR = MS_TENSOR
FAILURE = MS_FAILURE
MISSING = MS_MISSING

# ms_gather_status
GATHERED = 0
NOT_THERE = 1
CANNOT_CAST = 2
CUT_SHORT = 3
READ_ERROR = 4
NO_MEMORY = 5


cdef class Map:
    """A read-only mapping of a whole file (``ms_map``). ``reserve=0`` maps nothing: payloads are read with ``pread``."""

    cdef ms_map map

    def __cinit__(self, path, size_t reserve):
        self.map.fd = -1
        cdef bytes name = os.fsencode(path)
        cdef int error = ms_map_open(&self.map, PyBytes_AS_STRING(name), reserve)
        if error:
            raise OSError(error, os.strerror(error), path)

    def __dealloc__(self):
        ms_map_close(&self.map)

    @property
    def mapped(self):
        return self.map.base != NULL

    @property
    def reserved(self):
        return self.map.reserved

    def size(self):
        """The file's length now; -1 where it cannot be told."""
        return ms_map_size(&self.map)

    def payload(self, uint64_t offset, size_t nbytes, owner):
        """A read-only buffer over the map that keeps ``owner`` alive; a copy where nothing is mapped."""
        cdef int64_t size = ms_map_size(&self.map)
        if self.map.base != NULL and size > <int64_t>self.map.reserved:
            size = self.map.reserved
        if size < 0 or nbytes > <uint64_t>size or offset > <uint64_t>size - nbytes:
            raise EOFError
        if self.map.base == NULL:
            data = os.pread(self.map.fd, nbytes, offset)
            if <size_t>len(data) != nbytes:
                raise EOFError
            return data
        cdef Payload payload = Payload.__new__(Payload)
        payload.base = self.map.base + offset
        payload.nbytes = nbytes
        payload.owners = (self, owner)
        return payload


cdef class Payload:
    """Bytes of a map, as a buffer. What it was given as owner lives as long as anything looks at them."""

    cdef const uint8_t *base
    cdef size_t nbytes
    cdef tuple owners

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void *>self.base, self.nbytes, 1, flags)

    def __len__(self):
        return self.nbytes


cdef class Slots:
    """A growing array of ``ms_slot``. Rows are int64 arrays of positions in it."""

    cdef ms_slot *slots
    cdef size_t count, capacity
    cdef ms_warmth warmth

    def __cinit__(self, size_t count=0):
        self.grow(count)

    def __dealloc__(self):
        free(self.slots)

    def __len__(self):
        return self.count

    def grow(self, size_t count):
        """Add ``count`` unresolved slots."""
        cdef ms_slot *moved
        cdef size_t capacity
        if self.count + count > self.capacity or self.slots == NULL:
            capacity = 2 * self.capacity + 16
            if capacity < self.count + count:
                capacity = self.count + count
            moved = <ms_slot *>realloc(self.slots, capacity * sizeof(ms_slot))
            if moved == NULL:
                raise MemoryError
            self.slots = moved
            self.capacity = capacity
        memset(self.slots + self.count, 0, count * sizeof(ms_slot))
        self.count += count

    def forget(self, bint tensors):
        """Make slots unresolved again: those without tensor, or all."""
        cdef size_t i
        for i in range(self.count):
            if tensors or self.slots[i].status != MS_TENSOR:
                memset(self.slots + i, 0, sizeof(ms_slot))

    def pending(self, const int64_t[::1] rows):
        """The rows that are not resolved yet, as a list."""
        return [row for row in rows if self.slots[<size_t>row].status == MS_UNRESOLVED]

    def resolve(self, list rows, list values, uint64_t page_bytes, uint64_t file_bytes, uint64_t row_elements,
                bint ragged, dict pages):
        """Resolve ``rows`` from their index entries (bytes, or None for no entry).

        ``pages`` (block number to page) overrules the page in the entry where it is not None. Returns the first position whose entry
        contradicts itself, the file or the view; -1 if none does.
        """
        cdef ms_shape_rule rule
        cdef uint8_t[72] entry
        cdef bytes value
        cdef size_t i
        rule.page_bytes, rule.file_bytes, rule.row_elements, rule.ragged = page_bytes, file_bytes, row_elements, ragged
        for i in range(<size_t>len(rows)):
            row = rows[i]
            if values[i] is None:
                memset(self.slots + <size_t>row, 0, sizeof(ms_slot))
                self.slots[<size_t>row].status = MS_MISSING
                continue
            value = values[i]
            if PyBytes_GET_SIZE(value) < MS_ENTRY_BYTES:
                return i
            memcpy(entry, PyBytes_AS_STRING(value), MS_ENTRY_BYTES)
            if pages is not None and entry[0] == MS_TENSOR:
                ms_store64(entry + 32, pages.get(ms_load64(entry + 24), <uint64_t>-1))
            if ms_resolve(entry, MS_ENTRY_BYTES, &rule, self.slots + <size_t>row) != 0:
                self.slots[<size_t>row].status = MS_UNRESOLVED
                return i
        return -1

    def pick(self, const int64_t[::1] rows):
        """The slots of ``rows``, copied: what happens to these here does not touch a gather that is under way.

        IndexError for a row that does not exist.
        """
        cdef Picked picked = Picked.__new__(Picked)
        cdef size_t i, count = <size_t>rows.shape[0]
        picked.slots = <ms_slot *>malloc((count + 1) * sizeof(ms_slot))
        if picked.slots == NULL:
            raise MemoryError
        picked.count = count
        picked.parent = self
        for i in range(count):
            if <uint64_t>rows[i] >= self.count:
                raise IndexError(f"row {rows[i]} of a selection of {self.count}")
            picked.slots[i] = self.slots[rows[i]]
            picked.unresolved += picked.slots[i].status == MS_UNRESOLVED
            picked.tensors += picked.slots[i].status == MS_TENSOR
        return picked


cdef class Picked:
    """The slots of one batch."""

    cdef ms_slot *slots
    cdef size_t count
    cdef readonly size_t unresolved, tensors
    cdef Slots parent

    def __dealloc__(self):
        free(self.slots)

    def __len__(self):
        return self.count

    def statuses(self):
        """One byte per slot: UNRESOLVED, TENSOR, FAILURE or MISSING."""
        cdef bytes result = PyBytes_FromStringAndSize(NULL, self.count)
        cdef char *at = PyBytes_AS_STRING(result)
        cdef size_t i
        for i in range(self.count):
            at[i] = self.slots[i].status
        return result

    def lengths(self, int64_t[::1] out):
        """Write each slot's length (0 where there is no tensor) to ``out``, as long as the batch."""
        cdef size_t i
        for i in range(self.count):
            out[i] = self.slots[i].length if self.slots[i].status == MS_TENSOR else 0

    def location(self, size_t i):
        """``(offset, bytes, dtype code)`` of a tensor."""
        return self.slots[i].offset, self.slots[i].bytes, self.slots[i].dtype

    def without_missing(self):
        """The slots that have a tensor."""
        cdef Picked picked = Picked.__new__(Picked)
        cdef size_t i
        picked.slots = <ms_slot *>malloc((self.count + 1) * sizeof(ms_slot))
        if picked.slots == NULL:
            raise MemoryError
        picked.parent = self.parent
        for i in range(self.count):
            if self.slots[i].status == MS_TENSOR:
                picked.slots[picked.count] = self.slots[i]
                picked.count += 1
        picked.tensors = picked.count
        return picked

    def willneed(self, Map map):
        """Ask for the pages of the batch without waiting."""
        if map.map.base != NULL:
            with nogil:
                ms_willneed(&map.map, self.slots, self.count)

    def gather(self, Map map, out, uint32_t dtype, uint64_t row_elements, uint64_t missing, bint allow_missing):
        """``ms_gather`` into the writable contiguous buffer ``out``: ``(status, position, errno)``."""
        return self._run(map, out, dtype, row_elements, missing, allow_missing, -1, False)

    def pad(self, Map map, out, uint32_t dtype, uint64_t row_elements, uint64_t padded, bint front):
        """``ms_pad`` into the writable contiguous buffer ``out``: ``(status, position, errno)``."""
        return self._run(map, out, dtype, row_elements, 0, True, <int64_t>padded, front)

    cdef tuple _run(self, Map map, out, uint32_t dtype, uint64_t row_elements, uint64_t missing, bint allow_missing,
                    int64_t padded, bint front):
        cdef Py_buffer buffer
        cdef ms_batch batch
        cdef size_t bad = 0
        cdef ms_gather_status status
        cdef bint cold
        cdef uint64_t rows
        cdef int error = 0
        if self.count == 0:
            return GATHERED, 0, 0
        PyObject_GetBuffer(out, &buffer, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS)
        try:
            rows = ms_total_rows(self.slots, self.count, missing) if padded < 0 else self.count * <uint64_t>padded
            if <uint64_t>buffer.len < rows * row_elements * ms_itemsize(dtype):
                raise ValueError("out is too small for the batch")
            batch.out = <uint8_t *>buffer.buf
            batch.dtype = dtype
            batch.row_elements = row_elements
            cold = map.map.base != NULL and ms_looks_cold(&map.map, self.slots, self.count, &self.parent.warmth)
            with nogil:
                status = ms_check(&map.map, self.slots, self.count, dtype, allow_missing, &bad)
                if status == MS_GATHERED:
                    if cold:
                        ms_willneed(&map.map, self.slots, self.count)
                    if padded < 0:
                        status = ms_gather(&map.map, self.slots, self.count, missing, &batch)
                    else:
                        status = ms_pad(&map.map, self.slots, self.count, <uint64_t>padded, front, &batch)
                    error = errno
        finally:
            PyBuffer_Release(&buffer)
        return status, bad, error


cdef class BlockBuilder:
    """One block in the making: payloads behind room for the largest header, which is written in front of them at the end."""

    cdef uint8_t *memory
    cdef uint8_t *table
    cdef readonly size_t capacity
    cdef readonly size_t used             # payload bytes so far, gaps included
    cdef readonly size_t payload_bytes    # without gaps
    cdef size_t table_used, table_capacity, header_room, value_bytes
    cdef uint32_t count
    cdef uint8_t *value

    def __cinit__(self, size_t capacity, size_t table_capacity):
        self.capacity = capacity
        self.table_capacity = table_capacity
        self.header_room = ms_header_bytes(table_capacity)
        # malloc: the pages of a reused builder stay warm, and unused room is never touched
        self.memory = <uint8_t *>malloc(self.header_room + capacity)
        self.table = <uint8_t *>malloc(table_capacity)
        if self.memory == NULL or self.table == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.memory)
        free(self.table)

    def __len__(self):
        return self.count

    def reset(self):
        self.used = self.payload_bytes = self.table_used = self.value_bytes = 0
        self.count = 0

    def fits(self, size_t nbytes, size_t ndim, size_t name_bytes):
        """Whether one more entry of this size finds room."""
        return (self.aligned() + nbytes <= self.capacity
                and self.table_used + ms_record_bytes(ndim, name_bytes) <= self.table_capacity)

    cdef size_t aligned(self):
        return (self.used + MS_ALIGN - 1) // MS_ALIGN * MS_ALIGN

    def add(self, bytes name, uint8_t dtype, tuple shape, uint8_t flags, uint64_t checksum, data):
        """Copy one payload in. The caller has asked ``fits``. Returns its offset from the end of the header."""
        cdef ms_record record
        cdef Py_buffer buffer
        cdef size_t i, at = self.aligned()
        PyObject_GetBuffer(data, &buffer, PyBUF_C_CONTIGUOUS)
        try:
            if at + <size_t>buffer.len > self.capacity:
                raise ValueError("the entry does not fit this block")
            memset(self.memory + self.header_room + self.used, 0, at - self.used)
            with nogil:
                memcpy(self.memory + self.header_room + at, buffer.buf, buffer.len)
            record.bytes = <uint32_t>buffer.len
        finally:
            PyBuffer_Release(&buffer)
        record.checksum = checksum
        record.offset = <uint32_t>at       # becomes the offset in the block when the header's size is known
        record.dtype = dtype
        record.ndim = <uint8_t>len(shape)
        record.flags = flags
        record.name_bytes = <uint16_t>PyBytes_GET_SIZE(name)
        record.name = <const uint8_t *>PyBytes_AS_STRING(name)
        for i in range(record.ndim):
            record.shape[i] = shape[i]
        self.table_used += ms_write_record(self.table + self.table_used, &record)
        self.used = at + record.bytes
        self.payload_bytes += record.bytes
        self.count += 1
        return at

    def seal(self, uint32_t view, uint64_t block, uint32_t run, int64_t time, digest):
        """Write the header. Returns its size; the whole value is then this object's buffer. ``digest`` is XXH3-64 over a buffer."""
        cdef ms_block header
        cdef size_t header_bytes = ms_header_bytes(self.table_used), position = 0
        cdef uint8_t *record
        header.header_bytes = <uint32_t>header_bytes
        header.view, header.block, header.run, header.time = view, block, run, time
        header.count = self.count
        header.table_bytes = <uint32_t>self.table_used
        header.total_bytes = header_bytes + self.used
        header.checksum = 0
        self.value = self.memory + self.header_room - header_bytes
        self.value_bytes = header_bytes + self.used
        memset(self.value, 0, header_bytes)
        memcpy(self.value + MS_BLOCK_FIXED, self.table, self.table_used)
        while position < self.table_used:
            record = self.value + MS_BLOCK_FIXED + position
            # record + 8: offset; + 13: dimensions; + 14: bytes of the name
            position += ms_record_bytes(record[13], ms_load16(record + 14))
            ms_store32(record + 8, ms_load32(record + 8) + <uint32_t>header_bytes)
        ms_write_block(self.value, &header)
        ms_store64(self.value + 56, digest(memoryview(self)[:MS_BLOCK_FIXED + self.table_used]))
        return header_bytes

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.value_bytes == 0:
            raise BufferError("the block is not sealed")
        PyBuffer_FillInfo(buffer, self, self.value, self.value_bytes, 1, flags)


def read_block(data):
    """Read a block's header and table: ``(fields, records)``, or None where it is none or contradicts itself.

    ``fields`` is a dict of header_bytes, view, count, run, table_bytes, block, total_bytes, checksum and time; a record is
    ``(name, dtype, shape, flags, checksum, offset, bytes)``. Checksums are not verified here.
    """
    cdef Py_buffer buffer
    cdef ms_block header
    cdef ms_record record
    cdef size_t position = 0
    cdef const uint8_t *at
    PyObject_GetBuffer(data, &buffer, PyBUF_C_CONTIGUOUS)
    try:
        at = <const uint8_t *>buffer.buf
        if ms_read_block(at, buffer.len, &header) != 0 or header.total_bytes != <uint64_t>buffer.len:
            return None
        records = []
        for _ in range(header.count):
            if ms_read_record(at, &header, &position, &record) != 0:
                return None
            records.append((
                PyBytes_FromStringAndSize(<const char *>record.name, record.name_bytes),
                record.dtype,
                tuple([record.shape[i] for i in range(record.ndim)]),
                record.flags, record.checksum, record.offset, record.bytes,
            ))
        if position != header.table_bytes:
            return None
        return header, records
    finally:
        PyBuffer_Release(&buffer)


def any_negative(const int64_t[::1] rows):
    """Whether one of ``rows`` counts from the end."""
    cdef size_t i
    for i in range(<size_t>rows.shape[0]):
        if rows[i] < 0:
            return True
    return False


def scan(data, uint32_t dtype, size_t rows, size_t columns):
    """Flags (NONFINITE, ZERO_ROW) of a contiguous buffer of ``rows`` times ``columns`` elements."""
    cdef Py_buffer buffer
    cdef unsigned flags
    PyObject_GetBuffer(data, &buffer, PyBUF_C_CONTIGUOUS)
    try:
        with nogil:
            flags = ms_scan(<const uint8_t *>buffer.buf, dtype, rows, columns)
        return flags
    finally:
        PyBuffer_Release(&buffer)


def page_of(value):
    """``(page number, flags)`` from the LMDB page header in front of a large value that py-lmdb handed out as a buffer."""
    cdef Py_buffer buffer
    PyObject_GetBuffer(value, &buffer, PyBUF_SIMPLE)
    try:
        at = <const uint8_t *>buffer.buf
        return ms_load64(at - MS_PAGE_HEADER), ms_load16(at - 6)
    finally:
        PyBuffer_Release(&buffer)
