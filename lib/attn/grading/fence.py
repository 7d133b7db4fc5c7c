"""The fence around student code: bubblewrap where there is one, and the processes behind it.

In the fence are the system and Python's packages, read-only, and of `attn.grading` the folder `student`. No
file of the grader, of other submissions or of the user is there, no network, no process but the student's.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import attn
from attn.grading.student.answers import Notebook, Unreadable, read
from attn.grading.student.wire import BadFrame, Closed, Kind, Line

PACKAGE = Path(attn.__file__).resolve().parent
_START = PACKAGE / "grading" / "student" / "start.py"
_HOME = Path("/course")  # where the package and the virtual environment are, inside
# Without these Python does not start on Windows.
_NEEDED: dict[str, str] = {
    name: os.environ[name] for name in ("SYSTEMROOT", "TEMP", "TMP") if name in os.environ
}
_SYSTEM = ("/bin", "/lib", "/lib32", "/lib64", "/sbin")
_SETTINGS = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
)
_STARTING, _OPENING, _READING, _ENDING = 180.0, 30.0, 30.0, 1.0  # seconds, after which something is wrong


class NoFence(Exception):
    """There is no fence on this machine, or it does not work; the message says why."""


class Lost(Exception):
    """A submission cannot be graded. `status` is that of its row, the message its note."""

    def __init__(self, status: str, why: str):
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """What a submission may use.

    Attributes:
      call: seconds for one call of an answer.
      submission: seconds for all of a submission.
      memory: megabytes that a question may add to what Python and torch take.
    """

    call: float = 5.0
    submission: float = 300.0
    memory: int = 512

    @property
    def cpu(self) -> int:
        """Seconds of computing for one question."""
        return round(10 * self.call) + 10


class Fence:
    """Where student code runs. Use as a context manager; it serves any number of threads."""

    def __init__(self, *, fenced: bool = True, limits: Limits | None = None):
        self.fenced, self.limits = fenced, limits or Limits()
        self._lock = threading.Lock()
        self._lone = not fenced and not _can_fork()
        self._opened = self._started = 0  # sessions and warm processes, so far
        self._stopped = False
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def __enter__(self) -> "Fence":
        try:
            if not self._lone:
                with self._lock:
                    self._start()
            self.session(b'{"cells": []}').close()
        except Lost as lost:
            self.stop()
            raise NoFence(f"a session of student code does not start here: {lost}") from None
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        """Start the warm process. Raises NoFence where it does not start."""
        self._started += 1
        ours, theirs = socket.socketpair()
        with theirs:
            if self.fenced:
                command = [*_bubblewrap(), str(_inside(Path(sys.executable))), str(_inside(_START))]
            else:
                command = [sys.executable, str(_START)]
            numbers = (theirs.fileno(), int(self.fenced), self.limits.memory, self.limits.cpu)
            command += ["warm", *map(str, numbers)]
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for the judge
            )
        self._control = ours
        ours.settimeout(_STARTING)
        try:
            ready = ours.recv(5)
        except OSError:
            ready = b""
        if ready != b"ready":
            self._process.kill()
            said = self._process.communicate()[1].decode("utf-8", "replace").strip().splitlines()
            raise NoFence(
                f"the process for student code did not start: {said[-1][:300] if said else 'silently'}"
            )
        threading.Thread(target=self._drain, args=(self._process,), daemon=True).start()

    @staticmethod
    def _drain(process: subprocess.Popen[bytes]) -> None:
        """Read what the warm process complains of, so that it never waits for a reader."""
        with contextlib.suppress(OSError, ValueError):
            while process.stderr is not None and process.stderr.read(65536):
                pass

    def session(self, notebook: bytes) -> "Session | LoneSession":
        """Bring a notebook in. Raises Lost where it cannot be read."""
        return LoneSession(notebook) if self._lone else Session(self, notebook)

    def open(self, theirs: socket.socket) -> tuple[int, int]:
        """A new session that speaks on `theirs`: what `end` ends. A dead warm process is started anew.

        Raises NoFence where no session can be opened.
        """
        with self._lock:
            self._opened += 1
            message = b"+%d" % (self._opened % 10_000)
            try:
                return self._started, self._ask(message, theirs)
            except Closed:
                if self._stopped:
                    raise NoFence("grading was stopped") from None
                self._end_warm()
                self._start()
            try:
                return self._started, self._ask(message, theirs)
            except Closed:
                raise NoFence("the process for student code ends again and again") from None

    def end(self, session: tuple[int, int]) -> None:
        """Kill all of a session. One of a warm process before this one ended with that."""
        started, process = session
        with self._lock:
            if started == self._started:
                try:
                    self._ask(b"-%d" % process, None)
                except Closed:  # nor is it known what it would answer next
                    self._end_warm()

    def _ask(self, message: bytes, theirs: socket.socket | None) -> int:
        if self._control is None:
            raise Closed("it is not running")
        try:
            self._control.settimeout(_OPENING)
            socket.send_fds(self._control, [message], [theirs.fileno()] if theirs else [])
            reply = self._control.recv(256)
        except OSError:
            reply = b""
        if reply[:1] == b"!":
            raise NoFence(f"no session can be opened here: {reply[1:].decode('utf-8', 'replace')}")
        if reply[:1] not in (b"+", b"-"):
            raise Closed("the process for student code is gone")
        return int(reply[1:] or 0)

    def stop(self) -> None:
        """End all of it, for good."""
        self._stopped = True
        self._end_warm()

    def _end_warm(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = self._control = None


class Session:
    """A submission in the fence. Raises Lost where it cannot be read."""

    def __init__(self, fence: Fence, notebook: bytes):
        self.fence = fence
        self._line: Line | None = None
        self._process = 0
        ours, theirs = socket.socketpair()
        with theirs:
            self._opened = fence.open(theirs)
        self._line = Line(ours)
        try:
            ours.settimeout(_READING)
            ours.sendall(len(notebook).to_bytes(8, "little") + notebook)
            _, _, body = self._line.receive((Kind.NAMES,), 0, _READING)
            ok, names = body
            if not ok:
                raise Lost("unreadable", str(names)[:300])
            self.names = {name for name in names if isinstance(name, str)}
        except Lost:
            self.close()
            raise
        except TimeoutError:
            self.close()
            raise Lost("timeout", f"reading it took more than {_READING:.0f} seconds") from None
        except (BadFrame, OSError, TypeError, ValueError):
            self.close()
            raise Lost("crashed", "reading it ended the process that read it") from None

    @property
    def open(self) -> bool:
        return self._line is not None

    def process(self) -> Line:
        """A line to a new process that loads and calls answers. Raises Lost where the session is gone."""
        if self._line is None:
            raise Lost("crashed", "its process ended")
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._line.connection, [b"?"], [theirs.fileno()])
        except OSError:
            ours.close()
            self.close()
            raise Lost("crashed", "its process ended") from None
        return Line(ours)

    def ended(self) -> int | None:
        """The exit code of the process (a signal as a negative number), None where it does not end.

        In that case the session is closed, and with it everything that the process began.
        """
        if self._line is None:
            return None
        try:
            code = self._line.receive((Kind.ENDED,), 0, _ENDING)[2]
            if isinstance(code, int):
                return code
        except (BadFrame, TimeoutError):
            pass
        self.close()
        return None

    def close(self) -> None:
        """Kill all that is left of it."""
        if self._line is not None:
            self._line.close()
            self._line = None
            self.fence.end(self._opened)


class LoneSession:
    """A submission where no process can be forked and there is no fence: on Windows.

    Each process starts anew and imports torch, which takes seconds; the notebook is parsed here.
    """

    def __init__(self, notebook: bytes):
        self._notebook = notebook
        self._child: subprocess.Popen[bytes] | None = None
        self.open = True
        try:
            self.names = set(Notebook(read(notebook)).names)
        except Unreadable as error:
            raise Lost("unreadable", str(error)[:300]) from None

    def process(self) -> Line:
        """As `Session.process`."""
        token = secrets.token_bytes(16)
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(_STARTING)
            command = [sys.executable, str(_START), "alone", str(server.getsockname()[1]), token.hex()]
            nothing = subprocess.DEVNULL
            environment = {**_environment(), **_NEEDED}
            self._child = subprocess.Popen(
                command, env=environment, stdin=nothing, stdout=nothing, stderr=nothing
            )
            try:
                connection, _ = server.accept()
                line = Line(connection)
                if line.exactly(len(token), time.monotonic() + _READING) != token:
                    raise Lost("crashed", "another program of this machine came between")
                connection.sendall(len(self._notebook).to_bytes(8, "little") + self._notebook)
            except (OSError, BadFrame):
                self.close()
                raise Lost("crashed", "no process for it could be started") from None
        return line

    def ended(self) -> int | None:
        """As `Session.ended`."""
        if self._child is None:
            return None
        try:
            return self._child.wait(_ENDING)
        except subprocess.TimeoutExpired:
            self._child.kill()
            return None

    def close(self) -> None:
        """End its process."""
        self.open = False
        if self._child is not None:
            self._child.kill()
            self._child.wait()


def _can_fork() -> bool:
    return hasattr(os, "fork") and hasattr(socket, "send_fds")


def available() -> str:
    """Why there is no fence on this machine, or "" where there is one."""
    if sys.platform != "linux":
        return "the fence is made of Linux namespaces, which this system does not have"
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed (on Debian and Ubuntu: sudo apt install bubblewrap)"
    return ""


def _bubblewrap() -> list[str]:
    if why := available():
        raise NoFence(why)
    # As root the namespaces need no user namespace; each session then becomes a user of its own.
    spaces = ["--unshare-all"]
    if os.getuid() == 0:
        spaces = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--cap-add", "ALL"]
    command = [shutil.which("bwrap") or "bwrap", *spaces, "--die-with-parent", "--new-session"]
    command += ["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
    for name in _SYSTEM:
        path = Path(name)
        if path.is_symlink():
            command += ["--symlink", os.readlink(path), name]
        elif path.is_dir():
            command += ["--ro-bind", name, name]
    for name in _SETTINGS:
        command += ["--ro-bind-try", name, name]
    for outside, inside in _packages().items():
        for parent in [*inside.parents][-2::-1]:  # by themselves they would be closed to all but their owner
            command += ["--perms", "0755", "--dir", str(parent)]
        command += ["--ro-bind", str(outside), str(inside)]
    # Of the grader only what runs beside student code: the rest is covered by empty folders.
    covered = [str(place) for place in _covered()]
    for place in covered:
        command += ["--perms", "0755", "--tmpfs", place]
    student = PACKAGE / "grading" / "student"
    command += ["--ro-bind", str(student), str(_inside(student))]
    for place in (*covered, "/dev", "/"):
        command += ["--remount-ro", place]
    return [*command, "--chdir", "/tmp"]


def _covered() -> list[Path]:
    """Where the grader, and the solutions beside it in a clone, would be seen inside.

    Not only where the package is bound: once more where it was installed among Python's packages.
    """
    clone = PACKAGE.parents[1]
    return [
        inside / folder.relative_to(outside)
        for outside, inside in _packages().items()
        for folder in (PACKAGE / "grading", clone / "solutions", clone / ".git")
        if folder.is_dir() and folder.is_relative_to(outside)
    ]


def _packages() -> dict[Path, Path]:
    """The folders of Python and its packages, each with its place inside; outer ones first."""
    found = {Path("/usr"): Path("/usr"), PACKAGE: _HOME / "lib" / "attn"}
    if sys.prefix != sys.base_prefix:
        found[Path(sys.prefix)] = _HOME / "python"
    folders = [sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable))]
    folders += [entry for entry in sys.path if os.path.basename(entry) in ("site-packages", "dist-packages")]
    for folder in map(Path, folders):
        if folder.is_dir() and not any(folder.is_relative_to(known) for known in found):
            found[folder] = folder
    return dict(sorted(found.items(), key=lambda item: len(item[1].parts)))


def _inside(path: Path) -> Path:
    """Where a file of the package or of Python is, inside."""
    if path.is_relative_to(PACKAGE):
        return _HOME / "lib" / "attn" / path.relative_to(PACKAGE)
    if sys.prefix != sys.base_prefix and path.is_relative_to(sys.prefix):
        return _HOME / "python" / path.relative_to(sys.prefix)
    return path


def _environment() -> dict[str, str]:
    """No variable of the user's: an answer may depend on none."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return kept | {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",  # sets in the same order in each run
        "PYTHONMALLOC": "malloc",  # all objects in one stretch of memory: warm.py makes huge pages of it
        "MPLBACKEND": "agg",
        "MPLCONFIGDIR": "/tmp",
        "ATTN_CHECK_SHAPES": "1",  # as in a notebook
    }
