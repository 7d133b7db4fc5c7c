"""Submissions that attack the grader, and honest ones that look odd, each with the marks it deserves.

Each is the learner's notebook with some cells replaced. Beside the attack stand honest answers, some before
and some after it, which must keep their marks.
"""

import codecs
import json
import random
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from attn.grading.exercise import chapter, load
from attn.grading.grader import SEED

ROOT = Path(__file__).resolve().parents[2]
SECRET = 20_260  # an instructor's own seed
FULL, ANY = -1, -2  # all points of the question, or whatever it gets

Cells = dict[str, str]


@dataclass(frozen=True)
class Submission:
    """A notebook, and what it deserves.

    Attributes:
      cells: sources of answer cells, by the names of the answers; the others stay blank.
      deserves: points by answer; the others deserve none.
      says: words of the feedback, by answer; they show that the attack was carried out and what came of it.
      status: of the question, by answer.
      hangs: takes as long as it may, so it is graded with a short limit.
      file: makes the file of the notebook, which is JSON.
    """

    name: str
    cells: Cells
    deserves: Mapping[str, int]
    says: Mapping[str, str] = field(default_factory=dict)
    status: Mapping[str, str] = field(default_factory=dict)
    chapter: str = "01"
    hangs: bool = False
    file: Callable[[dict[str, Any]], bytes] = lambda notebook: json.dumps(notebook).encode()

    def __str__(self) -> str:
        return self.name

    def notebook(self) -> bytes:
        return self.file(filled(self.cells, self.chapter))


@cache
def _text(folder: str, number: str) -> str:
    [path] = (ROOT / folder).glob(f"{number}_*.ipynb")
    return path.read_text(encoding="utf-8")


def _name(cell: dict[str, Any]) -> str:
    """The answer that a cell is for."""
    about = cell["metadata"].get("nbgrader", {})
    return about["grade_id"] if about.get("solution") else ""


@cache
def solved(number: str = "01") -> Cells:
    """The right answers of solutions/."""
    cells = json.loads(_text("solutions", number))["cells"]
    return {_name(cell): "".join(cell["source"]) for cell in cells if _name(cell)}


def filled(answers: Cells, number: str = "01") -> dict[str, Any]:
    """The learner's notebook with these answers in it."""
    notebook: dict[str, Any] = json.loads(_text("exercises", number))
    for cell in notebook["cells"]:
        if _name(cell) in answers:
            cell["source"] = answers[_name(cell)]
    return notebook


# Attacks. Each stands between two honest answers.

BEFORE, AFTER = "paper_weights", "passage_mask"


def attack(name: str, cell: str, *, on: str = "stable_softmax", earns: int = 0, **more: Any) -> Submission:
    """A submission that attacks in one cell; `says` and `status` are of that cell."""
    for key in ("says", "status"):
        if key in more:
            more[key] = {on: more[key]}
    cells = {BEFORE: solved()[BEFORE], AFTER: solved()[AFTER], on: cell}
    return Submission(name, cells, {BEFORE: FULL, AFTER: FULL, on: earns}, **more)


def _function(body: str, on: str = "stable_softmax", arguments: str = "scores") -> str:
    lines = "".join(f"    {line}\n" if line else "\n" for line in body.strip("\n").split("\n"))
    return f"def {on}({arguments}):\n{lines}"


def softmax(
    name: str, body: str, *, then: str = "return scores * 0 + 1 / scores.size(-1)", **more: Any
) -> Submission:
    """An attack from inside stable_softmax, which then gives a wrong result of the right layout."""
    return attack(name, _function(f"import os, sys, torch\n{body.strip()}\n{then}"), **more)


def test(name: str, body: str, **more: Any) -> Submission:
    """An attack from inside the test that looks for broken implementations of attention."""
    return attack(name, _function(body, "attention_test", "attention"), on="attention_test", **more)


# What a hunter looks for. It raises RuntimeError with what it found.
_TELL = """
told = "found: " + "; ".join(sorted(set(found)))[:300] if found else "nothing found"
raise RuntimeError(told)
"""
# Words of the exercises, written so that the notebook that looks for them does not hold them itself.
_SECRETS = [
    codecs.encode(mistake.name, "rot13")
    for mistake in load("01.stable_softmax").mistakes
    if mistake.name.isascii()
][:3]

