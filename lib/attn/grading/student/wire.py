"""The wire between the judge and a student's process: frames of a fixed layout, each end checked.

A frame is a header (the word ATTN, its kind, a request id, the length of its body) and a body of values:
None, a flag, a whole number, a number, a text, an array of numbers, or a list or tuple of these. There is no
pickle and no code in it; what arrives is data or a `BadFrame`.
"""

import math
import socket
import struct
import time
from enum import IntEnum
from typing import Any

from attn.grading.student.values import LARGEST, Array

MAGIC = b"ATTN"
HEADER = struct.Struct("<4sBQI")
LONGEST = 8_000_000  # bytes of a body
TEXT = 4_000  # bytes of a text
ITEMS = 10_000  # values in a body
DEPTH = 5  # of lists in lists
AXES = 8

# How the numbers of each dtype lie in a frame. bfloat16 travels as float32, which holds it exactly.
_CODES = {
    "float32": "f",
    "float64": "d",
    "float16": "e",
    "bfloat16": "f",
    "int64": "q",
    "int32": "i",
    "int16": "h",
    "int8": "b",
    "uint8": "B",
    "bool": "?",
    "number": "d",
}
_DTYPES = tuple(_CODES)


class Kind(IntEnum):
    """What a frame is for. The first three come from the judge, the others from the student's process."""

    QUESTION = 1  # what is asked: the name of the answer and how it is called
    CALL = 2  # call the answer with these inputs
    GIVE = 3  # what the implementation under test returned
    NAMES = 4  # the names that the notebook binds
    ENDED = 5  # how a question's process ended
    OUTCOME = 6  # what the answer did
    ASK = 7  # the learner's test calls the implementation that it tests


class BadFrame(Exception):
    """Bytes that are no frame, or not the frame that was due."""


class Closed(BadFrame):
    """The other end is gone."""


class Encoded(bytes):
    """A body that is bytes already: what is sent often is encoded once."""


def pack(kind: Kind, request: int, body: Any) -> bytes:
    """A frame. Raises BadFrame for a body that it cannot hold."""
    encoded = body if type(body) is Encoded else encode(body)
    return HEADER.pack(MAGIC, kind, request, len(encoded)) + encoded


def encode(body: Any) -> Encoded:
    """A value as the body of a frame. Raises BadFrame for one that a frame cannot hold."""
    made: list[bytes] = []
    _put(made, body, 0)
    if len(made) > 3 * ITEMS:
        raise BadFrame("too many values")
    joined = b"".join(made)
    if len(joined) > LONGEST:
        raise BadFrame(f"{len(joined)} bytes are more than a frame may hold")
    return Encoded(joined)


