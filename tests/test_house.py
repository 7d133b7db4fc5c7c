"""The rules of the house: who leans on whom, what is written down, and that facts written twice agree."""

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tools import notebooks as canonicaliser

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lib" / "attn"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

# The subject: each file may import the files of the lower floors, torch, jaxtyping and the standard library.
FLOORS = [
    {"scores", "normalizers", "masks", "watching", "recurrence"},
    {"core", "positions"},
    {"multihead", "rivals"},
    {"layers"},
    {"transformer"},
    {"convert", "decoding", "images"},
]
SUBJECT = set().union(*FLOORS)
# The other rooms, and which of them (beside the subject, and itself) each may import.
ROOMS = {
    "tasks": set(),
    "plots": set(),
    "training": {"tasks"},
    "grading": {"tasks", "plots", "training"},
    "doctor": {"tasks", "plots", "training"},
    "progress": {"grading"},
    "cli": {"tasks", "plots", "training", "grading", "doctor", "progress"},
}


def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imported(node: ast.AST) -> set[str]:
    """The modules that an import statement names; attn's own down to the file."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports hide who leans on whom"
        inner = {f"{node.module}.{alias.name}" for alias in node.names}
        return {name if name in MODULES else node.module for name in inner}
    return set()


def imports_of(module: str) -> set[str]:
    """What the module imports, anywhere in the file: in functions and for the type checker too."""
    return set().union(*map(imported, ast.walk(tree(module))))


def room(module: str) -> str:
    return [*module.split("."), ""][1]


def test_every_file_of_the_package_has_its_place():
    assert {room(module) for module in MODULES} == {"", *SUBJECT, *ROOMS}


@pytest.mark.parametrize("name", sorted(SUBJECT))
def test_subject_imports_torch_and_lower_floors_only(name):
    below = set().union(*FLOORS[: next(i for i, floor in enumerate(FLOORS) if name in floor)])
    allowed = {"torch", "jaxtyping", *sys.stdlib_module_names}
    for module in imports_of(f"attn.{name}"):
        if module.split(".")[0] == "attn":
            assert room(module) in below, f"attn.{name} may not import {module}"
        else:
            assert module.split(".")[0] in allowed, f"attn.{name} may not import {module}"


@pytest.mark.parametrize("name", sorted(ROOMS))
def test_rooms_import_only_the_rooms_they_may(name):
    for module in MODULES:
        if room(module) == name:
            rooms = {room(other) for other in imports_of(module) if other.split(".")[0] == "attn"} - {""}
            assert rooms <= SUBJECT | ROOMS[name] | {name}, module


def test_nothing_imports_in_a_circle():
    """Nor does it in a function's body, which would hide the circle until somebody calls it."""
    graph = {module: imports_of(module) & MODULES.keys() for module in MODULES}
    list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_every_folder_of_code_is_a_package_that_is_installed():
    found = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert found["packages"] == {"find": {"where": ["lib"]}}  # which takes folders with an __init__.py
    for path in MODULES.values():
        if path.parent.name != "export_files":  # data of attn.grading
            assert (path.parent / "__init__.py").is_file(), path


@pytest.mark.parametrize("module", MODULES)
def test_what_is_public_has_a_docstring(module):
    assert ast.get_docstring(tree(module)), f"{module} does not say what it is for"
    if ".exercises." in module:
        return  # a bank of known mistakes, wrong on purpose: they are named, not documented
    for node in tree(module).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{module}.{node.name} has no docstring"


def test_annotations_are_kept_for_the_shape_checks():
    for module, path in MODULES.items():
        assert "from __future__ import annotations" not in path.read_text(encoding="utf-8"), module


# README.md


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_lists_the_notebooks_that_exist():
    linked = set(re.findall(r"\]\(((?:notebooks|exercises)/[^)]+\.ipynb)\)", readme()))
    exist = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob("*/*.ipynb")
        if path.parent.name != "solutions"
    }
    assert linked == exist


NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def test_readme_and_notebooks_agree_on_the_minutes():
    for path in ROOT.glob("notebooks/*.ipynb"):
        row = next(line for line in readme().splitlines() if f"](notebooks/{path.name})" in line)
        listed = [int(number) for number in re.search(r"\| (\d+) / (\d+) \|", row).groups()]
        first = canonicaliser.from_text(text(path)).cells[0].source
        line = next(line for line in first.splitlines() if re.search(r"\bminutes?\b", line))
        line = re.sub(r"\b(2|two) CPU cores", "", line)
        said = re.findall(rf"\b(\d+|{'|'.join(NUMBERS)})\b", line.lower())
        assert [NUMBERS.index(n) if n in NUMBERS else int(n) for n in said] == listed, f"{path.name}: {line}"


