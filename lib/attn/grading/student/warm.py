"""The process that student code is forked from: torch is imported once, nothing of the judge ever was.

    warm process ── for each submission: a session, in namespaces of its own where there is a fence
                        └── as often as the judge asks: a process that runs the student's code

The judge opens sessions on one Unix socket; each has a socket of its own. Student code runs in the last kind
of process only; when one ends, everything that it began is killed, and no other submission meets any of it.
"""

import contextlib
import ctypes
import gc
import importlib
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch

from attn.grading.student import calls
from attn.grading.student.answers import Notebook, Unreadable, read
from attn.grading.student.questions import answer_questions
from attn.grading.student.wire import BadFrame, Kind, Line

LIMITS = {"processes": 64, "file_size": 20_000_000, "files": 256}
# Of Linux' headers: flags of unshare and mount, options of prctl.
_CLONE = {
    "ns": 0x20000,
    "uts": 0x4000000,
    "ipc": 0x8000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}
_PRIVATE, _SET_DUMPABLE, _SUBREAPER, _DROP_BOUND, _NO_NEW = 0x44000, 4, 36, 24, 38


_libc = ctypes.CDLL(None, use_errno=True)


def _system(call: str, *arguments: Any) -> None:
    """One of libc's functions. Raises OSError where it fails."""
    if getattr(_libc, call)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


# Sessions


def serve(control: socket.socket, *, namespaces: bool, memory: int, seconds: int) -> None:
    """Open sessions until the judge is gone.

    "+" and a number, with a socket, opens one: answered by "+" and a process id, or "!" and why not.
    "-" and a process id ends that one: answered by "-".
    """
    _libc.prctl(_SUBREAPER, 1, 0, 0, 0)
    while True:
        try:
            message, descriptors, _, _ = socket.recv_fds(control, 64, 1)
        except OSError:
            message = b""
        if not message:
            return
        word, number = message[:1], int(message[1:])
        if word == b"+":
            [descriptor] = descriptors
            try:
                reply = b"+%d" % _open_session(control, descriptor, number, namespaces, memory, seconds)
            except OSError as error:
                reply = b"!" + str(error).encode()[:60]
            os.close(descriptor)
        else:
            _end(number, namespaces)
            reply = b"-"
        control.sendall(reply)


def _open_session(
    control: socket.socket, descriptor: int, slot: int, namespaces: bool, memory: int, seconds: int
) -> int:
    """The process id of a new session's first process, which speaks on `descriptor`."""
    reader, writer = os.pipe()
    between = os.fork()
    if between == 0:  # makes the namespaces, which only its children are in
        with _leaving():
            os.close(reader)
            control.close()
            if namespaces:
                try:
                    _enter_namespaces()
                except OSError as error:
                    os.write(writer, b"!" + str(error).encode())
                    return 0
            first = os.fork()
            if first == 0:
                os.close(writer)
                os.setsid()  # or kill(0, ...) there would reach the process group of this one, outside
                if namespaces:
                    _settle(slot)
                session(Line(socket.socket(fileno=descriptor)), namespaces, memory, seconds)
            os.write(writer, b"%d" % first)
        return 0
    os.close(writer)
    with open(reader, "rb") as file:
        said = file.read()
    os.waitpid(between, 0)
    if not said.isdigit():
        raise OSError(said[1:].decode() or "no process could be made")
    return int(said)


def _end(process: int, namespaces: bool) -> None:
    """Kill a session. Where it has a process namespace, all that began in it is gone when this returns."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process, 0)
    if not namespaces:
        _kill_children(os.getpid())


def _enter_namespaces() -> None:
    user, group = os.getuid(), os.getgid()
    flags = sum(_CLONE[name] for name in ("ns", "uts", "ipc", "pid", "net"))
    if user == 0 and _in_first_user_namespace():
        _system("unshare", flags)
        return
    _system("unshare", flags | _CLONE["user"])
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        Path(f"/proc/self/{name}").write_text(line)


def _in_first_user_namespace() -> bool:
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


def _settle(slot: int) -> None:
    """Make the new namespaces this session's own: empty folders, a /proc of its own, no privilege left."""
    root = os.getuid() == 0 and _in_first_user_namespace()
    with contextlib.suppress(OSError):  # where memory runs out, student code is what Linux ends first
        Path("/proc/self/oom_score_adj").write_text("1000")
    _system("mount", None, b"/", None, _PRIVATE, None)
    for folder in (b"/tmp", b"/dev/shm"):
        _system("mount", b"tmpfs", folder, b"tmpfs", 6, b"size=64m,mode=1777")  # no setuid, no devices
    try:
        _system("mount", b"proc", b"/proc", b"proc", 14, None)
    except OSError:  # where the kernel does not allow it: an empty one
        _system("mount", b"tmpfs", b"/proc", b"tmpfs", 14, b"size=4k")
    if not root:  # no user namespace inside this one, where it would have privileges again
        with contextlib.suppress(OSError):
            Path("/proc/sys/user/max_user_namespaces").write_text("0")
    for capability in range(64):
        _libc.prctl(_DROP_BOUND, capability, 0, 0, 0)
    if root:
        os.setgroups([])
        os.setresgid(200_000 + slot, 200_000 + slot, 200_000 + slot)
        os.setresuid(200_000 + slot, 200_000 + slot, 200_000 + slot)
    else:
        _drop_capabilities()
    _libc.prctl(_NO_NEW, 1, 0, 0, 0)
    _libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0)
    calls.refuse()
    os.chdir("/tmp")


