"""Finds what a class handed in: whose notebook is which file, in a folder of any layout or a platform's zip.

Layouts that are known: one folder per student, nested or not; flat files that carry a name; nbgrader's
`submitted/`; downloads of Canvas, Moodle and Gradescope; one learner's own exercises/ folder (no student).
Zips are read where they are: nothing is unpacked to the disk. Two notebooks of one student for one chapter
are two submissions. Who is on the roster, or has a folder, and handed in no notebook is listed as missing.
"""

import csv
import io
import os
import re
import stat
import unicodedata
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

LARGEST = 200_000_000  # bytes of one notebook, or of a zip inside a zip
NOTEBOOKS_IN_A_ZIP = 100  # of one student
MEMBERS_IN_A_ZIP = 200_000  # the list of them alone could fill the memory
DEEPEST = 40  # folders in folders in a zip
RATIO = 1_100  # deflate reaches 1,032: what claims more is no ordinary zip

CANVAS = ("ID", "SIS User ID", "SIS Login ID", "Section")  # names of identifiers, and Canvas's columns


@dataclass(frozen=True)
class Submission:
    """A notebook that was handed in, or the fact that none was.

    Attributes:
      student: who ("" where the layout does not tell); nobody else has the same.
      file: relative to what was searched, with "/"; a zip counts as a folder. Unique, but for the missing.
      path: where the file is, or the zip that holds it; None for the missing.
      members: in a zip: the number of the member, and of the member of the zip which that is.
      identifiers: what the platform calls the student: "ID" (of Canvas), "Email", "Moodle ID" ...
      problem: why it cannot be read, or why it is missing, in one line.
    """

    student: str
    file: str
    path: Path | None = None
    members: tuple[int, ...] = ()
    identifiers: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    @property
    def missing(self) -> bool:
        return self.path is None

    def bytes(self) -> bytes:
        """What is in the file. Raises OSError, with one line that says why, where it cannot be read."""
        if self.path is None or self.problem:
            raise OSError(self.problem)
        return _read(self.path, self.members)


class Person(NamedTuple):
    """Someone on the roster."""

    name: str
    identifiers: dict[str, str]


def find(path: Path, roster: Path | None = None) -> list[Submission]:
    """All submissions in a notebook, a folder or a zip, sorted by student and file.

    With a roster (a CSV with names or ids, an exported Canvas gradebook say) students are called as they are
    there, and those without a notebook are listed. Raises FileNotFoundError or ValueError, with one line,
    where there is nothing to grade.
    """
    path = Path(path)
    people = _Roster(read_roster(roster) if roster else [])
    tree = _search(path)
    found = _assign(tree, people)
    if all(submission.missing for submission in found):
        if path.is_dir() and not any(path.iterdir()):
            raise ValueError(f"the folder {path} is empty")
        raise ValueError(f"no notebook (.ipynb) in the {'folder' if path.is_dir() else 'zip'} {path}")
    handed_in = {submission.student for submission in found}
    found += [
        Submission(name, "", identifiers=ids, problem="on the roster, but nothing was handed in")
        for name, ids in people.people
        if name not in handed_in
    ]
    return _unique(sorted(found, key=lambda s: (s.student.casefold(), s.student, s.file, s.members)))


def identifiers(found: Iterable[Submission]) -> dict[str, dict[str, str]]:
    """What is known of each student, by student: what `reports.write` needs for a gradebook."""
    known: dict[str, dict[str, str]] = {}
    for submission in found:
        if submission.student:
            known.setdefault(submission.student, {}).update(submission.identifiers)
    return known


def stems() -> list[str]:
    """The names of the exercise notebooks: "01_dot_product_attention" ..."""
    from attn.grading.exercise import chapters

    return [module.removeprefix("ch") for module in chapters().values()]


# From a file's name


