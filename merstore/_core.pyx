# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, binding=False, autotestdict=False, freethreading_compatible=False
"""The C core: the map, slots and their gather, blocks. Thin, named after the C it calls; policy lives in store/."""

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_SIMPLE, PyBUF_WRITABLE,
    PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_Check, PyUnicode_CheckExact, PyUnicode_DecodeUTF8
from cpython.exc cimport PyErr_SetInterrupt
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

import os

from numpy import ndarray

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object)
    Py_hash_t PyObject_Hash(object) except? -1

cdef extern from *:
    """
    #define ms_prefetch(address) __builtin_prefetch(address)
    """
    void ms_prefetch(const void *) nogil

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

cdef extern from "digest.h":
    enum:
        MS_DIGEST_MIN
    uint64_t ms_digest(const uint8_t *, size_t) nogil

cdef extern from "files.h":
    ctypedef struct ms_file:
        int error
        uint64_t size
        size_t at, bytes
    void ms_read_files(int, const char *const *, size_t, size_t, size_t, uint8_t *, size_t, ms_file *) nogil
    size_t ms_files_room(size_t, size_t) nogil

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
    void ms_write_entry(uint8_t *, const ms_record *, uint64_t, uint64_t, uint32_t, int64_t) nogil

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
    void ms_map_write_back(const ms_map *) nogil
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
DIGEST_MIN = MS_DIGEST_MIN
NPY_HEAD = HEAD_BYTES

# Work on fewer bytes keeps the interpreter lock: to hand it over takes longer.
cdef enum:
    GIL_BYTES = 1 << 16
    AT_ONCE = 256       # entries that are copied without it
    HEAD_BYTES = 128    # bytes of the header that numpy.save writes for nearly every array
    NAMES_AHEAD = 8
    HASH_OFFSET = 24    # of a str's hash in its object: a guess does for a prefetch

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

    def write_back(self):
        """Let the system begin to write out what of the file is dirty. Returns at once."""
        with nogil:
            ms_map_write_back(&self.map)

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


cdef struct Cell:
    Py_hash_t hash
    int64_t row    # -1: free


cdef class NameRows:
    """Names, numbered in the order in which they were added. Looks up batches of them.

    A dict, but for a batch: what a look-up waits for is memory, first the name, then its place in the table. Here the names of a batch,
    and then their places, are asked for one after the other before they are needed (2 to 3 times as fast where there are many).
    """

    cdef Cell *cells
    cdef uint64_t mask
    cdef list names

    def __cinit__(self):
        self.names = []
        self.allocate(64)

    def __dealloc__(self):
        free(self.cells)

    cdef int allocate(self, uint64_t count) except -1:
        cdef uint64_t i
        self.cells = <Cell *>malloc(count * sizeof(Cell))
        if self.cells == NULL:
            raise MemoryError
        self.mask = count - 1
        for i in range(count):
            self.cells[i].row = -1
        return 0

    cdef int64_t find(self, name, Py_hash_t hashed) except -2:
        cdef uint64_t at = <uint64_t>hashed & self.mask
        while self.cells[at].row >= 0:
            if self.cells[at].hash == hashed:
                other = self.names[self.cells[at].row]
                if other is name or other == name:
                    return self.cells[at].row
            at = (at + 1) & self.mask
        return -1

    cdef void place(self, Py_hash_t hashed, int64_t row) noexcept:
        cdef uint64_t at = <uint64_t>hashed & self.mask
        while self.cells[at].row >= 0:
            at = (at + 1) & self.mask
        self.cells[at].hash = hashed
        self.cells[at].row = row

    def add(self, name):
        """Give a name the next number. The caller knows that it has none."""
        cdef Cell *before = self.cells
        cdef uint64_t i, count = self.mask + 1
        cdef int64_t row = len(self.names)
        if 2 * <uint64_t>row >= count:
            self.allocate(4 * count)
            for i in range(count):
                if before[i].row >= 0:
                    self.place(before[i].hash, before[i].row)
            free(before)
        self.names.append(name)
        self.place(PyObject_Hash(name), row)

    def rows(self, list names, int64_t[::1] out):
        """Write the number of each of ``names`` to ``out``; -1 for one that has none, or is no text. Returns whether all
        have one."""
        cdef Py_ssize_t i, count = len(names)
        cdef bint all_known = True
        for i in range(count):
            if i + NAMES_AHEAD < count:
                ms_prefetch(<const char *><void *>names[i + NAMES_AHEAD] + HASH_OFFSET)
            name = names[i]
            out[i] = PyObject_Hash(name) if PyUnicode_Check(name) else -1    # no hash is -1
            ms_prefetch(self.cells + (<uint64_t>out[i] & self.mask))
        for i in range(count):
            if out[i] != -1:
                out[i] = self.find(names[i], out[i])
            all_known &= out[i] >= 0
        return all_known


