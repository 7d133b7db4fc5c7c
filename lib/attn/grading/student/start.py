"""Starts a process for student code, with torch imported and nothing of the judge.

    start.py warm DESCRIPTOR FENCED MEGABYTES SECONDS    the process that others are forked from
    start.py alone PORT TOKEN                            where nothing can be forked: one that answers itself

The judge is at the descriptor of a Unix socket, or at a port of this machine. `attn.grading`, which is full
of answers, is replaced before anything can import it: its `check` is there and does nothing.
"""

import socket
import sys
import types
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2]


def _stand_in() -> types.ModuleType:
    module = types.ModuleType("attn.grading", "Checks are the judge's; here they do nothing.")
    module.__path__ = [str(PACKAGE / "grading")]  # in a fence, `student` is all that is left of it
    module.__dict__["check"] = lambda answer, id: None
    return module


def _warm(descriptor: int, fenced: int, megabytes: int, seconds: int) -> None:
    from attn.grading.student.warm import serve, warm_up

    warm_up()
    channel = socket.socket(fileno=descriptor)
    channel.sendall(b"ready")
    serve(channel, namespaces=bool(fenced), memory=megabytes * 1_000_000, seconds=seconds)


def _alone(port: int, token: str) -> None:
    import torch

    from attn.grading.student.answers import Notebook, read
    from attn.grading.student.questions import answer_questions
    from attn.grading.student.wire import Line

    torch.set_num_threads(1)
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(bytes.fromhex(token))
    line = Line(connection)
    notebook = line.exactly(int.from_bytes(line.exactly(8), "little"))
    answer_questions(line, Notebook(read(notebook)))


if __name__ == "__main__":
    sys.path[0] = str(PACKAGE.parent)
    sys.modules["attn.grading"] = _stand_in()
    if sys.argv[1] == "warm":
        _warm(*map(int, sys.argv[2:]))
    else:
        _alone(int(sys.argv[2]), sys.argv[3])
