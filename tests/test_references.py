"""docs/references.bib agrees with what the course cites, and CITATION.cff with pyproject.toml."""

import json
import re
import tomllib
import unicodedata
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from pybtex.database import Entry, parse_file

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted(ROOT.glob("notebooks/*.ipynb"))
NOTEBOOKS = [*LESSONS, *sorted(ROOT.glob("solutions/*.ipynb"))]  # exercises/ is generated from solutions/
SOURCES = sorted(ROOT.glob("lib/attn/**/*.py"))
PAGES = sorted(ROOT.glob("docs/*.md"))
BIB = ROOT / "docs" / "references.bib"
ENTRIES: dict[str, Entry] = dict(parse_file(str(BIB), bib_format="bibtex").entries.items())

# Data sets of lessons still to be written, not cited yet. A lesson that is there has to cite its own.
AHEAD = {"11": {"jackson2018free", "sen2008collective", "yang2016revisiting"}}

REQUIRED = {
    "article": {"author", "title", "journal", "year"},
    "book": {"author", "title", "publisher", "year"},
    "inproceedings": {"author", "title", "booktitle", "year"},
    "misc": {"author", "title", "year"},
}
OPTIONAL = {
    "address", "archivePrefix", "doi", "eprint", "howpublished", "number", "pages", "url", "volume",
}  # fmt: skip

BIBTEX_LINE = "All references of the course, in BibTeX: [docs/references.bib](../docs/references.bib)."

# How the course cites: "Vaswani et al. 2017", "Lin, Dong and Lapata (2016, section 3)", "Kim 2014".
_NAME = r"[^\W\d_a-z][\w'\u2019-]+"
_AUTHORS = rf"{_NAME} et al\.|(?:{_NAME}, )*{_NAME} and {_NAME}|{_NAME}"
_YEAR = r"(?:19|20)\d\d"
CITATION = re.compile(rf"(?<![\w*])(?P<authors>{_AUTHORS}) \(?(?P<year>{_YEAR})(?!\w)")
LISTED = re.compile(rf"(?<![\w*])(?P<authors>{_AUTHORS}) (?P<year>{_YEAR}), \*(?P<title>[^*]+)\*")
LINK = re.compile(
    r"https?://(?:www\.)?(?P<host>arxiv\.org|(?:dx\.)?doi\.org|aclanthology\.org)/(?P<path>[^\s)>\]\"'\\]+)"
)
# Capitalised words before a year that are no authors: "November 2019", "NeurIPS 2014", "In 2017".
NO_AUTHOR = set(
    re.findall(
        r"\w+",
        """
        January February March April May June July August September October November December
        Spring Summer Autumn Winter ACL CVPR EMNLP ICLR ICML LREC NAACL NeurIPS WMT
        In Since Before After Until From By Around About Of Year Python PyTorch Copyright
        """,
    )
)


class Citation(NamedTuple):
    author: str
    year: str


def plain(text: str) -> str:
    """`text` without accents, punctuation, LaTeX braces and capitals: for comparing names and titles."""
    letters = unicodedata.normalize("NFKD", text.replace("Ł", "L").replace("ł", "l"))
    letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return " ".join(re.sub(r"[^\w\s]", "", re.sub(r"[-\u2013/]+", " ", letters)).lower().split())


def family(entry: Entry) -> str:
    author = entry.persons["author"][0]
    return plain(" ".join([*author.prelast_names, *author.last_names]))


def identity(entry: Entry) -> Citation:
    return Citation(family(entry), entry.fields["year"])


def titles(entry: Entry) -> set[str]:
    """The title, and the part before its colon."""
    title = entry.fields["title"]
    return {plain(title), plain(title.partition(":")[0])}


def citations(text: str) -> set[Citation]:
    found = set()
    for match in CITATION.finditer(" ".join(text.split())):
        first = re.split(r", | and | et al", match["authors"])[0]
        if first not in NO_AUTHOR:
            found.add(Citation(plain(first.removesuffix("'s").removesuffix("\u2019s")), match["year"]))
    return found


def links(text: str) -> set[str]:
    """The papers that the text links to: an arXiv number, a DOI or an ACL Anthology number."""
    found = set()
    for match in LINK.finditer(text):
        path = match["path"].rstrip(".,;:/").removesuffix(".pdf")
        if match["host"] == "arxiv.org":
            path = re.sub(r"v\d+$", "", re.sub(r"^(?:abs|pdf|html)/", "", path))
        found.add(path.lower())
    return found


def addresses(entry: Entry) -> set[str]:
    """What a link to the entry's paper may name."""
    found = {entry.fields[field].lower() for field in ("eprint", "doi") if field in entry.fields}
    found |= links(entry.fields.get("url", ""))
    return found | {doi.rpartition("/")[2] for doi in found if "/v1/" in doi}