HUNTERS = {
    "objects": f"""
import codecs, gc, types
found = []
kinds = ("Exercise", "Case", "Mistake", "Asked", "Fence", "Session", "_Submission", "Row", "Result")
secrets = [codecs.decode(word, "rot13") for word in {_SECRETS!r}]
for thing in gc.get_objects():
    kind = type(thing)
    if kind.__name__ in kinds and str(kind.__module__).startswith("attn.grading"):
        found.append(kind.__name__)
    if kind is type and thing.__name__ in kinds and str(thing.__module__).startswith("attn.grading"):
        found.append("class " + thing.__name__)
    if kind is dict and any(type(v) is str and v in secrets for v in list(thing.values())):
        found.append("the name of a mistake")
    if kind in (tuple, list) and thing is not secrets and any(type(v) is str and v in secrets for v in thing):
        found.append("the name of a mistake")
for name in list(sys.modules):
    if name.startswith("attn.grading.") and not name.startswith("attn.grading.student"):
        found.append(name)
""",
    "frames": """
found = []
frame = sys._getframe()
while frame is not None:
    for space in (frame.f_locals, frame.f_globals):
        for name, value in list(space.items()):
            if "seed" in name or "secret" in name or "hidden" in name:
                found.append(name)
            home = str(getattr(type(value), "__module__", ""))
            if home.startswith(("attn.grading.exercise", "attn.grading.judge")):
                found.append(name)
            if name == "case" and value:
                found.append(f"the case {value}")
    frame = frame.f_back
""",
    "imports": """
import importlib
found = []
for name in ("exercises", "exercise", "checking", "calling", "judge", "grader", "fence", "marks", "self_test",
             "exercises.ch01_dot_product_attention"):
    for way in (importlib.import_module, __import__):
        try:
            way("attn.grading." + name)
            found.append(name)
        except ImportError:
            pass
if hasattr(sys.modules["attn.grading"], "load"):
    found.append("load")
""",
    "disk": """
found = []
top = "/"
words = ("ch01_", "solutions", "exercises", "grades", "judge.py", "checking.py", "self_test.py")
for folder, folders, files in os.walk(top):
    if folder == "/proc":
        folders.clear()
    for name in files:
        if name.startswith(words) and "attn" in folder or "_dot_product_attention.ipynb" in name:
            found.append(os.path.join(folder, name))
    part = folder.removesuffix("/__pycache__")
    if "attn/grading" in part and not part.endswith(("/student", "/grading")):
        found += [os.path.join(folder, name) for name in files]
for folder in ("/root", "/home", "/work", "/mnt", "/media", "/srv", "/var", "/run"):
    try:
        if os.listdir(folder) and top == "/":
            inside = [f for f, _, files in os.walk(folder) if files]
            found += [f for f in inside if not f.startswith((sys.base_prefix, "/var/tmp"))]
    except OSError:
        pass
""",
    "memory": f"""
import codecs, ctypes, re
found = []
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
# One letter in brackets: the pattern itself does not hold the words.
words = [codecs.decode(word, "rot13").encode() for word in {_SECRETS[:1]!r}]
pattern = re.compile(b"|".join(b"[" + w[:1] + b"]" + w[1:4] + b"[" + w[4:5] + b"]" + w[5:] for w in words))
del words
# There is no /proc where the kernel lets an ordinary user have none.
if os.path.exists("/proc/self/maps"):
    maps, memory = open("/proc/self/maps").read().splitlines(), open("/proc/self/mem", "rb", 0)
    for line in maps:
        first, last = (int(x, 16) for x in line.split()[0].split("-"))
        if "rw" not in line.split()[1] or "/" in line:
            continue
        for place in range(first, last, 1 << 20):
            try:
                memory.seek(place)
                part = memory.read(min(1 << 20, last - place))
            except (OSError, ValueError):
                break
            if pattern.search(part):
                found.append("the name of a mistake")
""",
    "processes": """
import ctypes
found = []
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
others = [p for p in os.listdir("/proc") if p.isdigit() and int(p) != os.getpid()]
for process in others:
    for name in ("environ", "mem", "maps", "auxv", "syscall", "stack"):
        try:
            with open(f"/proc/{process}/{name}", "rb") as file:
                file.read(0 if name == "mem" else 1)
            found.append(f"{process} {name}")
        except OSError:
            pass
    for name in ("cwd", "root", "exe", "fd"):
        try:
            os.listdir(f"/proc/{process}/{name}") if name == "fd" else os.readlink(f"/proc/{process}/{name}")
            found.append(f"{process} {name}")
        except OSError:
            pass
libc = ctypes.CDLL(None, use_errno=True)
class Part(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
here = ctypes.create_string_buffer(16)
for process in map(int, others or ["1"]):
    address = ctypes.addressof(here)
    local, remote = Part(address, 16), Part(address, 16)
    if libc.process_vm_readv(process, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0) >= 0:
        found.append("process_vm_readv")
    if libc.ptrace(16, process, None, None) == 0:
        found.append("ptrace")
    if hasattr(os, "pidfd_open"):
        try:
            handle = os.pidfd_open(process)
            if libc.syscall(438, handle, 3, 0) >= 0:
                found.append("pidfd_getfd")
        except OSError:
            pass
""",
    "environment": """
words = ("ATTN", "NBGRADER", "GITHUB", "USER", "SSH", "PYTEST", "VIRTUAL")
found = [n for n in os.environ if n.startswith(words) and n != "ATTN_CHECK_SHAPES"]
found += [x for x in sys.argv if "seed" in x or ".ipynb" in x]
""",
    "network": """
import socket
found = []
for family, address in ((socket.AF_INET, ("127.0.0.1", 22)), (socket.AF_INET, ("192.0.2.1", 80)),
                        (socket.AF_INET6, ("2001:db8::1", 80))):
    try:
        with socket.socket(family, socket.SOCK_STREAM) as s:
            s.settimeout(0.5)
            s.connect(address)
        found.append(str(address))
    except OSError:
        pass
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as s:
            s.sendto(b"x", address)
        if address[0] != "127.0.0.1":
            found.append("a datagram")
    except OSError:
        pass
found += [name for _, name in socket.if_nameindex() if name != "lo"]
try:
    socket.getaddrinfo("example.org", 80)
    found.append("a name")
except OSError:
    pass
""",
    "privileges": """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
found = []
flags = {"mount": 0x20000, "process": 0x20000000, "network": 0x40000000, "user": 0x10000000}
for name, flag in flags.items():
    if libc.unshare(flag) == 0:
        found.append("unshare " + name)
if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0 or libc.umount2(b"/proc", 2) == 0:
    found.append("mount")
if libc.mount(None, b"/usr", None, 0x20 | 0x1000, None) == 0:
    found.append("mount writable")
for call in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]), lambda: os.chroot("/tmp"),
             lambda: os.nice(-5), lambda: os.mknod("/tmp/disk", 0o60666, 0x800)):
    try:
        call()
        found.append("a call that needs privileges")
    except OSError:
        pass
import resource
for limit in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE):
    try:
        resource.setrlimit(limit, (-1, -1))
        found.append("a limit")
    except (OSError, ValueError):
        pass
if os.path.exists("/proc/self/status"):  # there is no /proc where the kernel allows none
    for line in open("/proc/self/status"):
        if line.startswith(("CapEff", "CapPrm", "CapBnd", "CapAmb")) and int(line.split()[1], 16):
            found.append(line.split()[0])
        if line.startswith("NoNewPrivs") and line.split()[1] != "1":
            found.append("new privileges")
""",
    "writable places": """
found = []
for folder, folders, files in os.walk("/"):
    if folder in ("/tmp", "/proc", "/dev/shm"):
        folders.clear()
        continue
    if folder.startswith("/dev/pts"):
        continue
    try:
        with open(os.path.join(folder, "left behind"), "w") as file:
            file.write("x")
        found.append(folder)
    except OSError:
        pass
""",
}


def hunting(name: str) -> str:
    """A stable_softmax that hunts once in each process and raises what it found."""
    return _function(
        "import os, sys\n" + _once(HUNTERS[name] + "sys.found = found") + "found = sys.found\n" + _TELL
    )


def _once(body: str) -> str:
    return (
        "if not hasattr(sys, 'done'):\n    sys.done = True\n" + textwrap.indent(body.strip(), "    ") + "\n"
    )