def texts(const uint8_t[::1] blob, const int64_t[::1] offsets, const int64_t[::1] rows):
    """The texts at ``rows`` of many that lie back to back in UTF-8, text i from ``offsets[i]`` to ``offsets[i + 1]``.

    Where there are many, this waits for memory: so all places are asked for first, and then all letters."""
    cdef Py_ssize_t i, count = rows.shape[0]
    cdef int64_t row, begin, end
    cdef list result = []
    for i in range(count):
        row = rows[i]
        if not 0 <= row < offsets.shape[0] - 1:
            raise IndexError(row)
        ms_prefetch(&offsets[row])
    for i in range(count):
        row = rows[i]
        begin, end = offsets[row], offsets[row + 1]
        if not 0 <= begin <= end <= blob.shape[0]:
            raise ValueError("the offsets lead out of the blob")
        if begin < end:
            ms_prefetch(&blob[begin])
    for i in range(count):
        row = rows[i]
        begin, end = offsets[row], offsets[row + 1]
        result.append(PyUnicode_DecodeUTF8(<const char *>&blob[begin], end - begin, NULL) if begin < end else "")
    return result


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


cdef class Layout:
    """What a plain array of a view is like: its dtype (whose code is ``code``) and shape, at least DIGEST_MIN bytes."""

    cdef object dtype
    cdef tuple shape
    cdef uint8_t code
    cdef readonly size_t ndim, nbytes
    cdef size_t rows, columns, stride

    def __init__(self, dtype, uint8_t code, tuple shape):
        cdef size_t elements = 1
        for length in shape:
            elements *= <size_t>length
        self.dtype, self.code, self.shape = dtype, code, shape
        self.ndim = len(shape)
        self.rows = shape[0] if len(shape) > 1 else 1
        self.columns = elements // self.rows
        self.nbytes = elements * ms_itemsize(code)
        self.stride = (self.nbytes + MS_ALIGN - 1) // MS_ALIGN * MS_ALIGN
        if self.nbytes < MS_DIGEST_MIN:
            raise ValueError("smaller than DIGEST_MIN")

    cdef bytes key_of(self, pair):
        """The key of a plain ``(name, array)``; None if it is not plain."""
        if type(pair) is not tuple or len(<tuple>pair) != 2:
            return None
        name, array = <tuple>pair
        if type(array) is not ndarray or array.dtype is not self.dtype or array.shape != self.shape or not array.flags.c_contiguous:
            return None
        return plain_key(name)


cdef size_t copy_in(const uint8_t **data, size_t count, Layout layout, uint8_t *to, uint64_t *checksums) noexcept nogil:
    """Copy payloads one behind the other, up to one with a flag. The copy is what is looked at: nobody else writes to that."""
    cdef size_t i
    for i in range(count):
        memcpy(to, data[i], layout.nbytes)
        if ms_scan(to, layout.code, layout.rows, layout.columns):
            return i
        checksums[i] = ms_digest(to, layout.nbytes)
        memset(to + layout.nbytes, 0, layout.stride - layout.nbytes if i + 1 < count else 0)
        to += layout.stride
    return count


