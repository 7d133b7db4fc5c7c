"""The wire: what goes in comes out, and no bytes whatever do more than raise BadFrame."""

import contextlib
import math
import random
import socket
import struct
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attn.grading.student.values import LARGEST, Array, freeze_tensor, from_wire, to_wire
from attn.grading.student.wire import (
    DEPTH,
    HEADER,
    LONGEST,
    MAGIC,
    TEXT,
    BadFrame,
    Closed,
    Kind,
    Line,
    pack,
    unpack,
    unpack_body,
    unpack_header,
)

DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple),
    max_leaves=20,
)


def depth(value) -> int:
    return 1 + max(map(depth, value), default=0) if isinstance(value, list | tuple) else 0


@given(plain)
def test_values_come_out_as_they_went_in(value):
    if depth(value) > DEPTH:
        with pytest.raises(BadFrame):
            pack(Kind.CALL, 7, value)
        return
    found = unpack(pack(Kind.CALL, 7, value), Kind.CALL, 7)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 5), (2, 3, 5)])
def test_tensors_come_out_as_they_went_in(dtype, shape):
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 50).abs().to(dtype)
    found = from_wire(unpack(pack(Kind.CALL, 1, to_wire(x)), Kind.CALL, 1))
    assert found.dtype == dtype
    assert torch.equal(found, x)


def test_numbers_that_are_none_survive():
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0])
    found = from_wire(unpack(pack(Kind.CALL, 1, to_wire(x)), Kind.CALL, 1))
    assert found[0].isnan()
    assert found[1:].tolist() == [math.inf, -math.inf, 0.0]
    assert math.copysign(1, found[3]) == -1


def test_a_text_that_is_too_long_is_cut_and_a_surrogate_is_no_reason_to_fail():
    assert len(unpack(pack(Kind.OUTCOME, 1, "ä" * 10**6), Kind.OUTCOME, 1)) == TEXT // 2
    assert unpack(pack(Kind.OUTCOME, 1, "a\ud800b"), Kind.OUTCOME, 1) == "a?b"


