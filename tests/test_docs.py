"""The pages of docs/ that learners look things up in: their code runs, their links lead somewhere, and facts
that stand twice agree."""

import ast
import contextlib
import io
import itertools
import json
import re
import subprocess
import sys
import warnings
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import torch

from attn import progress

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]+`", "", without_blocks(text))


def sections(text: str, level: int) -> dict[str, str]:
    """Heading -> what stands below it, for the headings of one level; none may stand twice."""
    parts = re.split(rf"^{'#' * level} (.+)$", text, flags=re.MULTILINE)[1:]
    assert len(parts[::2]) == len(set(parts[::2])), "a heading stands twice"
    return dict(zip(parts[::2], parts[1::2], strict=True))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", ["error_messages.md", "glossary.md"])
def test_links_lead_somewhere(name):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]+))?\)", without_code(page(name))):
        if "://" in target:
            continue
        path = (DOCS / target).resolve() if target else DOCS / name
        assert path.exists(), f"{name} links to {target}"
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{name} links to {target}#{anchor}"


@pytest.mark.parametrize("name", ["error_messages.md", "glossary.md"])
def test_lessons_are_planned_only_until_they_are_there(name):
    for numbers in re.findall(r"[Ll]essons? ([\d, and]+)\s\(planned\)", page(name)):
        for number in re.findall(r"\d\d", numbers):
            assert not list(ROOT.glob(f"notebooks/{number}_*.ipynb")), f"{name}: lesson {number} is there"


# error_messages.md

GAP = "..."  # in a message: here something may differ


def entries() -> dict[str, tuple[str, str]]:
    """Heading -> (group, what stands below it), for each message of the page."""
    found = {}
    for group, text in sections(page("error_messages.md"), 2).items():
        for heading, body in sections(text, 3).items():
            assert heading not in found, f"{heading} stands twice"
            found[heading] = (group, body)
    return found


def blocks(body: str) -> list[tuple[str, str]]:
    """The (code, message) pairs of an entry."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", body, flags=re.MULTILINE | re.DOTALL)
    kinds = [kind for kind, _ in found]
    assert kinds == ["python", "text"] * (len(kinds) // 2), f"{kinds}: each code needs its message after it"
    return [(code, message) for (_, code), (_, message) in zip(found[::2], found[1::2], strict=True)]


def condition(body: str) -> tuple[bool, str] | None:
    """(is it run at all, the condition) of an entry that says *Run ...* or *Not run: ...*."""
    found = re.search(r"^\*(Run|Not run:) (.+)\.\*$", body, flags=re.MULTILINE)
    return None if found is None else (found[1] == "Run", found[2])


def says(said: str, message: str) -> bool:
    """Whether `said` holds the message's parts in their order; how lines are broken does not matter."""
    words = " ".join(said.split())
    at = 0
    for part in message.split(GAP):
        part = " ".join(part.split())
        at = words.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


def outcome(code: str) -> str:
    """What Python prints when it runs the code: its output, and the last lines of a traceback."""
    printed = io.StringIO()
    error = ""
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            exec(compile(code, "<error_messages.md>", "exec"), {"__name__": "__main__"})
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
    return printed.getvalue() + error


def runs() -> list[pytest.param]:
    found = []
    text = page("error_messages.md")
    bodies = {heading: body for heading, (_, body) in entries().items()}
    bodies["No message at all"] = sections(text, 2)["No message at all"]
    for heading, body in bodies.items():
        said = condition(body)
        marks = [pytest.mark.skip(reason=said[1])] if said and not said[0] else []
        for number, (code, message) in enumerate(blocks(body), 1):
            where = said[1] if said else ""
            found.append(pytest.param(code, message, where, id=f"{heading} {number}", marks=marks))
    return found


@pytest.mark.parametrize(("code", "message", "where"), runs())
def test_code_gives_the_message(code, message, where, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if where == "where attn is not installed":
        python = [sys.executable, "-I", "-S", "-c", code]  # -S: without the installed packages
        found = subprocess.run(python, capture_output=True, text=True).stderr
    else:
        assert where in ("", "without a network"), f"no test knows how to run it {where}"
        monkeypatch.delenv("ATTN_DATA", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        for scheme in ("http", "https", "all"):  # nobody listens there
            monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
            monkeypatch.setenv(f"{scheme.upper()}_PROXY", "http://127.0.0.1:9")
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = outcome(code)
    assert says(found, message), f"the page has\n{message}\nit gives\n{found}"


@pytest.mark.parametrize("heading", entries())
def test_entry_has_all_its_parts(heading):
    _, body = entries()[heading]
    pairs = blocks(body)
    assert pairs, "the code and its message are missing"
    assert all(len(message.replace(GAP, "")) > 20 for _, message in pairs), "a message says too little"
    assert says(pairs[0][1], heading), "the heading is not part of the first message"
    places = [body.find(f"**{part}:** ") for part in ("Means", "Do", "Course")]
    assert min(places) > body.rfind("\n```\n"), "Means, Do and Course stand below the messages"
    assert places == sorted(places)
    where = body[places[-1] :]
    assert re.search(r"\]\(|every lesson", where), "say where the course teaches it"


def test_contents_list_the_groups():
    text = page("error_messages.md")
    contents = re.search(r"^Contents: (.+?)\n\n", text, flags=re.MULTILINE | re.DOTALL)[1]
    listed = [" ".join(title.lower().split()) for title in re.findall(r"\[([^]]+)\]", contents)]
    assert listed == [title.lower() for title in sections(text, 2)]