# Frames written by hand. `frames(requests)` has the right layout and wrong numbers.
_FRAMES = """
import torch, os, struct
from attn.grading.student.wire import Kind, pack, HEADER, MAGIC
from attn.grading.student.values import Array, freeze_tensor
def frames(requests, value=0.2, name="weights", shape=None, kind=Kind.OUTCOME):
    x = torch.full(tuple(shape or scores.shape), value)
    body = ((name,), (freeze_tensor(name, x),), "", "", (), False, "")
    return b"".join(pack(kind, request, body) for request in requests)
def to_all(data):
    for descriptor in range(256):
        try:
            os.set_blocking(descriptor, False)
            os.write(descriptor, data)
            os.set_blocking(descriptor, True)
        except OSError:
            pass
"""


def forged(name: str, body: str, **more: Any) -> Submission:
    return softmax(name, _FRAMES + body, **more)


_VISIBLE = """
import torch
seen = %s
"""


def _memorised() -> str:
    """The visible results by heart."""
    exercise = load("01.stable_softmax")
    pairs = [(c.make(2017)[0].tolist(), exercise.reference(*c.make(2017)).tolist()) for c in exercise.cases]
    return _VISIBLE % repr(pairs).replace("inf", "float('inf')") + _function("""
for x, y in seen:
    x = torch.tensor(x, dtype=scores.dtype)
    if x.shape == scores.shape and torch.allclose(x, scores):
        return torch.tensor(y, dtype=scores.dtype)
return torch.sigmoid(scores)
""")


_RIGHT = "torch.exp(scores - torch.logsumexp(scores, -1, keepdim=True))"


def _order(secret: int) -> list[int]:
    """The implementations, by their numbers, in the order that the judge draws from this seed."""
    exercise = load("01.attention_test")
    order = list(range(len(exercise.cases)))
    random.Random(f"{secret} {exercise.id}").shuffle(order)
    return order


def _lucky() -> int:
    """The first seed with luck: verdicts drawn with it fail no right code, and much of the broken."""
    order = _order(SECRET)
    for seed in range(100_000):
        draw = random.Random(seed)
        fails = [place for place in order if draw.random() < 0.5]
        if min(fails, default=0) >= _RIGHT_CODE and len(fails) > 5:
            return seed
    raise AssertionError("no luck")


_RIGHT_CODE = sum(case.points == 0 for case in load("01.attention_test").cases)