def chapter_of(file: str, known: Collection[str]) -> str:
    """The chapter of a notebook from its name, "01", or "" where that does not tell.

    `known`: the names of the notebooks, "01_dot_product_attention". A name that holds one of them is of that
    chapter; otherwise two digits at the start of a part of the name say it, those of a known chapter first.
    """
    *folders, name = file.split("/")
    place = _place(_bare(name), known)
    if place:
        return place.chapter
    for folder in reversed(folders):  # submitted/jane/01_dot_product_attention/notebook.ipynb
        place = _place_of_stem(folder.removesuffix(".zip"), known)
        if place:
            return place.chapter
        if digits := re.fullmatch(r"(?:ch|chapter)?[\W_]*(\d\d)", folder.removesuffix(".zip"), re.IGNORECASE):
            return digits[1]
    return ""


class _Place(NamedTuple):
    """Where a name says the chapter."""

    chapter: str
    start: int
    end: int | None  # None: not known where the title ends


def _place(name: str, known: Collection[str]) -> _Place | None:
    place = _place_of_stem(name, known)
    if place:
        return place
    numbers = {stem[:2] for stem in known}
    spots = list(re.finditer(r"(?<![^\W_])(?:ch|chapter)?(\d\d)(?!\d)", name, re.ASCII | re.IGNORECASE))
    spots.sort(
        key=lambda spot: spot[1] not in numbers
    )  # stable: the first of a known chapter, then the first
    return _Place(spots[0][1], spots[0].start(), None) if spots else None


def _place_of_stem(name: str, known: Collection[str]) -> _Place | None:
    """Where the name of a notebook stands in `name`, however its words are joined."""
    for numbered in (True, False):
        for stem in sorted(known, key=lambda stem: (-len(stem), stem)):
            words = re.split(r"[\W_]+", stem)[0 if numbered else 1 :]
            pattern = r"(?<![^\W_])" + r"[\W_]+".join(map(re.escape, words)) + r"(?![^\W_])"
            if words and (spot := re.search(pattern, name, re.IGNORECASE)):
                return _Place(stem[:2], spot.start(), spot.end())
    return None