cdef class Files:
    """Files of one folder (a descriptor), read all at once, without the interpreter lock: those of at most ``limit`` bytes that find
    room whole, the others' first NPY_HEAD bytes.

    ``names`` are the samples', ``paths`` the files' below the folder.
    """

    cdef uint8_t *memory
    cdef ms_file *files
    cdef size_t room
    cdef readonly list names

    def __init__(self, int folder, list names, list paths, size_t limit, size_t room):
        cdef size_t i, count = len(paths)
        cdef const char **each = <const char **>malloc((count + 1) * sizeof(char *))
        if len(names) != len(paths):
            raise ValueError("as many names as paths")
        room += ms_files_room(count, HEAD_BYTES)
        self.names = names
        self.room = room
        self.files = <ms_file *>malloc((count + 1) * sizeof(ms_file))
        self.memory = <uint8_t *>malloc(room)
        try:
            if each == NULL or self.files == NULL or self.memory == NULL:
                raise MemoryError
            for i in range(count):
                each[i] = PyBytes_AS_STRING(<bytes?>paths[i])
            with nogil:
                ms_read_files(folder, each, count, limit, HEAD_BYTES, self.memory, room, self.files)
        finally:
            free(each)

    def __dealloc__(self):
        free(self.memory)
        free(self.files)

    def __len__(self):
        return len(self.names)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.memory, self.room, 1, flags)

    def place(self, size_t row):
        """Where in this object's buffer a file begins."""
        if row >= <size_t>len(self.names):
            raise IndexError(row)
        return self.files[row].at

    cdef bint is_whole(self, size_t row, uint64_t nbytes) except -1:
        if row >= <size_t>len(self.names):
            raise IndexError(row)
        cdef ms_file *file = self.files + row
        return file.error == 0 and file.size == nbytes and file.bytes == nbytes

    def headers(self, dict parsed):
        """What ``parsed`` has for each file's first NPY_HEAD bytes: ``(header, NPY_HEAD)``, None where there is nothing, or where the file's
        size is not that of the header and its ``nbytes``; and whether the file was read whole."""
        cdef size_t i
        cdef ms_file *file
        result = []
        for i in range(<size_t>len(self.names)):
            file = self.files + i
            found = entry = None
            if file.error == 0 and file.bytes >= HEAD_BYTES:
                found = parsed.get(PyBytes_FromStringAndSize(<const char *>self.memory + file.at, HEAD_BYTES))
            if found is not None:
                header, start = found
                if start == HEAD_BYTES and file.size == HEAD_BYTES + <uint64_t>header.nbytes:
                    entry = header, file.bytes == file.size
            result.append(entry)
        return result


cdef struct Added:
    ms_record record    # without its name
    int64_t time
    uint32_t run