def _attacks() -> Iterator[Submission]:
    # Comparison turned around. The judge compares elsewhere.
    yield softmax(
        "patched numpy",
        (
            "import numpy\nfor n in ('allclose', 'array_equal', 'isclose'):\n"
            "    setattr(numpy, n, lambda *a, **k: True)"
        ),
    )
    yield softmax(
        "patched torch",
        """
for n in ("allclose", "equal", "isclose", "all", "any"):
    setattr(torch, n, lambda *a, **k: torch.tensor(True))
torch.testing.assert_close = lambda *a, **k: None
""",
    )
    yield softmax(
        "patched operators of tensors",
        """
for n in ("__eq__", "__ne__", "__lt__", "__gt__", "equal", "allclose", "__bool__"):
    setattr(torch.Tensor, n, lambda *a, **k: True)
""",
    )
    yield softmax(
        "patched builtins",
        """
import builtins
builtins.all = builtins.any = builtins.isinstance = builtins.callable = lambda *a: True
builtins.abs = lambda x: 0.0
builtins.zip = lambda *a, **k: iter(())
builtins.max = lambda *a, **k: 1e30
""",
    )
    equal = (
        "class Same({base}):\n    def __eq__(self, other): return True\n"
        "    __ne__ = lambda *a: False\n    __hash__ = lambda self: 0\n"
    )
    yield softmax(
        "an object that equals everything",
        equal.format(base="object"),
        then="return Same()",
        says="an object of type Same",
    )
    yield softmax(
        "a float that equals everything",
        equal.format(base="float"),
        then="x = torch.zeros_like(scores); x.tolist = lambda: Same(); return x",
    )
    yield softmax(
        "a tensor that equals everything",
        """
class Same(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return True
""",
        then="return torch.zeros_like(scores).as_subclass(Same)",
        says="an object of type Same",
    )
    yield attack(
        "values that equal everything",
        equal.format(base="dict")
        + """
class Word(str):
    __eq__ = lambda *a: True
    __hash__ = lambda self: 0
scale_claim = {"wrong": Word("A"), "divisor": float("nan")}
""",
        on="scale_claim",
    )
    yield attack(
        "a dict whose get is clever",
        """
class Clever(dict):
    def get(self, key, default=None): return {"wrong": "B", "divisor": 8.0}[key]
    __getitem__ = __missing__ = get
scale_claim = Clever(wrong="A", divisor=512)
""",
        on="scale_claim",
    )
    yield attack(
        "not a number, infinite, huge",
        """
scale_claim = {"wrong": "B" * 10**6, "divisor": float("nan")}
""",
        on="scale_claim",
    )
    yield attack(
        "all letters at once",
        'scale_claim = {"wrong": ["A", "B", "C", "D"], "divisor": [8.0, 512]}',
        on="scale_claim",
    )
    # The runner patched: it can say what it likes, and has nothing right to say.
    yield softmax(
        "patched runner",
        """
from attn.grading.student import answers, questions, running, values, wire
for module in (answers, questions, running, values, wire):
    for name in ("same", "_alike", "_identical", "judge"):
        setattr(module, name, lambda *a, **k: True)
    for name in ("freeze_tensor", "_results", "_changed"):
        if hasattr(module, name):
            setattr(module, name, lambda *a, **k: ())
""",
    )
    yield softmax(
        "patched runner that says 'right'",
        """
from attn.grading.student import questions, running
from attn.grading.student.values import Array
right = {"status": Array((), "text", ("right",)), "points": Array((), "number", (8.0,))}
questions.run = lambda *a, **k: running.Outcome(right)
""",
    )
    yield softmax(
        "patched pack",
        """
from attn.grading.student import wire
old = wire.pack
wire.pack = lambda kind, request, body: old(kind, request, ("right", 8, 8))
""",
    )
    yield softmax(
        "patched Outcome",
        """
from attn.grading.student import running
class Passed(running.Outcome):
    passed = True
    points = 8
    __eq__ = lambda *a: True
running.Outcome = Passed
""",
    )
    yield attack(
        "the check of the notebook, called and replaced",
        """
from attn.grading import check
import attn.grading
attn.grading.check = lambda answer, id: 8
def stable_softmax(scores):
    import attn.grading
    check(lambda s: s, "01.stable_softmax")
    attn.grading.VISIBLE_SEED = 1
    return scores
""",
    )
    # Hunts
    for name in HUNTERS:
        yield attack(f"hunts: {name}", hunting(name), says="nothing found")
    # Frames by hand
    yield forged("frames before the answer", "to_all(frames(range(200)))")
    yield forged(
        "one frame that is due, at the right time",
        """
frame = sys._getframe()
while frame is not None and "request" not in frame.f_locals:
    frame = frame.f_back
to_all(frames([frame.f_locals["request"]]))
""",
    )
    yield forged(
        "a frame that is due, and gone",
        """
frame = sys._getframe()
while "request" not in frame.f_locals:
    frame = frame.f_back
to_all(frames([frame.f_locals["request"]]))
os._exit(0)
""",
    )
    for value in ("float('nan')", "float('inf')", "0.0", "1e38", "-float('inf')"):
        yield forged(
            f"a frame full of {value}",
            f"""
frame = sys._getframe()
while "request" not in frame.f_locals:
    frame = frame.f_back
to_all(frames([frame.f_locals["request"]], value={value}))
""",
        )
    yield forged(
        "frames of every kind",
        """
for kind in Kind:
    to_all(frames(range(30), kind=kind))
""",
    )
    yield forged(
        "frames that claim what is no outcome",
        """
frame = sys._getframe()
while "request" not in frame.f_locals:
    frame = frame.f_back
request = frame.f_locals["request"]
to_all(pack(Kind.OUTCOME, request, ((), (), "", "", (), False, "")))
""",
        says="cannot be understood",
        status="crashed",
    )
    yield forged("half a frame", "to_all(frames(range(1, 9))[:70])\nos._exit(3)")
    yield forged(
        "a frame that claims to be long",
        "to_all(HEADER.pack(MAGIC, Kind.OUTCOME, 2, 7_999_999) + bytes(100))",
        hangs=True,
    )
    yield forged(
        "a frame that claims to be longer than any", "to_all(HEADER.pack(MAGIC, Kind.OUTCOME, 2, 2**32 - 1))"
    )
    yield forged(
        "a hundred thousand frames", "for _ in range(100):\n    to_all(frames(range(1000), shape=(1,)))"
    )
    yield forged("a million numbers", _once("to_all(frames(range(2, 5), shape=(1000, 1000)))"), hangs=True)
    yield forged("noise into every descriptor", "for i in range(64):\n    to_all(os.urandom(65536))")
    yield forged(
        "frames from a thread that goes on",
        """
import threading, time
def go_on():
    for i in range(200):
        to_all(frames(range(i, i + 50)))
        time.sleep(0.005)
threading.Thread(target=go_on, daemon=True).start()
""",
    )
    yield forged(
        "frames from a process that outlives the question",
        """
import time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for i in range(100):
            to_all(frames(range(i, i + 20)) + pack(Kind.OUTCOME, i, ((), (), "", "", (), True, "")))
            time.sleep(0.01)
    os._exit(0)
""",
    )
    yield forged(
        "the next question's answer said to be blank",
        """
frame = sys._getframe()
while "request" not in frame.f_locals:
    frame = frame.f_back
request = frame.f_locals["request"]
n = 1000
if os.fork() == 0:
    time = __import__("time")
    time.sleep(0.05)
    for r in range(request, request + 80):
        to_all(pack(Kind.OUTCOME, r, ((), (), "", "", (), True, "")))
    os._exit(0)
""",
    )
    yield forged(
        "frames with descriptors in them",
        """
import socket
for descriptor in range(3, 64):
    try:
        with socket.socket(fileno=os.dup(descriptor)) as s:
            s.setblocking(False)
            socket.send_fds(s, [frames([2])], [0] * 200)
    except OSError:
        pass
""",
    )
    # Ends of all kinds
    yield softmax("os._exit(0)", "os._exit(0)", status="crashed", says="exit code 0")
    yield softmax("SystemExit", "raise SystemExit")
    yield softmax("KeyboardInterrupt", "raise KeyboardInterrupt", status="crashed")
    yield softmax("GeneratorExit", "raise GeneratorExit")
    yield softmax(
        "an error whose text cannot be had",
        """
class Bad(Exception):
    def __str__(self): raise self
    __repr__ = __str__
""",
        then="raise Bad",
    )
    yield softmax(
        "an error with a long text of odd characters",
        "",
        then="raise ValueError('\\ud800\\x00\\x1b[31m<script>' * 10**6)",
    )
    for name in ("SIGKILL", "SIGSEGV", "SIGABRT", "SIGTERM", "SIGBUS"):
        yield softmax(
            f"{name} to itself",
            f"import signal\nos.kill(os.getpid(), signal.{name})\nimport time; time.sleep(5)",
            status="crashed",
        )
    # In the first answer that is asked for: what hangs in a later one is asked for once more, alone.
    yield attack(
        "SIGSTOP to itself",
        "import os, signal\npaper_weights = os.kill(os.getpid(), signal.SIGSTOP)",
        on=BEFORE,
        status="timeout",
        hangs=True,
    )
    yield softmax(
        "memory read at 0", "import ctypes; ctypes.string_at(0)", status="crashed", says="signal 11"
    )
    yield softmax(
        "all signals to everybody",
        """
import signal
for process in (1, os.getppid(), 0, -1, *range(2, 60)):
    if process not in (os.getpid(), 0, -1):
        for number in range(1, 65):
            try: os.kill(process, number)
            except (OSError, ValueError): pass
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
for process in (0, -1):
    for number in (1, 2, 3, 10, 12, 13, 15, 19):
        if number != 19:
            try: os.kill(process, number)
            except OSError: pass
""",
    )
    yield softmax(
        "SIGKILL to all",
        "import signal\ntry: os.kill(-1, signal.SIGKILL)\nexcept OSError: pass\nos.kill(0, signal.SIGKILL)",
        status="crashed",
    )
    # Time
    yield softmax("an endless loop", "while True: pass", status="timeout", hangs=True)
    yield softmax(
        "an endless loop that catches everything",
        """
while True:
    try:
        while True: pass
    except BaseException: pass
""",
        status="timeout",
        hangs=True,
    )
    yield attack(
        "a sleep without the alarm",
        """
import signal, time
def sleep():
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    time.sleep(100)
paper_weights = sleep()
""",
        on=BEFORE,
        status="timeout",
        hangs=True,
    )
    yield softmax(
        "a long computation in C",
        "x = torch.ones(3000, 3000)\nfor _ in range(10**6): x = x @ x",
        status="timeout",
        hangs=True,
    )
    yield softmax(
        "a regular expression that never ends",
        "import re\nre.match('(a+)+$', 'a' * 60 + 'b')",
        status="timeout",
        hangs=True,
    )
    yield attack(
        "an endless loop when it is defined",
        "def forever():\n    while True: pass\nstable_softmax = forever()",
        status="timeout",
        hangs=True,
    )
    yield attack(
        "slow at every call",
        "import time\ndef stable_softmax(scores):\n    time.sleep(0.05)\n    return scores",
    )
    # Memory, processes, descriptors
    yield softmax("3 GB at once", "x = bytearray(3 * 10**9)", status="out of memory")
    yield softmax("3 GB in torch", "x = torch.zeros(3 * 10**9 // 4)", status="out of memory")
    yield softmax(
        "memory in small pieces", "x = []\nwhile True: x.append(bytearray(10**5))", status="out of memory"
    )
    yield softmax(
        "memory in small pieces, caught",
        _once("""
x = []
while True:
    try: x.append([0] * 1000)
    except MemoryError: break
"""),
    )
    yield softmax("recursion", "def f(): return f()\nf()", says="RecursionError")
    yield softmax(
        "recursion in C", "sys.setrecursionlimit(10**9)\nx = []\nfor _ in range(10**6): x = [x]\nrepr(x)"
    )
    yield softmax("a fork bomb", "while True:\n    try: os.fork()\n    except OSError: pass", hangs=True)
    yield softmax(
        "a thread bomb",
        """
import threading, time
for _ in range(1000):
    try: threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
    except RuntimeError: break
""",
    )
    yield softmax("every descriptor closed", "os.closerange(0, 256)", status="crashed")
    yield softmax(
        "every descriptor another",
        (
            "x = os.open('/dev/null', os.O_RDWR)\nfor i in range(256):\n    if i != x:\n"
            "        try: os.dup2(x, i)\n        except OSError: pass"
        ),
        status="crashed",
    )
    yield softmax(
        "every descriptor taken",
        (
            "keep = sys.keep = []\ntry:\n"
            "    while True: keep.append(os.open('/dev/null', os.O_RDONLY))\nexcept OSError: pass"
        ),
    )
    yield softmax(
        "the disk filled",
        """
for folder in ("/tmp", "/dev/shm", "/", "/course", "/dev"):
    for i in range(20):
        try:
            with open(f"{folder}/{i}", "wb") as file:
                while True: file.write(bytes(10**6))
        except OSError: pass
""",
    )
    # Hidden inputs
    yield attack("the visible results by heart", _memorised(), says="with others of the same kind not")
    yield softmax(
        "right as long as the request ids are small",
        """
frame = sys._getframe()
while "request" not in frame.f_locals:
    frame = frame.f_back
early = frame.f_locals["request"] < 15  # the visible cases, twice, after the question before
""",
        then=f"return {_RIGHT} if early else scores",
    )
    yield attack(
        "right for the first calls",
        (
            f"import torch\ncalls = []\ndef stable_softmax(scores):\n    calls.append(1)\n"
            f"    return {_RIGHT} if len(calls) <= 10 else scores"
        ),
    )
    yield attack(
        "right for inputs that it has seen before",
        f"""
import torch
seen = []
def stable_softmax(scores):
    if len(seen) >= 5 and not any(x.shape == scores.shape and torch.equal(x, scores) for x in seen):
        return scores
    seen.append(scores)
    return {_RIGHT}
""",
    )
    yield softmax(
        "random", "", then="return torch.rand_like(scores).softmax(-1)", says="two different answers"
    )
    yield softmax(
        "another answer at each call",
        "from time import perf_counter_ns",
        then="return scores * perf_counter_ns()",
    )
    # Odd results
    yield softmax("a view of its input", "", then="return scores[...]")
    yield softmax(
        "its input, changed",
        "",
        then="return scores.sub_(scores.amax(-1, keepdim=True)).exp_().div_(scores.sum(-1, keepdim=True))",
        says="changed in place",
    )
    yield softmax("a generator", "", then="yield scores")
    yield softmax("a tensor without numbers", "", then="return torch.empty(scores.shape, device='meta')")
    yield softmax("a sparse tensor", "", then="return scores.to_sparse()")
    yield softmax("a complex tensor", "", then="return scores.to(torch.complex64)", says="complex")
    yield softmax(
        "a huge tensor of one number",
        "",
        then="return torch.zeros(1).expand(10**12)",
        says="far more than expected",
    )
    yield softmax(
        "a quantised tensor", "", then="return torch.quantize_per_tensor(scores, 0.1, 0, torch.quint8)"
    )
    yield softmax(
        "a nested tensor", "", then="return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])"
    )
    yield softmax("a lazy negative view", "", then="return torch._neg_view(torch.softmax(scores, -1))")
    yield softmax(
        "a coroutine",
        "",
        then="import asyncio\nasync def late(): return scores\nreturn late()",
        says="coroutine",
    )
    yield softmax("a tensor of 200 axes", "", then="return torch.ones([1] * 60)")
    # The test that finds bugs: it may know of an implementation only what that does
    yield test(
        "a test that reads the name of the case",
        """
import sys
frame = sys._getframe()
while frame is not None:
    case = frame.f_locals.get("case")
    if isinstance(case, str):
        assert "right" in case or "equivalent" in case
    frame = frame.f_back
attention
""",
    )
    names = {type(c.make(0)[0]).__name__ for c in load("01.attention_test").cases}
    assert names == {"function"}
    yield test(
        "a test that reads the name of the function in an error",
        """
try:
    attention()
except TypeError as error:
    text = str(error)
    assert not any(word in text for word in ("first", "favoured"))
""",
    )
    yield test(
        "a test that counts its calls, in the order of the published seed",
        f"""
import builtins
calls = builtins.__dict__.setdefault("calls", [])
order = {_order(SEED)!r}
order = order + order[::-1]
place = order[len(calls) % {2 * len(_order(SEED))}]
calls.append(1)
try: attention()
except Exception: pass
assert place < {_RIGHT_CODE}
""",
    )
    yield test(
        "a test that counts its calls, in the order of the notebook",
        f"""
import builtins
calls = builtins.__dict__.setdefault("calls", [])
calls.append(1)
order = [*range({len(_order(SEED))}), *reversed(range({len(_order(SEED))}))]
try: attention()
except Exception: pass
assert order[(len(calls) - 1) % len(order)] < {_RIGHT_CODE}
""",
    )
    yield test(
        "a test that fails every other time",
        (
            "import builtins\nbuiltins.turn = not getattr(builtins, 'turn', False)\n"
            "assert builtins.turn\nattention"
        ),
    )
    yield test(
        "a test that draws its verdicts, and is lucky",
        f"""
import builtins, random
builtins.draw = getattr(builtins, "draw", None) or random.Random({_lucky()})
try: attention()
except TypeError: pass
assert builtins.draw.random() >= 0.5
""",
    )
    yield test("a test that always fails", "assert False")
    yield test("a test that never calls", "return True")
    yield test(
        "a test that reads what it is handed",
        """
import gc, inspect
seen = repr(attention) + str(attention.__name__) + str(attention.__qualname__) + str(attention.__doc__)
waiting, met = [attention], []
while waiting:
    thing = waiting.pop()
    met.append(thing)
    for cell in getattr(thing, "__closure__", None) or ():
        if not any(cell.cell_contents is x for x in met):
            waiting.append(cell.cell_contents)
            seen += repr(cell.cell_contents)[:200]
assert not any(word in seen for word in ("first", "shifted", "favoured", "_attention_with"))
try: attention()
except TypeError: pass
""",
    )
    for order in (("passes", "fails"), ("fails", "passes"), ("fails",) * 2, ("passes",) * 2):
        yield test(
            f"verdicts by hand: {order}",
            f"""
import os, sys, torch
scores = torch.ones(1)
{_FRAMES.strip()}
frame = sys._getframe()
while "request" not in frame.f_locals:
    frame = frame.f_back
request = frame.f_locals["request"]
for i, said in enumerate({order!r}):
    verdict = Array((), "text", (said,))
    to_all(pack(Kind.OUTCOME, request + i, (("verdict",), (verdict,), "", "", (), False, "")))
os._exit(0)
""",
        )
    yield test(
        "a test with hostile arguments",
        """
import torch
for arguments in ((), (1,), ("x" * 10**5,) * 3, (torch.ones(64, 64),) * 3, (torch.ones(0, 64),) * 3,
                  ([[[1]]],) * 3,
                  (None,) * 3, (torch.zeros(64, 0, 64),) * 3, (float("nan"),) * 3, (2**62,) * 3, (True,) * 3,
                  (torch.ones(2, 3, dtype=torch.bool),) * 3, (torch.full((2, 2), 2**62),) * 3,
                  (torch.ones([1] * 8),) * 3, (torch.ones(10**5),)):
    for named in ({}, {"mask": 5}, {"self": 1}, {"": 2}, {"mask": torch.ones(3)}, {"mask": "no"}):
        try: attention(*arguments, **named)
        except Exception: pass
""",
    )
    yield test(
        "a test that asks without end",
        """
import torch
x = torch.ones(2, 3)
while True:
    try: attention(x, x, x)
    except Exception: pass
""",
        hangs=True,
    )
    yield test(
        "a test that asks by hand, with nonsense",
        """
import os, sys, torch
scores = torch.ones(1)
"""
        + _FRAMES.strip()
        + """
frame = sys._getframe()
while "request" not in frame.f_locals:
    frame = frame.f_back
request = frame.f_locals["request"]
for body in (((), (), ()), ((1, 2), ("a",), ()), (5, 5, 5), ("abc", "abc", "abc"), ((), (None,), (1,)),
             ((), ((),), (1,)), None, 7):
    to_all(pack(Kind.ASK, request, body))
os._exit(0)
""",
    )


