"""`attn doctor`: a true word about every part, even where torch is broken."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from attn import doctor
from attn.cli import main


@pytest.fixture(autouse=True)
def _no_data(monkeypatch, tmp_path):
    monkeypatch.delenv("ATTN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_a_healthy_machine(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    subjects = {line.split()[1]: line.split()[0] for line in lines}
    assert {line[:4].strip() for line in lines} <= {"OK", "WARN"}
    assert subjects["python"] == subjects["torch"] == subjects["packages"] == "OK"
    assert subjects.keys() >= {"device", "threads", "jupyter", "data", "fence"}


@pytest.mark.parametrize(
    "trouble", ["raise ImportError('libcudart.so: not found')", "raise OSError('bad DLL')", "1/0"]
)
def test_a_torch_that_cannot_be_imported(tmp_path, trouble):
    (tmp_path / "torch.py").write_text(trouble)
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "ATTN_CHECK_SHAPES": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "attn.cli", "doctor"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr == ""
    assert "FAIL  torch" in done.stdout
    assert "OK    python" in done.stdout
    assert "fence" in done.stdout.splitlines()[-1]


def test_an_old_python(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 2))
    assert doctor.python().verdict == "FAIL"


def test_missing_and_old_packages(monkeypatch):
    installed = {"numpy": "1.26.4", "torch": "2.13.0+cpu"}

    def version(name):
        if name not in installed:
            raise doctor.importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    wanted = ["torch>=2.5", "numpy>=2.0", "tqdm>=4.66", "pytest>=8; extra == 'dev'"]
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda _: wanted)
    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    finding = doctor.packages()
    assert finding.verdict == "FAIL"
    assert "numpy 1.26.4 is older than 2.0, tqdm is missing: pip install" in finding.text


def _torch(threads=1, cuda=0, mps=False):
    card = SimpleNamespace(name="A card", total_memory=16 * 2**30)
    return SimpleNamespace(
        get_num_threads=lambda: threads,
        cuda=SimpleNamespace(
            is_available=lambda: cuda > 0, device_count=lambda: cuda, get_device_properties=lambda _: card
        ),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps)),
    )


def test_threads(monkeypatch):
    monkeypatch.setattr(doctor, "_cores", lambda: 2)
    assert doctor.threads(_torch(2)).verdict == "OK"
    crowded = doctor.threads(_torch(64))
    assert crowded.verdict == "WARN"
    assert "OMP_NUM_THREADS=2" in crowded.text


def test_devices(monkeypatch):
    assert "cuda: A card, 16 GiB, and 1 more" in doctor.device(_torch(cuda=2)).text
    assert "mps" in doctor.device(_torch(mps=True)).text
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    assert doctor.device(_torch()).verdict == "OK"
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert doctor.device(_torch()).verdict == "WARN"


def test_data(monkeypatch, tmp_path):
    assert all(finding.verdict == "WARN" and "ATTN_DATA" in finding.text for finding in doctor.data())
    monkeypatch.setenv("ATTN_DATA", str(tmp_path / "nowhere"))
    assert "is no folder" in next(iter(doctor.data())).text
    monkeypatch.setattr("attn.tasks.download.available", lambda _: True)
    monkeypatch.delenv("ATTN_DATA")
    assert all(finding.verdict == "OK" for finding in doctor.data())


@pytest.mark.parametrize(
    ("script", "verdict", "words"),
    [
        (None, "WARN", "not installed"),
        ("exit 0", "OK", "works"),
        ("echo No permissions to create new namespace >&2; exit 1", "WARN", "No permissions"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is for Linux")
def test_fence(monkeypatch, tmp_path, script, verdict, words):
    program = tmp_path / "bwrap"
    if script:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setattr(doctor.shutil, "which", lambda _: str(program) if script else None)
    finding = doctor.fence()
    assert finding.verdict == verdict
    assert words in finding.text
    assert ("grade only notebooks that you trust" in finding.text) == (verdict != "OK")


@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_no_fence_elsewhere(monkeypatch, system):
    monkeypatch.setattr(doctor.platform, "system", lambda: system)
    assert "bubblewrap is for Linux" in doctor.fence().text