@cache
def text_of(path: Path) -> str:
    """A page or a module; of a notebook all cells, without the outputs. Comments lose their #."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    return re.sub(r"^\s*#+ ?", "", text, flags=re.MULTILINE)


@cache
def references(path: Path) -> str:
    """The lesson's References section: up to the next heading of its level, or the end of its cell."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        _, heading, below = "".join(cell["source"]).partition("## References\n")
        if cell["cell_type"] == "markdown" and heading:
            return re.split(r"^## ", below, flags=re.MULTILINE)[0].strip()
    raise AssertionError(f"{path.name} has no section References")


def bullets(section: str) -> list[str]:
    items = re.split(r"^- ", section.replace(BIBTEX_LINE, ""), flags=re.MULTILINE)[1:]
    return [" ".join(item.split()) for item in items]


def listed_keys(path: Path) -> set[str]:
    """The keys of the papers in the lesson's References section."""
    found = set()
    for match in LISTED.finditer(" ".join(bullets(references(path)))):
        found |= {key for key, entry in ENTRIES.items() if plain(match["title"]) in titles(entry)}
    return found


def meant(citation: Citation, path: Path) -> list[str]:
    """The keys that the citation may mean; of several, those in a lesson's list, or whose title is given."""
    keys = [key for key, entry in ENTRIES.items() if identity(entry) == citation]
    if len(keys) > 1 and path in LESSONS:
        return [key for key in keys if key in listed_keys(path)]
    if len(keys) > 1:
        return [key for key in keys if any(title in plain(text_of(path)) for title in titles(ENTRIES[key]))]
    return keys


def cited_in(path: Path) -> set[str]:
    """The keys that a file cites, in words or by a link."""
    text = text_of(path)
    found = {key for key, entry in ENTRIES.items() if addresses(entry) & links(text)}
    return found.union(*(meant(citation, path) for citation in citations(text)))


each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
each_text = pytest.mark.parametrize(
    "path", [*NOTEBOOKS, *SOURCES, *PAGES], ids=lambda path: path.relative_to(ROOT).as_posix()
)


# The file