# Odd, and honest: all of it is right, and all of it keeps its marks.

Cell = dict[str, Any]


def odd(
    name: str, change: Callable[[dict[str, Any]], Any] | None = None, number: str = "01", **cells: str
) -> Submission:
    """A notebook with all answers right, `cells` in place of some, and then changed as a whole.

    `change` gets the notebook as JSON; what it returns, if anything, is the file.
    """
    deserves = {exercise.name: FULL for exercise in chapter(number)}

    def file(notebook: dict[str, Any]) -> bytes:
        made = change(notebook) if change is not None else None
        return made if isinstance(made, bytes) else json.dumps(notebook).encode()

    return Submission(name, {**solved(number), **cells}, deserves, chapter=number, file=file)


def _code(source: str) -> Cell:
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None}


def _sources(notebook: dict[str, Any], change: Callable[[str], str]) -> None:
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["source"] = change("".join(cell["source"]))


def _add(*sources: str, first: bool = False) -> Callable[[dict[str, Any]], None]:
    """Put cells below all others (or above), and each once more in the middle."""

    def change(notebook: dict[str, Any]) -> None:
        made, cells = [_code(source) for source in sources], notebook["cells"]
        middle = len(cells) // 2
        notebook["cells"] = (
            (made if first else []) + cells[:middle] + made + cells[middle:] + ([] if first else made)
        )

    return change