def _drop_capabilities() -> None:
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _system("capset", header, (ctypes.c_uint32 * 6)())


# In a session


def session(line: Line, namespaces: bool, memory: int, seconds: int) -> NoReturn:
    """Take a notebook, then make processes to ask, one at a time. No student code runs in this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit("RLIMIT_CORE", 0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    os.close(nothing)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_USED + 3 * memory if _USED else -1, -1))
    connection = line.connection
    try:
        length = int.from_bytes(_receive(connection, 8), "little")
        sources = read(_receive(connection, length))
        notebook = Notebook(sources)
        line.send(Kind.NAMES, 0, [True, notebook.names])
    except (Unreadable, MemoryError, RecursionError) as error:
        line.send(Kind.NAMES, 0, [False, str(error) or "it takes more memory than a notebook may"])
        os._exit(0)
    except BaseException:
        os._exit(1)
    while True:
        try:
            message, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
        except OSError:
            message = b""
        if not message or len(descriptors) != 1:
            os._exit(0)
        child = os.fork()
        if child == 0:
            with _leaving():
                connection.close()
                if not namespaces:
                    os.setsid()
                _set_limits(memory, seconds, namespaces)
                answer_questions(Line(socket.socket(fileno=descriptors[0])), notebook)
        os.close(descriptors[0])
        _, status = os.waitpid(child, 0)
        if namespaces:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            _bury()
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)
        try:
            line.send(Kind.ENDED, 0, os.waitstatus_to_exitcode(status))
        except (BadFrame, OSError):
            os._exit(0)


def _receive(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(count - len(parts), 1 << 20))
        if not part:
            os._exit(0)
        parts += part
    return bytes(parts)


def _bury() -> None:
    """Wait for the processes that were killed, so that none is left when the next question begins."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _kill_children(parent: int) -> None:
    """Without a fence: kill what is left of a session's processes, as far as they can be found."""
    with contextlib.suppress(ImportError):
        import psutil

        for child in psutil.Process(parent).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if child.parent() is None or child.ppid() == parent:
                    child.kill()
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _set_limits(memory: int, seconds: int, namespaces: bool) -> None:
    pages = Path("/proc/self/statm")
    used = int(pages.read_text().split()[0]) * resource.getpagesize() if pages.exists() else 0
    if used or sys.platform == "linux":
        _limit("RLIMIT_AS", (used or _USED) + memory)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 2))
    _limit("RLIMIT_FSIZE", LIMITS["file_size"])
    _limit("RLIMIT_NOFILE", LIMITS["files"])
    if namespaces:  # elsewhere it would count every process that the user has
        _limit("RLIMIT_NPROC", LIMITS["processes"])


def _limit(name: str, value: int) -> None:
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not every system has, or allows, each
        resource.setrlimit(getattr(resource, name), (value, value))


@contextlib.contextmanager
def _leaving() -> Iterator[None]:
    """A forked process ends here, whatever happens: it must never return into its parent's code."""
    code = 1
    try:
        yield
        code = 0
    except MemoryError:
        code = 2
    finally:
        os._exit(code)


# Before the first fork

_USED = 0  # bytes of address space that the warm process has


def warm_up() -> None:
    """Do once, for all forks, what notebooks import and what only happens at its first use."""
    global _USED
    torch.set_num_threads(1)
    # Nothing that differentiates: a fork cannot, once its parent did.
    torch.nn.functional.scaled_dot_product_attention(*torch.ones(3, 1, 1, 1))
    torch.testing.assert_close(torch.ones(1), torch.ones(1))
    importlib.import_module("attn.core")
    Notebook(["warm = True"])
    statm = Path("/proc/self/statm")
    if statm.exists():
        _USED = int(statm.read_text().split()[0]) * resource.getpagesize()
    gc.collect()
    gc.freeze()  # the forks share these pages; looking for garbage would copy them
    _use_huge_pages()


def _use_huge_pages() -> None:
    """Put the heap into pages of 2 MB, where Linux can: a fork then copies a page table of a few entries."""
    maps = Path("/proc/self/maps")
    for line in maps.read_text().splitlines() if maps.exists() else ():
        if line.endswith("[heap]"):
            start, end = (int(address, 16) for address in line.split()[0].split("-"))
            for advice in (14, 25):  # MADV_HUGEPAGE, and MADV_COLLAPSE of Linux 6.1
                _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), advice)