def test_page_names_sections_that_its_lessons_have():
    """`[lesson 03](../notebooks/03_masks.ipynb), sections 2 and 8`: sections 2 and 8 exist there."""
    link = r"\]\(\.\./(notebooks/\w+\.ipynb)\),?\s(?:sections?|claims?)\s([^;.|(]+)"
    known: dict[str, str] = {}
    for notebook, wanted in re.findall(link, page("error_messages.md")):
        text = known.setdefault(notebook, (ROOT / notebook).read_text(encoding="utf-8"))
        for section in re.findall(r"\b\d+\b", re.split(r"\[|exercise", wanted)[0]):
            assert re.search(rf'"## {section}\. ', text), f"{notebook} has no section {section}"
        for claim in re.findall(r"`([\w-]+)`", wanted):
            assert f"claim:{claim}" in text, f"{notebook} has no claim {claim}"


# glossary.md


def terms() -> dict[str, str]:
    """Term -> its entry."""
    lines = sections(page("glossary.md"), 2)["Glossary"].splitlines()
    found: dict[str, str] = {}
    for line in lines:
        if head := re.match(r"- \*\*(.+?)\*\*", line):
            assert head[1] not in found, f"{head[1]} stands twice"
            found[head[1]] = line
        elif line.startswith("  "):
            found[next(reversed(found))] += " " + line.strip()
    return found


def test_terms_are_in_alphabetical_order():
    names = [re.sub(r"[^a-z0-9 ]", "", name.lower().replace("-", " ")) for name in terms()]
    for before, after in itertools.pairwise(names):
        assert before < after, f"{after!r} stands after {before!r}"


def test_there_are_sixty_terms_or_more():
    assert len(terms()) >= 60


@pytest.mark.parametrize("term", terms())
def test_term_is_explained_and_leads_to_a_lesson(term):
    entry = terms()[term]
    assert re.search(r"\]\(\.\./notebooks/\d\d_\w+\.ipynb\)|[Ll]esson \d\d\s\(planned\)", entry)
    words = len(re.sub(r"\([^)]*\)", "", entry).split())
    assert 8 <= words <= 75, f"{words} words: one or two sentences"


def test_see_also_names_terms_that_are_there():
    names = {name.lower() for name in terms()}
    for term, entry in terms().items():
        for other in re.findall(r"[Ss]ee \*([^*]+)\*", entry):
            assert other.lower() in names, f"{term} points to {other}"


def test_notation_is_that_of_the_design():
    def rows(text: str) -> list[str]:
        table = re.search(
            r"^\| symbol \| name in code \| shape \|\n.+?(?=\n\n)", text, re.MULTILINE | re.DOTALL
        )
        return table[0].splitlines()

    assert rows(page("glossary.md")) == rows(page("design.md"))
    assert len(rows(page("design.md"))) > 5


def test_symbols_stand_once():
    symbols = re.findall(r"^\| ([^|]+) \|", sections(page("glossary.md"), 2)["Notation"], flags=re.MULTILINE)
    symbols = [s for s in symbols if s not in ("symbol", "word", "thing") and not set(s) <= {"-", " "}]
    assert len(symbols) == len(set(symbols))


# The course map


MAP = (DOCS / "course_map.md").read_text(encoding="utf-8")


def test_the_map_has_every_idea_once_and_leans_on_earlier_ones_only():
    ideas = [concept.id for concept in progress.concepts(ROOT)]
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \|$", MAP, re.MULTILINE)
    assert [idea for idea, _ in rows] == ideas
    chapter = {concept.id: concept.chapter for concept in progress.concepts(ROOT)}
    graph = {idea: set(re.findall(r"`([a-z0-9-]+)`", needs)) for idea, needs in rows}
    list(TopologicalSorter(graph).static_order())  # raises CycleError
    for idea, needs in graph.items():
        assert needs or "nothing" in dict(rows)[idea]
        assert all(chapter[need] <= chapter[idea] for need in needs), idea


def test_the_map_of_lessons_is_the_one_that_lesson_00_draws():
    drawn = {(int(before), int(after)) for before, after in re.findall(r"L(\d\d) --> L(\d\d)", MAP)}
    first = json.loads((ROOT / "notebooks" / "00_start_here.ipynb").read_text(encoding="utf-8"))
    sources = ("".join(cell["source"]) for cell in first["cells"])
    source = next(source for source in sources if "course_map(" in source)
    needs: dict[int, list[int]] = {}
    for table in re.findall(r"^needs \|?= (\{.*?\})$", source, re.MULTILINE | re.DOTALL):
        needs |= ast.literal_eval(table)
    assert drawn == {(before, after) for after, all_before in needs.items() for before in all_before}


def test_ideas_lean_on_ideas_of_lessons_that_the_lesson_needs():
    edges = {(before, after) for before, after in re.findall(r"L(\d\d) --> L(\d\d)", MAP)}
    reaches = {(n, n) for edge in edges for n in edge} | edges
    for _ in edges:
        reaches |= {(a, d) for a, b in reaches for c, d in edges if b == c}
    chapter = {concept.id: concept.chapter for concept in progress.concepts(ROOT)}
    for idea, needs in re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \|$", MAP, re.MULTILINE):
        for need in re.findall(r"`([a-z0-9-]+)`", needs):
            assert (chapter[need], chapter[idea]) in reaches, f"{idea} needs {need}"
