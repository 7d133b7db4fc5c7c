"""Starts the warm process: python start.py DESCRIPTOR FENCED MEGABYTES SECONDS.

The first is a Unix socket to the judge, the last two are limits. `attn.grading`, which is full of answers, is
replaced before anything can import it: its `check` is there and does nothing.
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


if __name__ == "__main__":
    sys.path[0] = str(PACKAGE.parent)
    sys.modules["attn.grading"] = _stand_in()
    from attn.grading.student.warm import serve, warm_up

    descriptor, fenced, megabytes, seconds = map(int, sys.argv[1:])
    warm_up()
    channel = socket.socket(fileno=descriptor)
    channel.sendall(b"ready")
    serve(channel, namespaces=bool(fenced), memory=megabytes * 1_000_000, seconds=seconds)