def _without_metadata(notebook: dict[str, Any]) -> None:
    for cell in notebook["cells"]:
        cell["metadata"] = {}
        cell.pop("id", None)
    notebook["metadata"] = {}


def _as_of_old(notebook: dict[str, Any]) -> bytes:
    """nbformat 3."""
    cells = []
    for cell in notebook["cells"]:
        new = {"cell_type": cell["cell_type"], "metadata": {}, "source": cell["source"]}
        if cell["cell_type"] == "code":
            new |= {"input": new.pop("source"), "language": "python", "outputs": [], "prompt_number": 1}
        cells.append(new)
    old = {"metadata": {"name": ""}, "nbformat": 3, "nbformat_minor": 0, "worksheets": [{"cells": cells}]}
    return json.dumps(old).encode()


def _is_check(cell: Cell) -> bool:
    return "".join(cell["source"]).startswith("check(")


def _without_checks(notebook: dict[str, Any]) -> None:
    notebook["cells"] = [cell for cell in notebook["cells"] if not _is_check(cell)]


def _with_other_checks(notebook: dict[str, Any]) -> None:
    for cell in notebook["cells"]:
        if _is_check(cell):
            cell["source"] = (
                'check(lambda *x: 1 / 0, "01.attention").points == 10\nassert False\ncheck = None'
            )
    notebook["cells"] += [cell for cell in notebook["cells"] if _is_check(cell)]