@pytest.mark.parametrize(
    "body",
    [
        object(),
        {"a": 1},
        2**63,
        torch.ones(2),
        [[[[[[1]]]]]],
        Array((2,), "complex64", (1.0, 2.0)),
        Array((1,) * 9, "float32", (1.0,)),
        Array((LONGEST,), "float64", (0.0,) * (LONGEST // 8 + 1)),
        [None] * 40_000,
    ],
    ids=lambda body: type(body).__name__,
)
def test_what_does_not_fit_is_not_sent(body):
    with pytest.raises(BadFrame):
        pack(Kind.OUTCOME, 1, body)


GOOD = pack(
    Kind.OUTCOME,
    5,
    (("output",), (freeze_tensor("x", torch.ones(2, 3)),), "ValueError: no", "line", (0, 1), False, ""),
)


@pytest.mark.parametrize(
    ("frame", "kind", "request_id"),
    [
        (b"", Kind.OUTCOME, 5),
        (GOOD[:-1], Kind.OUTCOME, 5),
        (GOOD + b"\0", Kind.OUTCOME, 5),
        (GOOD, Kind.CALL, 5),
        (GOOD, Kind.OUTCOME, 6),
        (b"HTTP" + GOOD[4:], Kind.OUTCOME, 5),
    ],
)
def test_another_frame_than_the_one_that_is_due_is_refused(frame, kind, request_id):
    assert unpack(GOOD, Kind.OUTCOME, 5)
    with pytest.raises(BadFrame):
        unpack(frame, kind, request_id)


def body(*parts: bytes) -> bytes:
    return b"".join(parts)


@pytest.mark.parametrize(
    "hostile",
    [
        body(b"\x08\x00\x02", struct.pack("<2I", 2**31, 2**31)),  # 2^62 numbers are claimed
        body(b"\x08\x00\x01", struct.pack("<I", LARGEST + 1)),
        body(b"\x08\x63\x01", struct.pack("<I", 1), b"\0" * 4),  # a dtype that there is not
        body(b"\x08\x00\xff", b"\0" * 400),  # 255 axes
        body(b"\x06", struct.pack("<I", 2**32 - 1)),  # a list that is never filled
        b"\x06\x01\0\0\0" * 1000,  # lists in lists in lists
        body(b"\x05", struct.pack("<I", 2**32 - 1)),
        body(b"\x05\x02\0\0\0", b"\xff\xfe"),  # not UTF-8
        b"\x09\x00",
        b"\x63",
        b"",
    ],
)
def test_hostile_bodies_are_refused(hostile):
    with pytest.raises(BadFrame):
        unpack_body(hostile)


def test_a_hundred_thousand_mutated_frames_do_no_more_than_be_refused():
    """The mutator is seeded. A frame that is accepted is one that could have been sent honestly."""
    draw = random.Random(1706)
    bodies = [
        GOOD,
        pack(Kind.ASK, 5, ((to_wire(torch.ones(2, 2)), 3, None), ("mask",), (to_wire(torch.ones(2) > 0),))),
        pack(Kind.NAMES, 0, [True, ["attention", "stable_softmax"]]),
        pack(Kind.ENDED, 0, -9),
    ]
    refused = accepted = 0
    for _ in range(100_000):
        frame = bytearray(draw.choice(bodies))
        for _ in range(draw.choice((1, 1, 2, 5, 20))):
            place = draw.randrange(len(frame)) if frame else 0
            how = draw.random()
            if how < 0.5 and frame:
                frame[place] = draw.choice((0, 1, 5, 6, 7, 8, 9, 127, 255, draw.randrange(256)))
            elif how < 0.7:
                frame[place:place] = draw.randbytes(draw.choice((1, 4, 8)))
            elif how < 0.9:
                del frame[place : place + draw.choice((1, 4, 30))]
            else:
                frame[place:] = frame[draw.randrange(len(frame) + 1) :]
        try:
            kind, request, length = unpack_header(bytes(frame[: HEADER.size]))
            value = unpack(bytes(frame), Kind(kind), request)
        except BadFrame:
            refused += 1
        else:
            accepted += 1
            assert sendable(value)
            assert length <= LONGEST
    assert refused > 50_000
    assert accepted > 100, "mutations inside numbers and texts leave a frame a frame"


def sendable(value) -> bool:
    if isinstance(value, Array):
        return value.dtype == "text" or math.prod(value.shape) == len(value.numbers)
    if type(value) in (list, tuple):
        return all(map(sendable, value))
    return value is None or type(value) in (bool, int, float, str)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_data(data):
    with contextlib.suppress(BadFrame):
        assert sendable(unpack_body(data))


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Line(ours), theirs


def test_an_end_that_is_gone_is_noticed(ends):
    line, theirs = ends
    theirs.sendall(GOOD[:10])
    theirs.close()
    with pytest.raises(Closed):
        line.receive((Kind.OUTCOME,), 5, 5.0)
    with pytest.raises(Closed):
        line.send(Kind.CALL, 1, ["x" * 1000] * 1000, 5.0)


def test_a_trickle_of_bytes_does_not_put_off_the_deadline(ends):
    line, theirs = ends
    stop = threading.Event()

    def trickle():
        for byte in GOOD:
            if stop.wait(0.05):
                return
            theirs.send(bytes([byte]))

    sender = threading.Thread(target=trickle)
    sender.start()
    with pytest.raises(TimeoutError):
        line.receive((Kind.OUTCOME,), 5, 0.3)
    stop.set()
    sender.join()


def test_a_frame_of_another_kind_is_refused_before_its_body_is_read(ends):
    line, theirs = ends
    theirs.sendall(HEADER.pack(MAGIC, Kind.CALL, 5, LONGEST))
    with pytest.raises(BadFrame, match="due"):
        line.receive((Kind.OUTCOME,), 5, 5.0)
    theirs.sendall(HEADER.pack(MAGIC, Kind.OUTCOME, 5, LONGEST + 1))
    with pytest.raises(BadFrame, match="too long"):
        line.receive((Kind.OUTCOME,), 5, 5.0)


def test_frames_follow_each_other(ends):
    line, theirs = ends
    for request in range(3):
        theirs.sendall(pack(Kind.OUTCOME, request, [request, "x" * 3000]))
    for request in range(3):
        assert line.receive((Kind.OUTCOME,), request, 5.0)[2][0] == request
