"""Calls of the system that student code has no use for, refused by the kernel (Linux, seccomp).

Keyrings outlive a session and are shared with the user who grades; a user namespace of one's own brings
privileges back; the others look into processes or are large doors to the kernel.
"""

import ctypes
import platform
import struct

# By machine: the kernel's name for it, and the numbers of calls.
_MACHINES = {
    "x86_64": (0xC000003E, {"clone": 56, "unshare": 272, "clone3": 435}),
    "aarch64": (0xC00000B7, {"clone": 220, "unshare": 97, "clone3": 435}),
}
_REFUSED = {
    # add_key, request_key, keyctl, ptrace, process_vm_readv and _writev, setns, bpf, perf_event_open,
    # userfaultfd, io_uring_setup, pidfd_getfd
    "x86_64": (248, 249, 250, 101, 310, 311, 308, 321, 298, 323, 425, 438),
    "aarch64": (217, 218, 219, 117, 270, 271, 268, 280, 241, 282, 425, 438),
}
_NEW_USER = 0x10000000  # the flag of clone and unshare that makes a user namespace
_LOAD, _IF_EQUAL, _IF_ABOVE, _IF_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _NOT_PERMITTED, _NO_SUCH_CALL = 0x7FFF0000, 0x00050001, 0x00050026
_CALL, _MACHINE, _FIRST_ARGUMENT = 0, 4, 16  # where they are in what a filter is shown
_SET_SECCOMP, _FILTER = 22, 2  # of prctl


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse() -> bool:
    """Refuse them to this process and all that it starts; whether this system can. For good."""
    machine = platform.machine()
    if machine not in _MACHINES:
        return False
    code = _program(machine)
    program = _Program(len(code) // 8, code)
    return bool(ctypes.CDLL(None).prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0) == 0)


def _program(machine: str) -> bytes:
    """The filter: instructions of 8 bytes, which jump forwards by name here and by distance there."""
    name, calls = _MACHINES[machine]
    lines: list[tuple[int, int, str, str]] = [  # what, with which number, and where to if so and if not
        (_LOAD, _MACHINE, "", ""),
        (_IF_EQUAL, name, "", "refuse"),  # the calls of a 32-bit program have other numbers
        (_LOAD, _CALL, "", ""),
        (_IF_ABOVE, 0x40000000, "refuse", ""),
        *((_IF_EQUAL, number, "refuse", "") for number in _REFUSED[machine]),
        (_IF_EQUAL, calls["clone3"], "none", ""),  # its flags are out of sight; libc then takes clone
        (_IF_EQUAL, calls["clone"], "flags", ""),
        (_IF_EQUAL, calls["unshare"], "flags", "allow"),
        (_LOAD, _FIRST_ARGUMENT, "", ""),
        (_IF_BIT, _NEW_USER, "refuse", "allow"),
        (_RETURN, _ALLOW, "", ""),
        (_RETURN, _NOT_PERMITTED, "", ""),
        (_RETURN, _NO_SUCH_CALL, "", ""),
    ]
    last = len(lines)
    places = {"flags": last - 5, "allow": last - 3, "refuse": last - 2, "none": last - 1}
    made = []
    for here, (what, number, yes, no) in enumerate(lines):
        jumps = [places[there] - here - 1 if there else 0 for there in (yes, no)]
        made.append(struct.pack("<HBBI", what, *jumps, number))
    return b"".join(made)