cdef class BlockBuilder:
    """One block in the making: payloads behind room for the largest header, which is written in front of them at the end."""

    cdef uint8_t *memory
    cdef uint8_t *table
    cdef Added *added
    cdef size_t added_capacity
    cdef readonly size_t capacity
    cdef readonly size_t used             # payload bytes so far, gaps included
    cdef readonly size_t payload_bytes    # without gaps
    cdef readonly size_t live             # entries that `entry` was asked for
    cdef readonly size_t live_bytes       # and their payload
    cdef size_t table_used, table_capacity, header_room, value_bytes
    cdef uint32_t count, run
    cdef readonly uint64_t block
    cdef uint8_t *value
    cdef public uint64_t page             # where LMDB has put the sealed block

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
        free(self.added)

    def __len__(self):
        return self.count

    def reset(self):
        self.used = self.payload_bytes = self.table_used = self.value_bytes = 0
        self.live = self.live_bytes = 0
        self.count = 0

    def fits(self, size_t nbytes, size_t ndim, size_t name_bytes):
        """Whether one more entry of this size finds room."""
        return (self.aligned() + nbytes <= self.capacity
                and self.table_used + ms_record_bytes(ndim, name_bytes) <= self.table_capacity)

    cdef size_t aligned(self):
        return (self.used + MS_ALIGN - 1) // MS_ALIGN * MS_ALIGN

    def add(self, bytes name, uint8_t dtype, tuple shape, uint8_t flags, uint64_t checksum, data, int64_t time,
            uint32_t run):
        """Copy one payload in. The caller has asked ``fits``. Returns the entry's place in the block, for ``entry``.

        ``run`` is who wrote it; 0 for the run that the block is sealed with.
        """
        cdef Py_buffer buffer
        PyObject_GetBuffer(data, &buffer, PyBUF_C_CONTIGUOUS)
        try:
            return self.append(name, dtype, shape, flags, checksum, &buffer, time, run)
        finally:
            PyBuffer_Release(&buffer)

    def put(self, pairs, Layout layout, dict operations, uint64_t block, double deadline):
        """``add`` plain pairs of the iterator ``pairs``: as many as find room, and come before ``deadline`` (of time.monotonic).

        Plain is a name of ASCII letters, digits and ``._+-``, with an ndarray of this layout in C order, finite and without a row of
        zeros. What is added is noted in ``operations`` as ``index_entries`` wants it, for the block at position ``block``. Returns the pairs
        that were taken and not added, and what ended the iterator: True, what it raised, or None if nothing has.
        """
        cdef Py_buffer buffers[AT_ONCE]
        cdef const uint8_t *data[AT_ONCE]
        cdef size_t i, count = 0, added = 0, room = self.entries_that_fit(layout), table = self.table_used
        cdef list taken = [], keys = []
        ended = True
        try:
            for pair in pairs:
                taken.append(pair)
                key = layout.key_of(pair) if count < room else None
                if key is not None:
                    table += ms_record_bytes(layout.ndim, PyBytes_GET_SIZE(key))
                if key is None or table > self.table_capacity:
                    ended = None
                    break
                PyObject_GetBuffer((<tuple>pair)[1], &buffers[count], PyBUF_C_CONTIGUOUS)
                data[count] = <const uint8_t *>buffers[count].buf
                count += 1
                keys.append(key)
                if count == AT_ONCE or clock(CLOCK_MONOTONIC) >= deadline:
                    ended = None
                    break
        except BaseException as error:
            ended = error
        try:
            added = self.take(data, count, keys, layout, operations, block)
        finally:
            for i in range(count):
                PyBuffer_Release(&buffers[i])
        return taken[added:], ended

    def put_files(self, Files files, list rows, size_t first, Layout layout, dict operations, uint64_t block):
        """The same for the files at ``rows``, from the ``first`` of them on, which have the layout's array after NPY_HEAD bytes. Returns how
        many were added."""
        cdef const uint8_t *data[AT_ONCE]
        cdef size_t row, count = 0, room = self.entries_that_fit(layout), table = self.table_used
        cdef list keys = []
        while first + count < <size_t>len(rows) and count < room:
            row = rows[first + count]
            if not files.is_whole(row, HEAD_BYTES + layout.nbytes):
                raise ValueError("the file is not whole, or no array of this layout")
            key = plain_key(files.names[row])
            if key is not None:
                table += ms_record_bytes(layout.ndim, PyBytes_GET_SIZE(key))
            if key is None or table > self.table_capacity:
                break
            data[count] = files.memory + files.files[row].at + HEAD_BYTES
            keys.append(key)
            count += 1
        return self.take(data, count, keys, layout, operations, block)

    cdef size_t entries_that_fit(self, Layout layout) noexcept:
        cdef size_t begin = self.aligned()
        if begin + layout.nbytes > self.capacity:
            return 0
        return min(<size_t>AT_ONCE, (self.capacity - begin - layout.nbytes) // layout.stride + 1)

    cdef size_t take(self, const uint8_t **data, size_t count, list keys, Layout layout, dict operations, uint64_t block) except? -1:
        """Copy payloads that fit, up to one that is not finite or has a row of zeros. Returns how many."""
        cdef uint64_t checksums[AT_ONCE]
        cdef size_t i, added, begin = self.aligned()
        cdef int64_t time = <int64_t>(1e6 * clock(CLOCK_REALTIME))
        memset(self.memory + self.header_room + self.used, 0, begin - self.used)
        if count * layout.nbytes < GIL_BYTES:
            added = copy_in(data, count, layout, self.memory + self.header_room + begin, checksums)
        else:
            with nogil:
                added = copy_in(data, count, layout, self.memory + self.header_room + begin, checksums)
        for i in range(added):
            key = keys[i]
            operations[key] = block << 32 | self.note(
                key, layout.code, layout.shape, 0, checksums[i], begin + i * layout.stride, layout.nbytes, time, 0)
        return added

    cdef uint32_t append(self, bytes name, uint8_t dtype, tuple shape, uint8_t flags, uint64_t checksum, const Py_buffer *data,
                         int64_t time, uint32_t run) except? 0xffffffff:
        cdef size_t at = self.aligned()
        cdef uint8_t *to = self.memory + self.header_room + at
        if at + <size_t>data.len > self.capacity:
            raise ValueError("the entry does not fit this block")
        memset(self.memory + self.header_room + self.used, 0, at - self.used)
        if data.len < GIL_BYTES:
            memcpy(to, data.buf, data.len)
        else:
            with nogil:
                memcpy(to, data.buf, data.len)
        return self.note(name, dtype, shape, flags, checksum, at, data.len, time, run)

    cdef uint32_t note(self, bytes name, uint8_t dtype, tuple shape, uint8_t flags, uint64_t checksum, size_t at, size_t nbytes,
                       int64_t time, uint32_t run) except? 0xffffffff:
        """Enter a payload that lies at ``at`` into the table."""
        cdef ms_record record
        cdef size_t i
        record.bytes = <uint32_t>nbytes
        record.checksum = checksum
        record.offset = <uint32_t>at       # becomes the offset in the block when the header's size is known
        record.dtype = dtype
        record.ndim = <uint8_t>len(shape)
        record.flags = flags
        record.name_bytes = <uint16_t>PyBytes_GET_SIZE(name)
        record.name = <const uint8_t *>PyBytes_AS_STRING(name)
        for i in range(record.ndim):
            record.shape[i] = shape[i]
        self.make_room()
        self.added[self.count].record = record
        self.added[self.count].time = time
        self.added[self.count].run = run
        self.table_used += ms_write_record(self.table + self.table_used, &record)
        self.used = at + nbytes
        self.payload_bytes += nbytes
        self.count += 1
        return self.count - 1

    cdef int make_room(self) except -1:
        if self.count < self.added_capacity:
            return 0
        cdef size_t capacity = 2 * self.added_capacity + 16
        cdef Added *moved = <Added *>realloc(self.added, capacity * sizeof(Added))
        if moved == NULL:
            raise MemoryError
        self.added = moved
        self.added_capacity = capacity
        return 0

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
        self.block, self.run = block, run
        return header_bytes

    cdef bytes entry(self, uint32_t i):
        """The index entry of the i-th payload of a block that is sealed and has its ``page``."""
        if i >= self.count or self.value_bytes == 0:
            raise IndexError(i)
        cdef bytes entry = PyBytes_FromStringAndSize(NULL, MS_ENTRY_BYTES)
        cdef Added *added = self.added + i
        cdef ms_record record = added.record
        record.offset += <uint32_t>(self.value_bytes - self.used)
        ms_write_entry(<uint8_t *>PyBytes_AS_STRING(entry), &record, self.block, self.page,
                       added.run if added.run else self.run, added.time)
        self.live += 1
        self.live_bytes += record.bytes
        return entry

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.value_bytes == 0:
            raise BufferError("the block is not sealed")
        PyBuffer_FillInfo(buffer, self, self.value, self.value_bytes, 1, flags)


cdef class Section:
    """A ``with`` block that is left whatever happens, with ``lock`` held in it.

    Python looks for Ctrl-C on its way into a Python function, so that it may never begin an ``__exit__`` that is one (bpo-29988). This is
    none. ``begin()`` gives what the block is about; ``done(error or None)`` follows the block, and ``end()`` both, or a ``begin`` that failed.
    """

    cdef object lock, begin, done, end

    def __init__(self, lock, begin, done, end):
        self.lock, self.begin, self.done, self.end = lock, begin, done, end

    def __enter__(self):
        self.lock.acquire()
        try:
            return self.begin()
        except BaseException:
            self.leave()
            raise

    def __exit__(self, kind, error, trace):
        try:
            self.done(error)
        finally:
            self.leave()

    cdef leave(self):
        interrupt = None
        try:
            while True:
                try:
                    self.end()
                    break
                except KeyboardInterrupt as again:  # once more, now that it is known
                    interrupt = again
        finally:
            self.lock.release()
        if interrupt is not None:
            raise interrupt


def index_entries(bytes prefix, list operations, list builders):
    """``(prefix + key, index entry)`` for each ``(key, put)`` of ``operations`` whose put is an int: from bit 32 up which of the
    ``builders`` its payload is in, below that its place there. Other operations are left out."""
    cdef BlockBuilder builder
    cdef uint64_t put
    result = []
    for key, operation in operations:
        if type(operation) is int:
            put = operation
            builder = builders[put >> 32]
            result.append((prefix + key, builder.entry(<uint32_t>put)))
    return result


cdef class Finalizer:
    """The callback of a weak reference: ``function()`` whatever happens. A Ctrl-C that comes in it, where Python would drop it, comes
    afterwards.
    """

    cdef object function

    def __init__(self, function):
        self.function = function

    def __call__(self, reference):
        interrupted = False
        while True:
            try:
                self.function()
                break
            except KeyboardInterrupt:
                interrupted = True
        if interrupted:
            PyErr_SetInterrupt()


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


cdef double clock(int which) noexcept nogil:
    cdef timespec now
    clock_gettime(which, &now)
    return now.tv_sec + 1e-9 * now.tv_nsec


cdef bytes plain_key(name):
    """The key of a name of ASCII letters, digits and ``._+-``; None for any other."""
    cdef Py_ssize_t length = 0
    cdef const char *text
    if not PyUnicode_CheckExact(name) or not PyUnicode_IS_ASCII(name):
        return None
    text = PyUnicode_AsUTF8AndSize(name, &length)
    return PyBytes_FromStringAndSize(text, length) if is_plain(text, length) else None


cdef bint is_plain(const char *text, Py_ssize_t length) noexcept nogil:
    """What store/keys.py need not look at any closer."""
    cdef Py_ssize_t i
    cdef char c
    if not 0 < length <= 400:
        return False
    for i in range(length):
        c = text[i]
        if not (c'a' <= c <= c'z' or c'A' <= c <= c'Z' or c'0' <= c <= c'9' or c == c'_' or c == c'-' or c == c'.' or c == c'+'):
            return False
    return True


cdef unsigned scan_buffer(const Py_buffer *buffer, uint32_t dtype, size_t rows, size_t columns) noexcept:
    cdef unsigned flags
    if buffer.len < GIL_BYTES:
        return ms_scan(<const uint8_t *>buffer.buf, dtype, rows, columns)
    with nogil:
        flags = ms_scan(<const uint8_t *>buffer.buf, dtype, rows, columns)
    return flags


def scan(data, uint32_t dtype, size_t rows, size_t columns):
    """Flags (NONFINITE, ZERO_ROW) of a contiguous buffer of ``rows`` times ``columns`` elements."""
    cdef Py_buffer buffer
    PyObject_GetBuffer(data, &buffer, PyBUF_C_CONTIGUOUS)
    try:
        return scan_buffer(&buffer, dtype, rows, columns)
    finally:
        PyBuffer_Release(&buffer)


def digest(data):
    """XXH3-64 of a buffer of at least DIGEST_MIN bytes."""
    cdef Py_buffer buffer
    cdef uint64_t result
    PyObject_GetBuffer(data, &buffer, PyBUF_C_CONTIGUOUS)
    try:
        if buffer.len < MS_DIGEST_MIN:
            raise ValueError("shorter than DIGEST_MIN")
        with nogil:
            result = ms_digest(<const uint8_t *>buffer.buf, buffer.len)
    finally:
        PyBuffer_Release(&buffer)
    return result


def page_of(value):
    """``(page number, flags)`` from the LMDB page header in front of a large value that py-lmdb handed out as a buffer."""
    cdef Py_buffer buffer
    PyObject_GetBuffer(value, &buffer, PyBUF_SIMPLE)
    try:
        at = <const uint8_t *>buffer.buf
        return ms_load64(at - MS_PAGE_HEADER), ms_load16(at - 6)
    finally:
        PyBuffer_Release(&buffer)