def _put(made: list[bytes], value: Any, depth: int) -> None:
    kind = type(value)
    if value is None:
        made.append(b"\0")
    elif kind is bool:
        made.append(b"\2" if value else b"\1")
    elif kind is int:
        if not -(2**63) <= value < 2**63:
            raise BadFrame("a whole number that does not fit into 64 bits")
        made.append(struct.pack("<cq", b"\3", value))
    elif kind is float:
        made.append(struct.pack("<cd", b"\4", value))
    elif kind is str:
        encoded = value.encode("utf-8", "replace")
        while len(encoded) > TEXT:
            value = value[: TEXT * len(value) // len(encoded)]
            encoded = value.encode("utf-8", "replace")
        made.append(struct.pack("<cI", b"\5", len(encoded)) + encoded)
    elif kind in (list, tuple):
        if depth >= DEPTH:
            raise BadFrame("lists in lists in lists")
        made.append(struct.pack("<cI", b"\6" if kind is list else b"\7", len(value)))
        for item in value:
            _put(made, item, depth + 1)
    elif kind is Array:
        if value.dtype == "text":
            made.append(b"\x09")
            _put(made, value.numbers[0], depth)
            return
        if value.dtype not in _CODES or len(value.shape) > AXES:
            raise BadFrame(f"an array of dtype {value.dtype} with {len(value.shape)} axes")
        shape = struct.pack(f"<{len(value.shape)}I", *value.shape)
        code = _CODES[value.dtype]
        try:
            numbers = struct.pack(f"<{len(value.numbers)}{code}", *value.numbers)
        except OverflowError:  # a float64 among "float32", say, which torch itself never gives
            raise BadFrame("a number that its dtype cannot hold") from None
        made.append(struct.pack("<cBB", b"\x08", _DTYPES.index(value.dtype), len(value.shape)) + shape)
        made.append(numbers)
    else:
        raise BadFrame(f"cannot send an object of type {kind.__name__}")


class _Reader:
    """Takes a body apart, once, from left to right."""

    def __init__(self, body: bytes):
        self.body, self.at, self.items = body, 0, 0

    def take(self, layout: str) -> tuple[Any, ...]:
        end = self.at + struct.calcsize(layout)
        if end > len(self.body):
            raise BadFrame("the body ends too early")
        found = struct.unpack_from(layout, self.body, self.at)
        self.at = end
        return found

    def text(self) -> str:
        (length,) = self.take("<I")
        if length > TEXT:
            raise BadFrame("a text that is too long")
        (encoded,) = self.take(f"<{length}s")
        try:
            return str(encoded, "utf-8")
        except UnicodeDecodeError:
            raise BadFrame("a text that is not UTF-8") from None

    def array(self) -> Array:
        dtype, axes = self.take("<BB")
        if dtype >= len(_DTYPES) or axes > AXES:
            raise BadFrame("an array of no known dtype, or of too many axes")
        shape = self.take(f"<{axes}I")
        count = math.prod(shape)
        if count > LARGEST:
            raise BadFrame("an array that is too large")
        name = _DTYPES[dtype]
        # A bool is read as a byte: any byte but 0 is True, and none is undefined.
        return Array(shape, name, self.take(f"<{count}{_CODES[name]}"))

    def value(self, depth: int = 0) -> Any:
        self.items += 1
        if self.items > ITEMS or depth > DEPTH:
            raise BadFrame("too many values")
        (tag,) = self.take("<B")
        if tag == 0:
            return None
        if tag in (1, 2):
            return tag == 2
        if tag == 3:
            return self.take("<q")[0]
        if tag == 4:
            return self.take("<d")[0]
        if tag == 5:
            return self.text()
        if tag in (6, 7):
            (count,) = self.take("<I")
            if count > ITEMS:
                raise BadFrame("too many values")
            made = [self.value(depth + 1) for _ in range(count)]
            return made if tag == 6 else tuple(made)
        if tag == 8:
            return self.array()
        if tag == 9 and self.take("<B") == (5,):
            return Array((), "text", (self.text(),))
        raise BadFrame("a value of no known kind")


def unpack_header(header: bytes) -> tuple[int, int, int]:
    """Kind, request id and length of the body. Raises BadFrame."""
    try:
        magic, kind, request, length = HEADER.unpack(header)
    except struct.error:
        raise BadFrame("a header that is too short") from None
    if magic != MAGIC or kind not in Kind.__members__.values():
        raise BadFrame("no frame begins like this")
    if length > LONGEST:
        raise BadFrame("a body that is too long")
    return kind, request, length


def unpack_body(body: bytes) -> Any:
    """The value in a body. Raises BadFrame, and nothing else, whatever the bytes are."""
    reader = _Reader(body)
    value = reader.value()
    if reader.at != len(body):
        raise BadFrame("bytes after the end")
    return value


def unpack(frame: bytes, kind: Kind, request: int) -> Any:
    """The value of a whole frame that must be of this kind and answer this request. Raises BadFrame."""
    header, body = frame[: HEADER.size], frame[HEADER.size :]
    found, answered, length = unpack_header(header)
    if found != kind or answered != request or length != len(body):
        raise BadFrame("not the frame that was due")
    return unpack_body(body)


class Line:
    """One end of a connection. Frames of another kind or for another request are refused."""

    def __init__(self, connection: socket.socket):
        self.connection = connection

    def send(self, kind: Kind, request: int, body: Any, seconds: float | None = None) -> None:
        """Raises Closed where the other end is gone, TimeoutError where it does not read for `seconds`."""
        try:
            self.connection.settimeout(seconds)
            self.connection.sendall(pack(kind, request, body))
        except TimeoutError:
            raise
        except OSError:
            raise Closed("the other end is gone") from None

    def receive(
        self, kinds: tuple[Kind, ...], request: int | None, seconds: float | None = None
    ) -> tuple[Kind, int, Any]:
        """The next frame: kind, request id, value. Raises BadFrame (Closed at the end), TimeoutError."""
        deadline = None if seconds is None else time.monotonic() + seconds
        kind, answered, length = unpack_header(self.exactly(HEADER.size, deadline))
        if kind not in kinds or (request is not None and answered != request):
            raise BadFrame("not the frame that was due")
        return Kind(kind), answered, unpack_body(self.exactly(length, deadline))

    def exactly(self, count: int, deadline: float | None = None) -> bytes:
        """`count` bytes. A deadline for all of them: a trickle of bytes does not put it off."""
        parts: list[bytes] = []
        while count:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            try:
                self.connection.settimeout(left)
                part = self.connection.recv(min(count, 1 << 20))
            except TimeoutError:
                raise
            except OSError:
                raise Closed("the other end is gone") from None
            if not part:
                raise Closed("the other end is gone")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        self.connection.close()