_CANVAS = re.compile(r"(?P<name>[^_]*[^\W\d_][^_]*)_(?:LATE_)?(?P<id>\d{2,})_(?:\d{2,})_(?P<rest>.+)")
_MOODLE = re.compile(r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission_(?:file|onlinetext)(?:_(?P<rest>.*))?")
_GRADESCOPE = re.compile(r"submission_\d+")


def _bare(name: str) -> str:
    """A file's name without what platforms and browsers add: "Copy of x (1).ipynb" is "x"."""
    if platform := _MOODLE.fullmatch(name) or _CANVAS.fullmatch(name):
        name = platform["rest"] or ""
    name = re.sub(r"(\.ipynb|\.zip)+$", "", name, flags=re.IGNORECASE)
    name = re.sub(r"^(\s*(copy of|kopie von|copie de|copia de)\s+)+", "", name, flags=re.IGNORECASE)
    return re.sub(r"(\s*\(\d+\)|\s*-\s*copy( \d+)?|[-_ ]copy\d*|-\d{1,2})+$", "", name, flags=re.IGNORECASE)


# Words that name no student, in a file's name or as a folder's.
_BESIDE_A_NAME = """
answer answers assignment attempt backup ch chapter copy done draft exercise exercises final fixed
homework hw lab late lesson my new notebook notebooks of old part session solution solutions submission
submissions task test untitled v version week
"""
_OF_FOLDERS = """
assets attachments attention autograded class course data docs download downloads export exports feedback
fig figs figures files images img lib main master media release runs source src student students
submitted tests tools venv
"""
_NOISE = frozenset(_BESIDE_A_NAME.split())
_NO_STUDENT = _NOISE | frozenset(_OF_FOLDERS.split())


def _nobody(text: str, words: frozenset[str]) -> bool:
    """Whether a text names no student: only `words`, short numbers and things like "week3"."""
    if re.search(r"student[\W_]*\d", text.casefold()):  # "student 12" is one
        return False
    parts = [part for part in re.split(r"[\W_]+", text.casefold()) if part]
    return all(re.sub(r"\d{0,3}$", "", part) in words | {""} for part in parts)


def _student_in(name: str, known: Collection[str]) -> tuple[str, bool]:
    """Whose name a file's name holds beside the chapter ("" if none), and whether it says a chapter."""
    bare = _bare(name)
    place = _place(bare, known)
    if place is None:
        return ("" if _nobody(bare, _NOISE) else _tidy(bare)), False
    texts = [bare[: place.start], "" if place.end is None else bare[place.end :]]
    named = [_tidy(text) for text in texts if not _nobody(text, _NOISE)]
    return (named[0] if named else ""), True


def _tidy(text: str) -> str:
    """A student's name as it is shown: composed characters, single spaces, no joints left at its ends."""
    text = unicodedata.normalize("NFC", text)
    return " ".join(text.split()).strip("_-. ")


# What is there


class _File(NamedTuple):
    parts: tuple[str, ...]
    path: Path
    members: tuple[int, ...] = ()
    problem: str = ""

    @property
    def is_notebook(self) -> bool:
        return self.parts[-1].lower().endswith(".ipynb")

    @property
    def is_zip(self) -> bool:
        return self.parts[-1].lower().endswith(".zip")


class _Tree(NamedTuple):
    files: list[_File]
    folders: set[tuple[str, ...]]  # zips among them


def _search(path: Path) -> _Tree:
    tree = _Tree([], set())
    if path.is_dir():
        _walk(path, tree)
    elif not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    elif path.suffix.lower() == ".ipynb":
        tree.files.append(_File((path.name,), path))
    elif path.suffix.lower() == ".zip":
        try:
            tree = _unpacked(_File((), path))
        except OSError as error:
            raise ValueError(f"cannot read the zip {path}: {error}") from None
    else:
        raise ValueError(f"{path} is neither a notebook (.ipynb) nor a zip nor a folder")
    return _without_what_is_not_handed_in(tree)


def _hidden(part: str) -> bool:
    return part.startswith(".") or part in ("__MACOSX", "__pycache__")


def _walk(root: Path, tree: _Tree) -> None:
    left: list[tuple[Path, tuple[str, ...]]] = [(root, ())]
    while left:
        folder, parts = left.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if not parts:
                raise ValueError(f"cannot read the folder {root}: {error.strerror}") from None
            tree.files.append(_File(parts, folder, problem=f"the folder cannot be read: {error.strerror}"))
            continue
        for entry in entries:
            if _hidden(entry.name):
                continue
            file = _File((*parts, entry.name), Path(entry.path))
            if entry.is_dir(follow_symlinks=False):
                tree.folders.add(file.parts)
                left.append((file.path, file.parts))
            elif entry.is_symlink():
                # It could show the grader another student's answers, or the solutions.
                if file.is_notebook or file.is_zip or entry.is_dir():
                    tree.files.append(file._replace(problem="it is a link, and links are not followed"))
            elif not entry.is_file():  # opening a pipe would wait for ever
                if file.is_notebook or file.is_zip:
                    tree.files.append(file._replace(problem="it is not an ordinary file"))
            elif file.is_zip:
                _unpack(file, tree)
            else:
                tree.files.append(file)


def _unpack(file: _File, tree: _Tree) -> None:
    """Add what is in a zip to the tree, or the zip with the reason why it cannot be read."""
    try:
        inside = _unpacked(file)
    except OSError as error:
        tree.files.append(file._replace(problem=str(error)))
    else:
        tree.files.extend(inside.files)
        tree.folders.update(inside.folders)


def _unpacked(file: _File) -> _Tree:
    """The members of a zip as if it were a folder. A zip in it, a student's, too; a zip in that is not."""
    tree = _Tree([], {file.parts} if file.parts else set())
    if not file.members:
        _count_members(file.path)
    with _open(file.path, file.members) as archive:
        for index, info in enumerate(archive.infolist()):
            parts, problem = _parts(info)
            if not parts or any(map(_hidden, parts)):
                continue
            member = _File((*file.parts, *parts), file.path, (*file.members, index), problem)
            tree.folders.update(member.parts[:i] for i in range(len(file.parts) + 1, len(member.parts)))
            if info.is_dir() or info.filename.endswith("\\"):
                tree.folders.add(member.parts)
            elif member.is_zip and not file.members and not problem:
                _unpack(member, tree)
            elif member.is_notebook or not problem:
                tree.files.append(member)
    notebooks = sum(member.is_notebook for member in tree.files)
    if file.members and notebooks > NOTEBOOKS_IN_A_ZIP:
        raise OSError(f"the zip holds {notebooks:,} notebooks; at most {NOTEBOOKS_IN_A_ZIP} are read")
    return tree


def _count_members(path: Path) -> None:
    """Raises OSError where a zip has too many members to be listed."""
    # Each entry of its directory starts with this mark; the number that the zip states may be a lie.
    mark, found, end = b"PK\x01\x02", 0, b""
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                found += (end + chunk).count(mark)
                end = chunk[1 - len(mark) :]
    except OSError as error:
        raise OSError(error.strerror or "it cannot be read") from None
    if found > MEMBERS_IN_A_ZIP:
        raise OSError(f"the zip holds more than {MEMBERS_IN_A_ZIP:,} files")


def _parts(info: zipfile.ZipInfo) -> tuple[tuple[str, ...], str]:
    """The parts of a member's name, and what is wrong with that name, if anything."""
    name = info.filename
    if not info.flag_bits & 0x800:  # not marked as UTF-8; the Finder writes UTF-8 all the same
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            name = info.filename
    name = name.replace("\\", "/")  # some programs on Windows
    parts = name.split("/")
    drive = re.match(r"[A-Za-z]:", name)
    problem = "its name points out of the zip" if name.startswith("/") or ".." in parts or drive else ""
    parts[0] = parts[0][2:] if drive else parts[0]
    parts = [part for part in parts if part not in ("", ".", "..")]
    if len(parts) > DEEPEST:
        return (*parts[:3], parts[-1]), f"it lies in more than {DEEPEST} folders"
    return tuple(parts), problem


def _open(path: Path, members: Sequence[int]) -> zipfile.ZipFile:
    """The zip at `path`, or the one that is its member. Raises OSError."""
    source: Path | io.BytesIO = path
    if members:
        data = _read(path, members)
        if data.count(b"PK\x01\x02") > MEMBERS_IN_A_ZIP:
            raise OSError(f"the zip holds more than {MEMBERS_IN_A_ZIP:,} files")
        source = io.BytesIO(data)
    try:
        return zipfile.ZipFile(source)
    except OSError as error:
        raise OSError(error.strerror or "it cannot be read") from None
    except Exception as error:  # damaged in one of the many ways that `zipfile` has an exception for
        raise OSError(f"the zip is damaged ({_line(error)})") from None


def _read(path: Path, members: Sequence[int]) -> bytes:
    if members:
        with _open(path, members[:-1]) as archive:
            return _read_member(archive, members[-1])
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise OSError(error.strerror or str(error)) from None
    return _not_too_large(data)


def _read_member(archive: zipfile.ZipFile, index: int) -> bytes:
    try:
        info = archive.infolist()[index]
    except IndexError:
        raise OSError("the zip has changed since it was searched") from None
    if info.flag_bits & 0x1:
        raise OSError("it is encrypted in the zip: a zip without a password is needed")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise OSError("it is a link in the zip, and that is not followed")
    if info.file_size > LARGEST:
        raise OSError(f"it is larger than {LARGEST // 10**6} MB")
    if info.file_size > 1_000_000 and info.file_size > RATIO * info.compress_size:
        raise OSError(f"it unpacks to more than {RATIO:,} times its size: a zip bomb")
    try:
        with archive.open(info) as member:
            return _not_too_large(member.read(LARGEST + 1))
    except Exception as error:  # as in `_open`
        raise OSError(f"it is damaged in the zip ({_line(error)})") from None


def _not_too_large(data: bytes) -> bytes:
    if len(data) > LARGEST:
        raise OSError(f"it is larger than {LARGEST // 10**6} MB")
    return data


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


# Folders of which only one subfolder was handed in: nbgrader's course, and a clone of this course, in which
# solutions/ holds all the answers.
_ONLY = (
    ("submitted", {"source", "release", "autograded", "feedback"}),
    ("exercises", {"solutions", "notebooks"}),
)


def _without_what_is_not_handed_in(tree: _Tree) -> _Tree:
    inside: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    with_notebooks = {
        file.parts[:i] for file in tree.files if file.is_notebook for i in range(1, len(file.parts))
    }
    for parts in (*tree.folders, *(file.parts for file in tree.files)):
        inside[parts[:-1]].add(parts[-1])
    dropped: list[tuple[str, ...]] = []
    for folder, names in inside.items():
        for kept, others in _ONLY:
            if names & others and (*folder, kept) in with_notebooks:
                dropped += [(*folder, name) for name in names if name != kept]
        if {"grades.json", "class.html"} <= names:  # our own reports
            dropped += [(*folder, name) for name in ("grades.json", "class.html", "feedback")]
            if folder and folder not in with_notebooks:
                dropped.append(folder)
    gone = set(dropped)

    def stays(parts: tuple[str, ...]) -> bool:
        return not any(parts[:i] in gone for i in range(1, len(parts) + 1))

    return _Tree(
        [file for file in tree.files if stays(file.parts)],
        {folder for folder in tree.folders if stays(folder)},
    )


# Whose it is


class _Who(NamedTuple):
    student: str
    identifiers: dict[str, str]


def _assign(tree: _Tree, people: "_Roster") -> list[Submission]:
    """A submission for each notebook, and for each student whose place holds none."""
    known = stems()
    submitters = _submitters(tree.files)
    platform = _Places(tree.files, known, lambda parts: _on_platform(parts, submitters))
    whose: dict[_File, _Who] = {}
    plain: list[_File] = []  # not of a platform
    for file in tree.files:
        if place := platform.of(file.parts):
            whose[file] = place[1]
        elif file.is_notebook or file.problem:
            plain.append(file)
    in_folders, names = _in_folders(plain, known, people)
    whose |= names
    # A zip that cannot be opened, or a link, may be the notebook; what else is not one cannot.
    candidates = {file: who for file, who in whose.items() if file.is_notebook}
    handed_in = set(map(_key, candidates.values()))
    for file, who in whose.items():
        if file.problem and not file.is_notebook and (not who.student or _key(who) not in handed_in):
            candidates[file] = who
    handed_in = set(map(_key, candidates.values()))

    places = {file.parts: who for file, who in whose.items() if file not in candidates}
    not_empty = {file.parts[:i] for file in candidates for i in range(1, len(file.parts) + 1)}
    for folder in tree.folders - not_empty:
        if place := platform.of((*folder, "")):
            places[folder] = place[1]
        elif folder[:-1] in in_folders and not _nobody(_unzipped(folder[-1]), _NO_STUDENT):
            places[folder] = _Who(_tidy(_unzipped(folder[-1])), {})
    empty = {_key(who): (parts, who) for parts, who in sorted(places.items(), reverse=True)}

    submissions = [
        Submission(who.student, "/".join(file.parts), file.path, file.members, who.identifiers, file.problem)
        for file, who in candidates.items()
    ] + [
        Submission(
            who.student, "/".join(parts), identifiers=who.identifiers, problem="no notebook (.ipynb) there"
        )
        for key, (parts, who) in empty.items()
        if key not in handed_in
    ]
    return _told_apart([people.recognise(submission) for submission in submissions])


def _key(who: _Who) -> tuple[str, str]:
    return who.student, _id(who.identifiers)


def _unzipped(name: str) -> str:
    return re.sub(r"\.zip$", "", name, flags=re.IGNORECASE)


class _Places:
    """Where paths tell whose they are, and whose.

    Inside of what may be one student's own folder a telling name counts only where most of the class have
    one: nobody hands in for others by putting a folder with their name into a zip.
    """

    def __init__(self, files: Iterable[_File], known: Collection[str], tells: "_Tells") -> None:
        notebooks = [file for file in files if file.is_notebook]
        self.depth = _shared(notebooks, known)
        self._tells = tells
        tops: defaultdict[str, bool] = defaultdict(bool)
        for file in notebooks:
            tops[file.parts[self.depth]] |= tells(file.parts) is not None
        self._usual = 2 * sum(tops.values()) > len(tops)

    def of(self, parts: tuple[str, ...]) -> tuple[int, _Who] | None:
        """The number of the part that tells, and who it is."""
        place = self._tells(parts)
        return place if place and (self._usual or place[0] <= self.depth) else None


_Tells = Callable[[tuple[str, ...]], tuple[int, _Who] | None]


def _on_platform(
    parts: tuple[str, ...], submitters: Mapping[tuple[str, ...], _Who]
) -> tuple[int, _Who] | None:
    """Who, as Gradescope, Moodle, Canvas and nbgrader name files and folders. The last part is a file's."""
    for i, part in enumerate(parts):
        if _GRADESCOPE.fullmatch(part) and i + 1 < len(parts):
            return i, submitters.get(parts[: i + 1]) or _Who(part, {})
        if spot := _MOODLE.fullmatch(part):
            return i, _Who(_tidy(spot["name"]), {"Moodle ID": spot["id"]})
        if spot := _CANVAS.fullmatch(part):
            return i, _Who(_tidy(spot["name"]), {"ID": spot["id"]})
        if part == "submitted" and i + 2 < len(parts):
            return i, _Who(_tidy(parts[i + 1]), {})
    return None


def _submitters(files: Iterable[_File]) -> dict[tuple[str, ...], _Who]:
    """Who is behind Gradescope's folders, as its submission_metadata.yml says."""
    whose: dict[tuple[str, ...], _Who] = {}
    for file in files:
        if file.parts[-1] != "submission_metadata.yml":
            continue
        for folder, about in _gradescope_metadata(file).items():
            listed = about.get(":submitters") if isinstance(about, dict) else None
            submitters = [who for who in listed if isinstance(who, dict)] if isinstance(listed, list) else []
            names = [_tidy(str(who.get(":name") or who.get(":email") or "")) for who in submitters]
            ids: dict[str, str] = {}
            if len(submitters) == 1:
                known = {"SIS User ID": submitters[0].get(":sid"), "Email": submitters[0].get(":email")}
                ids = {key: str(value) for key, value in known.items() if value not in (None, "")}
            if any(names):
                whose[(*file.parts[:-1], str(folder))] = _Who(" & ".join(filter(None, names)), ids)
    return whose


def _gradescope_metadata(file: _File) -> dict[Any, Any]:
    import yaml  # type: ignore[import-untyped]  # only where there is such a file

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # chosen at run time
        pass

    # Ruby's own types, dates for one; nothing of them is needed.
    Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    try:
        data = yaml.load(_read(file.path, file.members), Loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}  # the folders' own names have to do
    return data if isinstance(data, dict) else {}


def _in_folders(
    files: Sequence[_File], known: Collection[str], people: "_Roster"
) -> tuple[set[tuple[str, ...]], dict[_File, _Who]]:
    """Where the students' folders are, and who handed in `files`, by these or else by the files' names."""
    on_roster = _Places(files, known, people.first)
    parents: set[tuple[str, ...]] = set()
    whose: dict[_File, _Who] = {}
    by_name: dict[_File, tuple[str, bool]] = {}
    for file in files:
        folders = [_unzipped(part) for part in (file.parts[:-1] if file.is_notebook else file.parts)]
        place = on_roster.of(file.parts)
        places = (
            [place[0]]
            if place
            else [
                i
                for i, folder in enumerate(folders)
                if i >= on_roster.depth
                and not _nobody(folder, _NO_STUDENT)
                and not _place_of_stem(folder, known)
            ]
        )
        if places:
            whose[file] = _Who(_tidy(folders[places[0]]), {})
            parents.add(file.parts[: places[0]])
        else:
            by_name[file] = _student_in(file.parts[-1], known)
    # Beside notebooks of someone without a name, "scratch.ipynb" is not a student's name.
    nameless = any(says_chapter and not name for name, says_chapter in by_name.values())
    for file, (name, says_chapter) in by_name.items():
        whose[file] = _Who("" if nameless and not says_chapter else name, {})
    return parents, whose


def _shared(files: Sequence[_File], known: Collection[str]) -> int:
    """How many folders lie around the whole class: two, where all is in "2026/submissions/"."""
    paths = [file.parts for file in files if file.is_notebook]
    depth = 0
    while (
        paths and all(len(path) > depth + 1 for path in paths) and len({path[depth] for path in paths}) == 1
    ):
        below = {path[depth + 1] for path in paths if len(path) > depth + 2}
        students = {name for name in below if not _nobody(_unzipped(name), _NO_STUDENT)}
        students = {name for name in students if not _place_of_stem(name, known)}
        named = {_student_in(path[-1], known)[0] for path in paths if len(path) == depth + 2} - {""}
        if len(students | named) < 2 and not _nobody(_unzipped(paths[0][depth]), _NO_STUDENT):
            break
        depth += 1
    return depth


def _told_apart(found: list[Submission]) -> list[Submission]:
    """Students of the same name, but not the same person, get their id behind it."""
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for submission in found:
        if submission.student:
            ids[submission.student].add(_id(submission.identifiers))
    return [
        replace(submission, student=f"{submission.student} ({_id(submission.identifiers)})")
        if len(ids[submission.student]) > 1 and _id(submission.identifiers)
        else submission
        for submission in found
    ]


def _id(identifiers: Mapping[str, str]) -> str:
    for key in ("ID", "Moodle ID", "SIS User ID", "SIS Login ID", "Email"):
        if identifiers.get(key):
            return identifiers[key]
    return ""


def _unique(found: list[Submission]) -> list[Submission]:
    """Zips may hold the same name twice: the second is "x.ipynb#2"."""
    seen: Counter[str] = Counter()
    taken = {submission.file for submission in found}
    result = []
    for submission in found:
        file = submission.file
        seen[file] += 1
        while not submission.missing and seen[submission.file] > 1 and file in taken:
            file = f"{submission.file}#{seen[submission.file]}"
            seen[submission.file] += file in taken
        taken.add(file)
        result.append(replace(submission, file=file))
    return result


# The roster

_COLUMNS = {  # what is looked for → the headings that say it, in small letters
    "Student": ("student", "name", "student name", "full name", "display name"),
    "ID": ("id", "canvas id", "canvas user id"),
    "SIS User ID": (
        "sis user id",
        "sid",
        "student id",
        "student number",
        "id number",
        "matriculation number",
    ),
    "SIS Login ID": ("sis login id", "login", "login id", "username", "user name", "user"),
    "Email": ("email", "e-mail", "email address", "e-mail address", "mail"),
    "Section": ("section", "sections", "group"),
}
_FIRST = ("first name", "first_name", "firstname", "given name")
_LAST = ("last name", "last_name", "lastname", "surname", "family name")


def read_roster(path: Path) -> list[Person]:
    """Who is on a roster: CSV of Canvas, Moodle, Gradescope or nbgrader, or with a column called `student`.

    Raises FileNotFoundError or ValueError, with one line, where it is not there or cannot be used.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no roster {path}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"the roster {path} is not UTF-8: save it as CSV UTF-8") from None
    first = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise ValueError(f"the roster {path} is not a table in CSV ({error})") from None
    rows = [[_tidy_cell(cell) for cell in row] for row in rows if any(cell.strip() for cell in row)]
    heading = [cell.casefold() for cell in rows[0]] if rows else []
    where = {
        key: heading.index(name)
        for key, names in _COLUMNS.items()
        for name in list(names)[::-1]
        if name in heading
    }
    first_name = next((heading.index(name) for name in _FIRST if name in heading), None)
    last_name = next((heading.index(name) for name in _LAST if name in heading), None)
    in_two = first_name is not None and last_name is not None
    if not in_two and not where.keys() - {"Section"}:
        raise ValueError(
            f"the roster {path} has no column Student, Name, First name and Last name, ID, Login or Email"
        )
    people = []
    for row in rows[1:]:
        row += [""] * (len(heading) - len(row))
        ids = {key: row[column] for key, column in where.items() if row[column]}
        if first_name is not None and last_name is not None and "Student" not in ids:
            ids["Student"] = f"{row[first_name]} {row[last_name]}".strip()
        name = ids.get("Student") or ids.get("SIS Login ID") or ids.get("Email") or _id(ids)
        # Canvas's second row, and the student that it invents for tests
        if name and not name.casefold().startswith("points possible") and name != "Student, Test":
            people.append(Person(name, ids))
    if not people:
        raise ValueError(f"nobody is on the roster {path}")
    return _people_apart(people)


def _tidy_cell(cell: str) -> str:
    return " ".join(unicodedata.normalize("NFC", cell).split())


def _people_apart(people: list[Person]) -> list[Person]:
    names = Counter(person.name for person in people)
    apart = [
        Person(f"{person.name} ({_id(person.identifiers)})", person.identifiers)
        if names[person.name] > 1 and _id(person.identifiers)
        else person
        for person in people
    ]
    return list({person.name: person for person in apart}.values())


class _Roster:
    """Finds people by any of their ids, or by their name however it is written; never where two would fit."""

    def __init__(self, people: list[Person]) -> None:
        self.people = people
        self._by_key: dict[str, Person | None] = {}
        for person in people:
            for key in {key for text in _texts(person) for key in _keys(text)}:
                self._by_key[key] = None if key in self._by_key else person

    def _find(self, text: str) -> Person | None:
        return next((person for key in _keys(text) if (person := self._by_key.get(key))), None)

    def first(self, parts: tuple[str, ...]) -> tuple[int, _Who] | None:
        """The outermost folder that is called like someone on the roster."""
        for i, folder in enumerate(map(_unzipped, parts[:-1])):
            if self._find(folder):
                return i, _Who(_tidy(folder), {})
        return None

    def recognise(self, submission: Submission) -> Submission:
        """The submission under the name that the roster has for its student."""
        ids = submission.identifiers
        texts = [ids[key] for key in ("ID", "SIS User ID", "SIS Login ID", "Email") if ids.get(key)]
        person = next(filter(None, map(self._find, [*texts, submission.student])), None)
        if person is None:
            return submission
        return replace(submission, student=person.name, identifiers={**ids, **person.identifiers})


def _texts(person: Person) -> Iterator[str]:
    yield person.name
    for key, text in person.identifiers.items():
        if key != "Section":
            yield text
        if key == "Email":
            yield text.partition("@")[0]


def _keys(text: str) -> list[str]:
    """What a name or an id is compared by, the most telling first."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    words = re.findall(r"[^\W_]+", plain)
    # "Smith, Jane" is also "Jane Smith", "jane_smith" and Canvas's "smithjane"
    keys = [text.casefold(), " ".join(sorted(words)), "".join(words)]
    if "," in text:
        last, _, first = plain.partition(",")
        keys.append("".join(re.findall(r"[^\W_]+", first + last)))
    elif words:
        keys.append("".join([words[-1], *words[:-1]]))
    return [key for key in dict.fromkeys(keys) if key]