def test_readme_s_badges_open_its_notebooks():
    for line in readme().splitlines():
        for name in re.findall(r"\]\(((?:notebooks|exercises)/[^)]+\.ipynb)\)", line):
            assert canonicaliser.badge(ROOT / name) in line


def test_readme_s_links_lead_somewhere():
    for page in ("README.md", "CONTRIBUTING.md", "LICENSE-TEXT.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text(encoding="utf-8")):
            assert (ROOT / target).exists(), f"{page} links to {target}"


def test_the_course_has_one_public_address():
    for path in committed():
        for address in re.findall(r"github\.com/(?:github/)?(attention-course/[\w-]+)", text(path)):
            assert canonicaliser.REPOSITORY.endswith(address), path


# Files


def committed() -> list[Path]:
    """The files of the repository, new ones included."""
    if not (ROOT / ".git").exists():
        pytest.skip("the tests stand in no git clone")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def test_no_file_names_a_place_on_its_author_s_machine():
    place = re.compile(
        "|".join(["/home" + r"/\w", "/root" + r"/\w", "/Users" + r"/\w", "/work" + "/", r"[A-Z]:\\Users"])
    )
    for path in committed():
        if path.suffix != ".ipynb":  # tests/test_notebooks.py reads those, cell by cell
            found = place.search(text(path))
            assert not found, f"{path.relative_to(ROOT)}: {found}"


# Requirements


def requirements(lines: list[str]) -> dict[str, Requirement]:
    found = [Requirement(line) for line in lines if line.strip() and not line.startswith(("#", "-"))]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def lines(name: str) -> list[str]:
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LEARNER = requirements(lines("requirements.txt"))
PACKAGE_S = requirements(PROJECT["dependencies"])
AUTHOR_S = requirements(PROJECT["optional-dependencies"]["dev"])
PINS = requirements(lines("constraints.txt"))


def test_bounds_are_open_upwards_and_agree():
    for listed in (LEARNER, PACKAGE_S, AUTHOR_S):
        for requirement in listed.values():
            assert re.fullmatch(r">=[\d.]+", str(requirement.specifier)), requirement
    for name in LEARNER.keys() & PACKAGE_S.keys():
        assert LEARNER[name].specifier == PACKAGE_S[name].specifier, name


def test_constraints_are_exact_and_allowed():
    for name, pin in PINS.items():
        assert re.fullmatch(r"==[\w.]+", str(pin.specifier)), (
            f"{pin}: an exact version, without a +local part"
        )
        version = str(pin.specifier).removeprefix("==")
        for listed in (LEARNER, PACKAGE_S, AUTHOR_S):
            if name in listed:
                assert listed[name].specifier.contains(version), f"{pin} is outside {listed[name]}"


@pytest.mark.skipif(sys.platform != "linux", reason="the versions were pinned on Linux")
def test_constraints_cover_all_that_is_installed_for_the_course():
    seen, waiting = set(), [*LEARNER.values(), *PACKAGE_S.values(), *AUTHOR_S.values()]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, *sorted(requirement.extras)) in seen:
            continue
        seen.add((name, *sorted(requirement.extras)))
        if re.match(r"nvidia-|cuda-|triton$|setuptools$", name):
            continue  # torch's own choice, another one in each of its builds
        assert name in PINS, f"{name} is not pinned; CONTRIBUTING.md says how to pin anew"
        for line in metadata.requires(name) or []:
            needed = Requirement(line)
            environments = [{"extra": extra} for extra in requirement.extras] or [{"extra": ""}]
            if needed.marker is None or any(needed.marker.evaluate(e) for e in environments):
                waiting.append(needed)


def test_constraints_allow_the_oldest_python_that_we_promise():
    oldest = str(SpecifierSet(PROJECT["requires-python"])).removeprefix(">=") + ".0"
    for name, pin in PINS.items():
        try:
            installed = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if pin.specifier.contains(installed.version) and installed.metadata.get("Requires-Python"):
            needs = SpecifierSet(installed.metadata["Requires-Python"])
            assert needs.contains(oldest), f"{pin} needs Python {needs}: pin an older version"