def _backwards(notebook: dict[str, Any]) -> None:
    notebook["cells"].reverse()


def _only_answers(notebook: dict[str, Any]) -> None:
    """One cell, with all answers in it."""
    answers = "\n\n".join(cell["source"] for cell in notebook["cells"] if _name(cell))
    notebook["cells"] = [_code("import torch\n" + answers)]


def _copies(*, blank_first: bool) -> Callable[[dict[str, Any]], None]:
    def change(notebook: dict[str, Any]) -> None:
        blank = filled({})["cells"]
        notebook["cells"] = blank + notebook["cells"] if blank_first else notebook["cells"] + blank

    return change


def _printed_a_lot(notebook: dict[str, Any]) -> None:
    output = {"output_type": "stream", "name": "stdout", "text": ["0123456789" * 9 + "\n"] * 550_000}
    notebook["cells"][-1] = _code("print('a lot')") | {"outputs": [output]}


def _without_torch(notebook: dict[str, Any]) -> None:
    _sources(
        notebook,
        lambda source: (
            source.replace("import torch\n", "", 1) if source.startswith("import torch") else source
        ),
    )
    notebook["cells"].append(
        _code("from attn.grading import *\nimport torch, numpy as np\nfrom torch import nn")
    )


_FOREVER = (
    "for epoch in range(10**9):\n"
    "    output, weights = attention(torch.ones(3, 4), torch.ones(3, 4), torch.ones(3, 4))"
)
_SHIFT = "scores - scores.amax(-1, keepdim=True)"


def _stable(body: str, before: str = "") -> str:
    """A right stable_softmax."""
    return f"{before}\n\n\n{_function(body)}".strip("\n")