def test_keys_are_sorted_and_say_who_and_when():
    written = re.findall(r"^@\w+\{([^,]+),$", BIB.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert written == sorted(set(written)), "sorted by key, each once"
    assert written == list(ENTRIES)
    for key, entry in ENTRIES.items():
        name = family(entry).replace(" ", "")
        word = re.fullmatch(rf"{name}{entry.fields['year']}([a-z0-9]+)", key)
        assert word, f"{key}: first author, year and a word of the title"
        assert word[1] in plain(entry.fields["title"]).split(), f"{key}: {word[1]} is no word of the title"


@pytest.mark.parametrize("key", ENTRIES)
def test_entry_is_complete(key):
    entry = ENTRIES[key]
    names = {name[0].lower() + name[1:] for name in entry.fields.keys()} | set(entry.persons)  # noqa: SIM118
    assert entry.type in REQUIRED
    assert names >= REQUIRED[entry.type], f"lacks {REQUIRED[entry.type] - names}"
    assert names <= REQUIRED[entry.type] | OPTIONAL, f"unknown: {names - REQUIRED[entry.type] - OPTIONAL}"
    assert all(entry.fields[name].strip() for name in entry.fields)
    assert re.fullmatch(_YEAR, entry.fields["year"])
    for author in entry.persons["author"]:
        assert author.last_names, f"{author}: no family name"
        assert author.first_names, f"{author}: no given name"
        assert plain(str(author)) != "others", "authors are named in full"
    assert entry.type in ("article", "book") or {"doi", "eprint", "url"} & names, "where can it be read?"
    assert ("eprint" in names) == ("archivePrefix" in names)
    if "eprint" in names:
        assert entry.fields["archivePrefix"] == "arXiv"
        assert re.fullmatch(r"\d{4}\.\d{4,5}|[a-z-]+/\d{7}", entry.fields["eprint"])
    if "doi" in names:
        assert re.fullmatch(r"10\.\d{4,5}/\S+", entry.fields["doi"])
    if "pages" in names:
        first, last = map(int, entry.fields["pages"].split("--"))
        assert first < last


def test_no_paper_stands_twice():
    for what in (addresses, lambda entry: {plain(entry.fields["title"])}):
        seen: dict[str, str] = {}
        for key, entry in ENTRIES.items():
            for value in what(entry):
                assert seen.setdefault(value, key) == key, f"{value}: {seen[value]} and {key}"


# What cites it


@each_lesson
def test_lesson_says_where_the_bibtex_file_is(path):
    lines = references(path).splitlines()
    assert BIBTEX_LINE in (lines[0], lines[-1]), f"first or last line of the References: {BIBTEX_LINE}"


@each_lesson
def test_listed_papers_agree_with_their_entries(path):
    for bullet in bullets(references(path)):
        found = list(LISTED.finditer(bullet))
        if not found:
            assert not links(bullet), f"not of the form 'Authors Year, *Title*': {bullet}"
            assert not citations(bullet), f"not of the form 'Authors Year, *Title*': {bullet}"
            continue
        ends = [match.start() for match in found[1:]] + [len(bullet)]
        for match, end in zip(found, ends, strict=True):
            named = re.split(r", | and | et al\.", match["authors"])
            keys = [key for key, entry in ENTRIES.items() if plain(match["title"]) in titles(entry)]
            keys = [key for key in keys if family(ENTRIES[key]) == plain(named[0])]
            assert len(keys) == 1, f"{match.group()}: entries with this first author and title: {keys}"
            entry = ENTRIES[keys[0]]
            assert entry.fields["year"] == match["year"], f"{match.group()}: another year in {keys[0]}"
            assert links(bullet[match.start() : end]) <= addresses(entry), (
                f"{bullet}: another link than {keys[0]}"
            )
            if "et al." not in match["authors"]:
                authors = [
                    plain(" ".join([*a.prelast_names, *a.last_names])) for a in entry.persons["author"]
                ]
                assert [plain(name) for name in named] == authors, f"{match.group()}: {keys[0]} has {authors}"


@each_text
def test_linked_papers_have_an_entry(path):
    known = set().union(*map(addresses, ENTRIES.values()))
    unknown = links(text_of(path)) - known
    assert not unknown, f"no entry in {BIB.name} for {sorted(unknown)}"


@each_text
def test_cited_authors_and_years_name_one_entry(path):
    for citation in sorted(citations(text_of(path))):
        keys = meant(citation, path)
        assert len(keys) == 1, f"{citation.author} {citation.year}: {keys or 'no entry'}"


def test_every_entry_is_cited():
    cited = set().union(*(cited_in(path) for path in [*NOTEBOOKS, *SOURCES, *PAGES]))
    ahead = set()
    for number, keys in AHEAD.items():
        assert keys <= set(ENTRIES)
        if not list(ROOT.glob(f"notebooks/{number}_*.ipynb")):
            ahead |= keys
    assert set(ENTRIES) - cited - ahead == set(), "nobody cites these"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("as (Vaswani et al.\n2017, section 3) say", {("vaswani", "2017")}),
        ("Koch and Ullman 1985, Itti, Koch and Niebur 1998.", {("koch", "1985"), ("itti", "1998")}),
        (
            "Press et al. (2022, section 2); Veličković et al. (2024)",
            {("press", "2022"), ("velickovic", "2024")},
        ),
        ("[Chen et al. 2017](https://arxiv.org/abs/1704.00051)", {("chen", "2017")}),
        ("Dependencies, Nivre et al. 2020", {("nivre", "2020")}),
        ("In June 2014, at NeurIPS 2014, 2017 words; seed 2017; Williams (1992)", {("williams", "1992")}),
    ],
)
def test_citations_are_found(text, found):
    assert citations(text) == found


def test_links_are_read():
    text = "(https://arxiv.org/abs/1706.03762v5), <https://doi.org/10.1109/34.730558>. https://arxiv.org/pdf/1409.0473.pdf"
    assert links(text) == {"1706.03762", "10.1109/34.730558", "1409.0473"}


# CITATION.cff: the rules of the official schema, version 1.2.0, for the keys that are used here


def test_citation_file_is_valid_and_agrees_with_the_project():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(citation) == {
        "cff-version", "message", "type", "title", "abstract", "authors", "repository-code", "version",
        "license", "keywords",
    }  # fmt: skip
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    for key in ("message", "title", "abstract", "version"):
        assert isinstance(citation[key], str), key
        assert citation[key].strip(), key
    for author in citation["authors"]:
        assert set(author) == {"name"}, "a group, no invented persons"
        assert author["name"].strip()
    assert len(citation["authors"]) == 1
    assert citation["version"] == project["version"]
    assert citation["repository-code"] == project["urls"]["Repository"]
    assert citation["license"] == ["MIT", "CC-BY-4.0"]
    assert project["license"] == "MIT"
    assert len(citation["keywords"]) == len(set(citation["keywords"])) > 0
    assert all(isinstance(word, str) and word for word in citation["keywords"])
    assert f"# {citation['title']}" == (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[0]


def test_licences_say_what_they_cover():
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    text = (ROOT / "LICENSE-TEXT.md").read_text(encoding="utf-8")
    assert "text and the figures" in text
    assert "https://creativecommons.org/licenses/by/4.0/" in text
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "[MIT](LICENSE)" in readme
    assert "[CC BY 4.0](LICENSE-TEXT.md)" in readme
