"""Jupyter kernels that start warm: forked from a process that has imported torch, attn and Otter already.

Grading 50 notebooks with nbgrader and Otter starts 100 kernels, and each would spend two to four seconds on
imports. Only the start differs: what runs is IPython's own kernel.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def warm_kernels(folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which Jupyter's kernel `python3` starts warm; `folder` holds what that needs."""
    address = folder / "warm.socket"
    spec = folder / "kernels" / "python3"
    spec.mkdir(parents=True)
    command = [sys.executable, __file__]
    about = {
        "argv": [*command, "start", str(address), "{connection_file}"],
        "display_name": "warm",
        "language": "python",
    }
    (spec / "kernel.json").write_text(json.dumps(about))
    unchecked = {name: value for name, value in os.environ.items() if name != "ATTN_CHECK_SHAPES"}
    server = subprocess.Popen(
        [*command, "serve", str(address)],
        env=unchecked,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield {"JUPYTER_PATH": str(folder)}
    finally:
        server.kill()
        server.wait()


def serve(address: str) -> None:
    """Fork a kernel for each one who connects."""
    import ipykernel.kernelapp
    import otter.execute
    import torch

    import attn.grading

    assert all((torch, otter.execute, attn.grading))  # imported for the kernels, not for here
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(16)
        print("ready", flush=True)
        while server in select.select([server, sys.stdin], [], [])[0]:  # until our tests close stdin, or die
            client, _ = server.accept()
            if os.fork() == 0:
                server.close()
                wish = json.loads(client.makefile().readline())
                os.chdir(wish["folder"])
                os.environ.clear()
                os.environ.update(wish["environment"])
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                threading.Thread(target=_die_with, args=(client,), daemon=True).start()
                ipykernel.kernelapp.launch_new_instance(argv=wish["arguments"])
                os._exit(0)
            client.close()


def _die_with(client: socket.socket) -> None:
    client.recv(1)  # returns when the other side is closed, however that came
    os._exit(1)


def start(address: str, connection: str, *more: str) -> None:
    """What Jupyter takes for the kernel: lives as long as the forked one does."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        arguments = ["-f", connection, *more]
        wish = {"folder": os.getcwd(), "environment": dict(os.environ), "arguments": arguments}
        client.sendall(json.dumps(wish).encode() + b"\n")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        client.recv(1)  # the kernel sends nothing; this returns when it has ended


if __name__ == "__main__":
    {"serve": serve, "start": start}[sys.argv[1]](*sys.argv[2:])