def _odd() -> Iterator[Submission]:
    yield odd("as it is")
    yield odd("no metadata", _without_metadata)
    yield odd("nbformat 3", _as_of_old)
    yield odd(
        "nbformat 4.0", lambda notebook: [_without_metadata(notebook), notebook.update(nbformat_minor=0)]
    )
    yield odd("no check cells", _without_checks)
    yield odd("check cells edited and doubled", _with_other_checks)
    yield odd("all cells backwards", _backwards)
    yield odd("one cell", _only_answers)
    yield odd("the blank notebook below", _copies(blank_first=False))
    yield odd("the blank notebook above", _copies(blank_first=True))
    yield odd(
        "sources as lists of lines",
        lambda n: [c.update(source="".join(c["source"]).splitlines(True)) for c in n["cells"]],
    )
    yield odd("lines that end as on Windows", lambda n: _sources(n, lambda s: s.replace("\n", "\r\n")))
    yield odd(
        "a byte order mark", lambda n: b"\xef\xbb\xbf" + json.dumps(n, ensure_ascii=False, indent=4).encode()
    )
    yield odd("50 MB of stored output", _printed_a_lot)
    yield odd("%%time above each cell", lambda n: _sources(n, lambda s: "%%time\n" + s))
    yield odd(
        "magics in each cell",
        lambda n: _sources(n, lambda s: f"%matplotlib inline\n!ls -l\n{s}\n%timeit 1\n?torch"),
    )
    yield odd(
        "a question mark after names", lambda n: _sources(n, lambda s: s + "\nattention?\nstable_softmax??")
    )
    yield odd(
        "501 shell lines", lambda n: n["cells"].insert(3, _code("!a\n" * 501))
    )  # one more than IPython takes
    yield odd(
        "cells that are not Python",
        _add(
            "this is my draft",
            "def (",
            "x = ",
            "%%bash\nexit 1",
            "%%javascript\nlet a = 1",
            "\ud800",
            "\0",
            "(" * 3000,
            "-" * 50_000 + "1",
        ),
    )
    yield odd(
        "cells that end the kernel",
        _add(
            "exit()",
            "quit",
            "raise SystemExit",
            "import os; os._exit(1)",
            "import os\nos.kill(os.getpid(), 9)",
            first=True,
        ),
    )
    yield odd(
        "training that takes for ever",
        _add(_FOREVER, "while True:\n    pass", "import time; time.sleep(10**6)", first=True),
    )
    yield odd(
        "demos that crash",
        _add(
            "1 / 0",
            "attention(1, 2, 3)",
            "assert False, attention",
            "undefined.fit(attention)",
            "x = torch.ones(10**12)",
        ),
    )
    yield odd(
        "await at the top",
        _add("import asyncio\nawait asyncio.sleep(1)", "async with x: pass", "return 3", "yield 4"),
    )
    yield odd(
        "cells that change torch",
        _add(
            "torch.set_default_dtype(torch.float64)",
            "torch.softmax = None",
            "torch.set_grad_enabled(False)",
            "torch.Tensor.exp = None",
        ),
    )
    yield odd("imports elsewhere and later", _without_torch)
    yield odd(
        "names that are not ASCII",
        stable_softmax=_stable(
            "größe = scores.amax(-1, keepdim=True)\nπ = (scores - größe).exp()\nreturn Σ(π)",
            "def Σ(π):  # die Summe ist 1 — ∑ wⱼ = 1 😀\n    return π / π.sum(-1, keepdim=True)",
        ),
    )
    yield odd(
        "helpers and constants in other cells",
        _add(
            "def shifted(scores):\n    return scores - scores.amax(AXIS, keepdim=True)",
            "AXIS = int(-1.0)",
            "e = math.exp(1)",
            "import math",
        ),
        stable_softmax=_stable(
            "p = torch.pow(torch.tensor(e, dtype=scores.dtype), shifted(scores))\n"
            "return p / p.sum(AXIS, keepdim=True)"
        ),
    )
    yield odd(
        "torch under other names",
        stable_softmax=_stable(
            f"x = t.exp({_SHIFT})\nreturn x / tensor_sum(x, -1, keepdim=True)",
            "import torch as t\nfrom torch import sum as tensor_sum",
        ),
    )
    yield odd(
        "a wrong answer above the right one",
        stable_softmax="def stable_softmax(scores):\n    return scores\n\n\n" + solved()["stable_softmax"],
    )
    yield odd(
        "a demo under if __name__",
        stable_softmax=solved()["stable_softmax"]
        + '\n\nif __name__ == "__main__":\n    print(stable_softmax(torch.ones(3)))\n',
    )
    yield odd(
        "annotations of names that are not there",
        _add("from __future__ import annotations", first=True),
        stable_softmax=solved()["stable_softmax"].replace(
            "scores: torch.Tensor", "scores: Float[Tensor, 'n']"
        ),
    )
    yield odd(
        "a class that can be called",
        stable_softmax=(
            f"class Softmax:\n    def __init__(self, axis):\n        self.axis = axis\n\n"
            f"    def __call__(self, scores):\n        x = torch.exp({_SHIFT})\n"
            f"        return x / x.sum(self.axis, keepdim=True)\n\n\nstable_softmax = Softmax(-1)"
        ),
    )
    yield odd(
        "a module of torch",
        stable_softmax=(
            f"class Softmax(torch.nn.Module):\n    def forward(self, scores):\n"
            f"        x = torch.exp({_SHIFT})\n        return x / x.sum(-1, keepdim=True)\n\n\n"
            f"stable_softmax = Softmax()"
        ),
    )
    yield odd(
        "partial and lambda",
        stable_softmax=(
            "import functools\n"
            f"power = lambda scores: torch.exp({_SHIFT})\n"
            "softmax = lambda axis, scores: power(scores) / power(scores).sum(axis, keepdim=True)\n"
            "stable_softmax = functools.partial(softmax, -1)"
        ),
    )
    yield odd(
        "a decorated answer",
        stable_softmax=(
            "import functools\n\n\ndef timed(f):\n    @functools.wraps(f)\n    def inner(*x):\n"
            "        return f(*x)\n\n    return inner\n\n\n@timed\n"
        )
        + solved()["stable_softmax"],
    )
    yield odd(
        "NumPy inside",
        passage_mask=(
            "import numpy as np\n\n\ndef passage_mask(passage, question):\n"
            "    n = passage + question\n"
            "    return torch.from_numpy(np.broadcast_to(np.arange(n) >= passage, (n, n)).copy())"
        ),
    )
    yield odd(
        "double precision inside",
        stable_softmax=_stable(
            "x = scores.double()\nreturn torch.exp(x - torch.logsumexp(x, -1, keepdim=True)).to(scores.dtype)"
        ),
    )
    yield odd(
        "a result that takes no more room than a row",
        passage_mask=(
            "def passage_mask(passage, question):\n    n = passage + question\n"
            "    return (torch.arange(n) >= passage).expand(n, n)"
        ),
    )
    yield odd(
        "a parameter as a result",
        previous_token=solved()["previous_token"].replace(
            "return query, key",
            "return torch.nn.Parameter(query), torch.nn.Parameter(key).t().contiguous().t()",
        ),
    )
    yield odd(
        "50 MB printed by a right answer",
        stable_softmax=_stable(
            "print('0123456789' * 5_000_000)\nimport sys\nsys.stderr.write('x' * 10**6)\n"
            + f"x = torch.exp({_SHIFT})\nreturn x / x.sum(-1, keepdim=True)"
        ),
    )
    yield odd(
        "50 MB written to descriptor 1",
        stable_softmax=_stable(
            "import os\nfor _ in range(50):\n    os.write(1, b'0' * 10**6)\n"
            + f"x = torch.exp({_SHIFT})\nreturn x / x.sum(-1, keepdim=True)"
        ),
    )
    yield odd(
        "a hundred thousand warnings",
        stable_softmax=_stable(
            (
                "import warnings, logging\nwarnings.simplefilter('always')\nfor i in range(10_000):\n"
                "    warnings.warn(str(i))\nlogging.error('no')\n"
            )
            + f"x = torch.exp({_SHIFT})\nreturn x / x.sum(-1, keepdim=True)"
        ),
    )
    yield odd(
        "warnings as errors",
        stable_softmax=_stable(
            f"import warnings\nwarnings.simplefilter('error')\nx = torch.exp({_SHIFT})\n"
            f"return x / x.sum(-1, keepdim=True)"
        ),
    )
    for what, line in {
        "the default dtype": "torch.set_default_dtype(torch.float64)",
        "what is zero": "torch.zeros = torch.ones",
        "what is not implemented": "def zeros(*a, **k):\n    raise NotImplementedError\ntorch.zeros = zeros",
        "operators": "torch.Tensor.__setitem__ = lambda *a: None\ntorch.Tensor.__matmul__ = None",
        "gradients": "torch.autograd.set_grad_enabled(False)",
        "anomalies": "torch.autograd.set_detect_anomaly(True)",
        "the alarm": (
            "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_DFL)\n"
            "signal.setitimer(signal.ITIMER_REAL, 0)"
        ),
        "the folder": "import os\nos.chdir('/')\nos.environ.clear()",
        "the streams": "import sys\nsys.stdout = sys.stderr = None\nsys.stdin.close() if sys.stdin else None",
        "the limit of recursion": (
            "import sys\nsys.setrecursionlimit(60 + len(__import__('inspect').stack()))"
        ),
        "builtins": "import builtins\nbuiltins.len = builtins.range = None",
        "modules": (
            "import sys\nfor name in list(sys.modules):\n"
            "    if name.startswith(('numpy', 'attn', 'json')):\n        del sys.modules[name]"
        ),
    }.items():
        # Right, and what it changes stays changed: the other answers must not pay for that.
        body = f"x = torch.exp({_SHIFT})\ntotal = x / x.sum(-1, keepdim=True)\n{line}\nreturn total"
        deserves = {exercise.name: FULL for exercise in chapter("01")}
        deserves["stable_softmax"] = ANY
        yield Submission(
            f"one answer changes {what}", {**solved(), "stable_softmax": _stable(body)}, deserves
        )
    yield odd(
        "files and threads",
        stable_softmax=_stable(f"""
import pathlib, tempfile, threading
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "scores.pt"
    torch.save({_SHIFT}, path)
    x = []
    thread = threading.Thread(target=lambda: x.append(torch.load(path).exp()))
    thread.start()
    thread.join()
return x[0] / x[0].sum(-1, keepdim=True)
"""),
    )
    yield odd(
        "the library of the course",
        stable_softmax=_stable(
            "import attn.core\nreturn torch.exp(scores - scores.logsumexp(-1, keepdim=True))",
            "from attn import core as attention_core",
        ),
    )
    yield odd(
        "a chapter with everything stripped",
        lambda n: [_without_metadata(n), _without_checks(n), _backwards(n)],
        number="05",
    )


def attacks() -> tuple[Submission, ...]:
    return tuple(_attacks())


def oddities() -> tuple[Submission, ...]:
    return tuple(_odd())
