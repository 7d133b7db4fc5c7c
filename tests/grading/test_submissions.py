"""Whose notebook is which file: every layout, roster and kind of broken or hostile zip that we know of."""

import io
import os
import pickle
import stat
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attn.grading import submissions
from attn.grading.submissions import Submission, chapter_of, find, identifiers, read_roster

STEMS = ["01_dot_product_attention", "03_masks", "08_transformer_encoder", "09_transformer"]
DOT, MASKS = "01_dot_product_attention.ipynb", "03_masks.ipynb"


@pytest.fixture(autouse=True)
def known_stems(monkeypatch):
    monkeypatch.setattr(submissions, "stems", lambda: STEMS)


def make(root: Path, *files: str) -> Path:
    """Files, each with its own path as its text; a name that ends with "/" is an empty folder."""
    for file in files:
        path = root / file
        (path if file.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not file.endswith("/"):
            path.write_text(file, encoding="utf-8")
    return root


def zipped(path: Path, members: dict[str, bytes] | Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    contents = members if isinstance(members, dict) else {name: name.encode() for name in members}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path


def who(found: list[Submission]) -> list[tuple[str, str]]:
    """Student and file of each; a missing one has no file."""
    return [(s.student, "-" if s.missing else s.file) for s in found]


# Layouts


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(
            [f"ann/{DOT}", f"ann/{MASKS}", f"tom/{DOT}"],
            [("ann", f"ann/{DOT}"), ("ann", f"ann/{MASKS}"), ("tom", f"tom/{DOT}")],
            id="a folder per student",
        ),
        pytest.param(
            [f"ann/week 1/try 2/{DOT}", f"tom/week 1/{DOT}"],
            [("ann", f"ann/week 1/try 2/{DOT}"), ("tom", f"tom/week 1/{DOT}")],
            id="nested folders per student",
        ),
        pytest.param(
            [f"01_dot_product_attention/ann/{DOT}", f"03_masks/ann/{MASKS}", f"03_masks/tom/{MASKS}"],
            [
                ("ann", f"01_dot_product_attention/ann/{DOT}"),
                ("ann", f"03_masks/ann/{MASKS}"),
                ("tom", f"03_masks/tom/{MASKS}"),
            ],
            id="a folder per chapter, then per student",
        ),
        pytest.param(
            [f"autumn term/ann/{DOT}", f"autumn term/tom/{DOT}"],
            [("ann", f"autumn term/ann/{DOT}"), ("tom", f"autumn term/tom/{DOT}")],
            id="a folder around the class",
        ),
        pytest.param(
            [f"autumn term/ann_{DOT}", f"autumn term/tom_{DOT}"],
            [("ann", f"autumn term/ann_{DOT}"), ("tom", f"autumn term/tom_{DOT}")],
            id="a folder around flat files",
        ),
        pytest.param([f"ann/{DOT}"], [("ann", f"ann/{DOT}")], id="a class of one"),
        pytest.param(
            [f"student 1/{DOT}", f"student 2/{DOT}", f"20231234/{DOT}"],
            [(name, f"{name}/{DOT}") for name in ("20231234", "student 1", "student 2")],
            id="numbers for names",
        ),
        pytest.param(
            [
                f"ann_lee_{DOT}",
                f"tom-{DOT}",
                "01_dot_product_attention-eve.ipynb",
                "zoe-03-masks (1).ipynb",
                "bob_03.ipynb",
            ],
            [
                ("ann_lee", f"ann_lee_{DOT}"),
                ("bob", "bob_03.ipynb"),
                ("eve", "01_dot_product_attention-eve.ipynb"),
                ("tom", f"tom-{DOT}"),
                ("zoe", "zoe-03-masks (1).ipynb"),
            ],
            id="flat, the name in the file's",
        ),
        pytest.param(
            ["ann.ipynb", "tom.ipynb"], [("ann", "ann.ipynb"), ("tom", "tom.ipynb")], id="names only"
        ),
        pytest.param(
            [
                DOT,
                MASKS,
                "scratch.ipynb",
                "Copy of 03_masks (1).ipynb",
                "03_masks-2.ipynb",
                "03_masks_final.ipynb",
            ],
            [
                ("", file)
                for file in (
                    DOT,
                    "03_masks-2.ipynb",
                    MASKS,
                    "03_masks_final.ipynb",
                    "Copy of 03_masks (1).ipynb",
                    "scratch.ipynb",
                )
            ],
            id="one learner's own folder",
        ),
        pytest.param(
            [
                "gradebook.db",
                f"source/01_dot_product_attention/{DOT}",
                f"release/01_dot_product_attention/{DOT}",
                f"submitted/ann/01_dot_product_attention/{DOT}",
                "submitted/ann/01_dot_product_attention/timestamp.txt",
                f"submitted/tom/01_dot_product_attention/{DOT}",
                "submitted/zoe/01_dot_product_attention/",
                f"autograded/ann/01_dot_product_attention/{DOT}",
            ],
            [
                ("ann", f"submitted/ann/01_dot_product_attention/{DOT}"),
                ("tom", f"submitted/tom/01_dot_product_attention/{DOT}"),
                ("zoe", "-"),
            ],
            id="nbgrader's course",
        ),
        pytest.param(
            [
                f"ann/course-main/exercises/{DOT}",
                f"ann/course-main/solutions/{DOT}",
                f"ann/course-main/notebooks/{DOT}",
                f"tom/{DOT}",
            ],
            [("ann", f"ann/course-main/exercises/{DOT}"), ("tom", f"tom/{DOT}")],
            id="a whole clone: the solutions in it are not hers",
        ),
        pytest.param(
            [
                "smithjane_LATE_1234_5678_01_dot_product_attention-1.ipynb",
                "leeann_1235_5679_01_dot_product_attention.ipynb",
                "doejo_1236_5680_essay.pdf",
            ],
            [
                ("doejo", "-"),
                ("leeann", "leeann_1235_5679_01_dot_product_attention.ipynb"),
                ("smithjane", "smithjane_LATE_1234_5678_01_dot_product_attention-1.ipynb"),
            ],
            id="Canvas",
        ),
        pytest.param(
            [
                f"Jane Smith_1234567_assignsubmission_file_/{DOT}",
                f"Ann Lee_1234568_assignsubmission_file_{DOT}",
                "Zoe Ash_1234569_assignsubmission_file_/",
                "Zoe Ash_1234569_assignsubmission_onlinetext_/onlinetext.html",
            ],
            [
                ("Ann Lee", f"Ann Lee_1234568_assignsubmission_file_{DOT}"),
                ("Jane Smith", f"Jane Smith_1234567_assignsubmission_file_/{DOT}"),
                ("Zoe Ash", "-"),
            ],
            id="Moodle",
        ),
        pytest.param(
            [
                f"ann/{DOT}",
                "ann/.ipynb_checkpoints/01_dot_product_attention-checkpoint.ipynb",
                f"ann/.{DOT}",
                f"__MACOSX/ann/._{DOT}",
                f".hidden/{DOT}",
                "zoe/",
                "data/",
                "reports/grades.json",
                "reports/class.html",
                "reports/feedback/ann.html",
            ],
            [("ann", f"ann/{DOT}"), ("zoe", "-")],
            id="what is skipped, and a folder without a notebook",
        ),
    ],
)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_layouts(tmp_path, files, expected, packed):
    path = zipped(tmp_path / "export.zip", files) if packed else make(tmp_path / "class", *files)
    found = find(path)
    assert who(found) == sorted(expected, key=lambda row: row[0].casefold())
    for submission in found:
        if not submission.missing:
            assert submission.bytes().decode() == submission.file  # as `make` and `zipped` write them


def test_a_single_notebook(tmp_path):
    make(tmp_path, DOT, f"ann_{MASKS}")
    assert who(find(tmp_path / DOT)) == [("", DOT)]
    assert who(find(tmp_path / f"ann_{MASKS}")) == [("ann", f"ann_{MASKS}")]


METADATA = """\
submission_11:
  :submitters:
  - :name: Jane Smith
    :sid: '0042'
    :email: jane@example.org
  :created_at: !ruby/object:ActiveSupport::TimeWithZone
    utc: 2026-01-01 10:00:00.000000000 Z
submission_12:
  :submitters:
  - :name: Ann Lee
    :email: ann@example.org
  - :name: Tom Ray
    :email: tom@example.org
submission_13:
  :submitters:
  - :name: Zoe Ash
"""


def test_gradescope(tmp_path):
    root = make(
        tmp_path, f"export/submission_11/{DOT}", f"export/submission_12/{DOT}", "export/submission_13/x.txt"
    )
    make(root, f"export/submission_14/{DOT}")
    (root / "export" / "submission_metadata.yml").write_text(METADATA, encoding="utf-8")
    found = find(root)
    assert who(found) == [
        ("Ann Lee & Tom Ray", f"export/submission_12/{DOT}"),
        ("Jane Smith", f"export/submission_11/{DOT}"),
        ("submission_14", f"export/submission_14/{DOT}"),
        ("Zoe Ash", "-"),
    ]
    assert identifiers(found)["Jane Smith"] == {"SIS User ID": "0042", "Email": "jane@example.org"}
    assert identifiers(found)["Ann Lee & Tom Ray"] == {}


@pytest.mark.parametrize(
    "text", ["", "[", "- a", "submission_11: 3", "&a [*a, *a]", "\x00", "a: " + "[" * 9999]
)
def test_gradescope_metadata_that_cannot_be_used_costs_no_submission(tmp_path, text):
    make(tmp_path, f"submission_11/{DOT}")
    (tmp_path / "submission_metadata.yml").write_text(text, encoding="utf-8")
    assert who(find(tmp_path)) == [("submission_11", f"submission_11/{DOT}")]


def test_canvas_and_moodle_ids(tmp_path):
    make(tmp_path, f"smithjane_LATE_1234_5678_{DOT}", f"Ann Lee_77_assignsubmission_file_/{DOT}")
    assert identifiers(find(tmp_path)) == {"Ann Lee": {"Moodle ID": "77"}, "smithjane": {"ID": "1234"}}


@pytest.mark.parametrize("listed", [False, True])
def test_nobody_hands_in_for_others(tmp_path, roster, listed):
    for_tom = [
        f"submitted/tom/x/{DOT}",
        f"Tom Ray_11_assignsubmission_file_/{DOT}",
        f"tomray_12_34_{DOT}",
        f"submission_12/{DOT}",
        f"Ann Lee/{DOT}",
    ]
    make(tmp_path / "class", *(f"jane/{file}" for file in for_tom), f"bob/{DOT}", f"cem/{DOT}")
    zipped(tmp_path / "class" / "eve.zip", for_tom)
    found = find(tmp_path / "class", roster if listed else None)
    names = [s.student for s in found if not s.missing]
    assert names == ["bob", "cem", *["eve"] * 5, *["jane"] * 5]


def test_downloads_of_a_platform_in_folders(tmp_path):
    make(
        tmp_path,
        f"task one/leeann_11_22_{DOT}",
        f"task two/leeann_11_23_{MASKS}",
        f"task two/raytom_12_24_{MASKS}",
    )
    assert [s.student for s in find(tmp_path)] == ["leeann", "leeann", "raytom"]


def test_two_people_of_one_name_are_told_apart(tmp_path):
    make(tmp_path, *(f"Jane Smith_{id}_assignsubmission_file_/{DOT}" for id in (11, 12)))
    make(tmp_path, "Jane Smith_13_assignsubmission_file_/")
    students = [submission.student for submission in find(tmp_path)]
    assert students == ["Jane Smith (11)", "Jane Smith (12)", "Jane Smith (13)"]


def test_two_notebooks_of_one_chapter_are_two_submissions(tmp_path):
    make(tmp_path, f"ann/{DOT}", "ann/01_dot_product_attention (1).ipynb")
    assert [s.student for s in find(tmp_path)] == ["ann", "ann"]


def test_the_result_can_be_pickled_and_is_the_same_whatever_the_order_on_disk(tmp_path):
    names = [f"{name}/{DOT}" for name in ("zoe", "Ann", "émile", "bob", "ann")]
    one = find(make(tmp_path / "one" / "class", *names))
    two = find(make(tmp_path / "two" / "class", *reversed(names)))
    assert who(one) == who(two)
    assert [s.student for s in one] == ["Ann", "ann", "bob", "zoe", "émile"]
    again = pickle.loads(pickle.dumps(one))
    assert again == one
    assert again[0].bytes() == one[0].bytes()


# Rosters

CANVAS = """\
Student,ID,SIS User ID,SIS Login ID,Section,Quiz (77)
    Points Possible,,,,,10
"Smith, Jane",1234,S1,jsmith,A,3
"Lee, Ann",1235,S2,alee,A,
"Ash, Zoé",1236,S3,zash,B,
"Student, Test",9999,,test,A,
"""


@pytest.fixture
def roster(tmp_path) -> Path:
    path = tmp_path / "roster.csv"
    path.write_text(CANVAS, encoding="utf-8-sig")
    return path


@pytest.mark.parametrize(
    "file",
    [
        f"smithjane_1234_5678_{DOT}",
        f"smithjane_LATE_1234_5678_{DOT}",
        f"Jane Smith/{DOT}",
        f"smith_jane/{DOT}",
        f"jsmith/{DOT}",
        f"S1/{DOT}",
        f"SmithJane_{DOT}",
        f"section a/jsmith/{DOT}",
        f"Jane Smith_1234567_assignsubmission_file_/{DOT}",
    ],
)
def test_students_are_found_on_the_roster(tmp_path, roster, file):
    found = find(make(tmp_path / "class", file, f"ann lee/{MASKS}"), roster)
    assert who(found) == [("Ash, Zoé", "-"), ("Lee, Ann", f"ann lee/{MASKS}"), ("Smith, Jane", file)]
    jane = identifiers(found)["Smith, Jane"]
    assert {key: jane[key] for key in submissions.CANVAS} == {
        "ID": "1234",
        "SIS User ID": "S1",
        "SIS Login ID": "jsmith",
        "Section": "A",
    }
    assert identifiers(found)["Ash, Zoé"]["ID"] == "1236"


def test_who_is_not_on_the_roster_keeps_the_row(tmp_path, roster):
    found = find(make(tmp_path / "class", f"mallory/{DOT}"), roster)
    assert ("mallory", f"mallory/{DOT}") in who(found)
    assert sum(s.missing for s in found) == 3


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("First name,Surname,Email address\nAnn,Lee,a@example.org\n", ["Ann Lee"]),
        ("id;first_name;last_name\nalee;Ann;Lee\n", ["Ann Lee"]),
        ("student\nAnn Lee\n\nTom Ray\n", ["Ann Lee", "Tom Ray"]),
        ("Email\na@example.org\n", ["a@example.org"]),
        ("Name,SID\nAnn Lee,1\nAnn Lee,2\nAnn Lee,2\n", ["Ann Lee (1)", "Ann Lee (2)"]),
        ('Name,SID\n"Lee,\nAnn"\n', ["Lee, Ann"]),
    ],
)
def test_rosters_of_other_kinds(tmp_path, text, names):
    path = tmp_path / "roster.csv"
    path.write_text(text, encoding="utf-8")
    assert [person.name for person in read_roster(path)] == names


def test_a_name_that_fits_two_people_is_given_to_neither(tmp_path):
    (tmp_path / "roster.csv").write_text("Name,SID\nAnn Lee,1\nLee Ann,2\n", encoding="utf-8")
    found = find(make(tmp_path / "class", f"ann_lee/{DOT}"), tmp_path / "roster.csv")
    assert who(found)[0] == ("Ann Lee", "-")
    assert ("ann_lee", f"ann_lee/{DOT}") in who(found)


# Nothing to grade: one clear line each, all different


def test_errors(tmp_path, roster):
    (tmp_path / "empty").mkdir()
    make(tmp_path / "texts", "ann/notes.txt")
    (tmp_path / "x.py").write_text("1")
    (tmp_path / "bad.zip").write_bytes(b"PK no zip")
    zipped(tmp_path / "texts.zip", ["ann/notes.txt"])
    (tmp_path / "hours.csv").write_text("hours,room\n1,2\n")
    (tmp_path / "nobody.csv").write_text("student\n")
    (tmp_path / "latin.csv").write_bytes("student\nZoé\n".encode("latin-1"))
    (tmp_path / "quotes.csv").write_text('student\n"a"b\n')
    good = make(tmp_path / "class", f"ann/{DOT}")
    said = []
    for path, other, words in [
        (tmp_path / "nowhere", None, "there is no file or folder"),
        (tmp_path / "empty", None, "is empty"),
        (tmp_path / "texts", None, "in the folder"),
        (tmp_path / "x.py", None, "neither a notebook"),
        (tmp_path / "bad.zip", None, "damaged"),
        (tmp_path / "texts.zip", None, "in the zip"),
        (good, tmp_path / "none.csv", "there is no roster"),
        (good, tmp_path / "hours.csv", "has no column"),
        (good, tmp_path / "nobody.csv", "nobody is on"),
        (good, tmp_path / "latin.csv", "not UTF-8"),
        (good, tmp_path / "quotes.csv", "not a table"),
    ]:
        with pytest.raises((FileNotFoundError, ValueError), match=words) as error:
            find(path, other)
        said.append(str(error.value))
    assert len(set(said)) == len(said)
    assert not any("\n" in line for line in said)


# Zips of all sorts


def the_one(path: Path, file: str) -> Submission:
    [submission] = [s for s in find(path) if s.file == file]
    return submission


def problem(submission: Submission) -> str:
    assert not submission.missing
    with pytest.raises(OSError, match=r".") as error:
        submission.bytes()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_students_zip_is_one_more_folder_and_a_zip_in_that_is_not(tmp_path):
    inner = zipped(tmp_path / "inner.zip", {DOT: b"deepest"})
    work = zipped(tmp_path / "work.zip", {f"my work/{DOT}": b"hers", "more.zip": inner.read_bytes()})
    export = zipped(
        tmp_path / "export.zip",
        {"leeann_11_22_work.zip": work.read_bytes(), f"smithjane_12_23_{DOT}": b"his"},
    )
    found = find(export)
    assert who(found) == [
        ("leeann", f"leeann_11_22_work.zip/my work/{DOT}"),
        ("smithjane", f"smithjane_12_23_{DOT}"),
    ]
    assert [s.bytes() for s in pickle.loads(pickle.dumps(found))] == [b"hers", b"his"]


def test_zips_in_a_folder(tmp_path):
    zipped(tmp_path / "class" / "ann.zip", {DOT: b"a"})
    zipped(tmp_path / "class" / "tom" / "work.zip", {f"x/{DOT}": b"t"})
    zipped(tmp_path / "class" / "zoe" / "empty.zip", {})
    found = find(tmp_path / "class")
    assert who(found) == [("ann", f"ann.zip/{DOT}"), ("tom", f"tom/work.zip/x/{DOT}"), ("zoe", "-")]
    assert [s.bytes() for s in found[:2]] == [b"a", b"t"]


@pytest.mark.parametrize("name", [f"../../ann/{DOT}", f"/etc/ann/{DOT}", f"C:/ann/{DOT}", f"ann/../../{DOT}"])
def test_names_that_point_out_of_the_zip_are_not_read(tmp_path, name):
    found = find(zipped(tmp_path / "x.zip", [name, f"tom/{DOT}"]))
    [hostile] = [s for s in found if s.student != "tom"]
    assert problem(hostile) == "its name points out of the zip"
    assert not hostile.file.startswith("/")
    assert ".." not in hostile.file
    assert the_one(tmp_path / "x.zip", f"tom/{DOT}").bytes() == f"tom/{DOT}".encode()


def test_a_link_in_a_zip_is_not_followed(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        link = zipfile.ZipInfo(f"ann/{DOT}")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    assert "link" in problem(the_one(tmp_path / "x.zip", f"ann/{DOT}"))


def test_an_encrypted_member(tmp_path):
    path = zipped(tmp_path / "x.zip", {f"ann/{DOT}": b"secret"})
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    path.write_bytes(data)
    assert "without a password" in problem(the_one(path, f"ann/{DOT}"))


def test_damaged_members_and_zips(tmp_path):
    path = zipped(tmp_path / "x.zip", {f"ann/{DOT}": os.urandom(2000), f"tom/{DOT}": b"fine"})
    data = bytearray(path.read_bytes())
    data[100:200] = bytes(100)
    path.write_bytes(data)
    assert "damaged" in problem(the_one(path, f"ann/{DOT}"))
    assert the_one(path, f"tom/{DOT}").bytes() == b"fine"

    inside = zipped(tmp_path / "y.zip", {"ann/work.zip": b"PK cut off", f"tom/{DOT}": b"fine"})
    assert "damaged" in problem(the_one(inside, "ann/work.zip"))
    assert the_one(inside, f"tom/{DOT}").bytes() == b"fine"


def test_a_damaged_zip_beside_the_notebook_is_no_submission(tmp_path):
    make(tmp_path, f"ann/{DOT}", "ann/data.zip", "work.zip", f"tom/{DOT}")
    assert who(find(tmp_path)) == [("ann", f"ann/{DOT}"), ("tom", f"tom/{DOT}"), ("work", "work.zip")]


def test_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr(submissions, "LARGEST", 3_000_000)
    large = zipped(tmp_path / "large.zip", {f"ann/{DOT}": bytes(3_000_001)})
    assert "larger than 3 MB" in problem(the_one(large, f"ann/{DOT}"))

    # A zip that lies: it declares 10 bytes and unpacks to more.
    lying = zipped(tmp_path / "lying.zip", {f"ann/{DOT}": bytes(3_000_001)})
    data = bytearray(lying.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(mark) + offset, 10)
    lying.write_bytes(data)
    assert "damaged" in problem(the_one(lying, f"ann/{DOT}"))

    with zipfile.ZipFile(tmp_path / "ratio.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr(f"ann/{DOT}", bytes(2_900_000))
    assert "zip bomb" in problem(the_one(tmp_path / "ratio.zip", f"ann/{DOT}"))

    (tmp_path / "class").mkdir()
    (tmp_path / "class" / f"ann_{DOT}").write_bytes(bytes(3_000_001))
    assert "larger than 3 MB" in problem(the_one(tmp_path / "class", f"ann_{DOT}"))


def test_a_right_answer_with_a_huge_output_is_no_bomb(tmp_path):
    text = b'{"cells": [' + b'"spam\\n", ' * 5_000_000 + b'"spam"]}'  # 50 MB
    path = zipped(tmp_path / "x.zip", {f"ann/{DOT}": text})
    assert the_one(path, f"ann/{DOT}").bytes() == text


def test_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(submissions, "MEMBERS_IN_A_ZIP", 50)
    work = zipped(tmp_path / "work.zip", [f"{i}.txt" for i in range(51)])
    with pytest.raises(ValueError, match="more than 50 files"):
        find(work)
    inside = zipped(tmp_path / "x.zip", {"ann/work.zip": work.read_bytes(), f"tom/{DOT}": b"fine"})
    assert "more than 50 files" in problem(the_one(inside, "ann/work.zip"))

    monkeypatch.setattr(submissions, "MEMBERS_IN_A_ZIP", 1000)
    work = zipped(tmp_path / "work.zip", [f"{i}.ipynb" for i in range(101)])
    inside = zipped(tmp_path / "x.zip", {"ann/work.zip": work.read_bytes()})
    assert "101 notebooks" in problem(the_one(inside, "ann/work.zip"))


def test_a_member_in_very_many_folders(tmp_path):
    path = zipped(tmp_path / "x.zip", {"ann/" + "a/" * 20_000 + DOT: b"deep", f"tom/{DOT}": b"fine"})
    [deep] = [s for s in find(path) if s.student == "ann"]
    assert "folders" in problem(deep)


def test_names_in_zips_of_other_systems(tmp_path):
    path = tmp_path / "x.zip"
    zipped(path, [f"Zo/{DOT}", f"tom\\{DOT}".replace("\\", "|")])
    data = path.read_bytes().replace(b"Zo/", "é/".encode()).replace(b"tom|", b"tom\\")
    path.write_bytes(data)
    assert [s.student for s in find(path)] == ["tom", "é"]


def test_the_same_name_twice_in_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(f"ann/{DOT}", "one")
        for text in ("two", "three"):
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr(f"ann/{DOT}", text)
    found = find(tmp_path / "x.zip")
    assert [s.file for s in found] == [f"ann/{DOT}", f"ann/{DOT}#2", f"ann/{DOT}#3"]
    assert [s.bytes() for s in found] == [b"one", b"two", b"three"]


def test_what_changed_since_it_was_found_is_a_problem_of_its_own(tmp_path):
    make(tmp_path / "class", f"ann/{DOT}")
    zipped(tmp_path / "x.zip", [f"ann/{DOT}"])
    in_folder, in_zip = find(tmp_path / "class")[0], find(tmp_path / "x.zip")[0]
    (tmp_path / "class" / "ann" / DOT).unlink()
    zipped(tmp_path / "x.zip", [])
    assert problem(in_folder) == "No such file or directory"
    assert "changed" in problem(in_zip)


# What is no ordinary file


def test_links_in_a_folder_are_not_followed(tmp_path):
    make(tmp_path, f"solutions/{DOT}", f"class/ann/{DOT}", "class/eve/")
    (tmp_path / "class" / "eve" / DOT).symlink_to(tmp_path / "solutions" / DOT)
    (tmp_path / "class" / "mal").symlink_to(tmp_path / "solutions")
    (tmp_path / "class" / "ann" / "data").symlink_to(tmp_path)
    found = find(tmp_path / "class")
    assert who(found) == [("ann", f"ann/{DOT}"), ("eve", f"eve/{DOT}"), ("mal", "mal")]
    assert all("link" in problem(submission) for submission in found[1:])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_does_not_hang(tmp_path):
    make(tmp_path, f"ann/{DOT}", "eve/")
    os.mkfifo(tmp_path / "eve" / DOT)
    assert "ordinary" in problem(find(tmp_path)[1])


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_not_unicode(tmp_path):
    folder = os.fsencode(tmp_path) + b"/\xff\xfe"
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system has no such names")
    with open(folder + b"/" + DOT.encode(), "wb") as file:
        file.write(b"x")
    [submission] = pickle.loads(pickle.dumps(find(tmp_path)))
    assert submission.bytes() == b"x"


# The chapter from a name


@pytest.mark.parametrize(
    ("file", "chapter"),
    [
        (DOT, "01"),
        ("Copy of 01_dot_product_attention (1).ipynb", "01"),
        ("smith_LATE_12_345_01_dot_product_attention.ipynb", "01"),
        ("smithjane_LATE_1234_5678_03_masks-1.ipynb", "03"),
        ("Ann Lee_1234568_assignsubmission_file_03_masks.ipynb", "03"),
        ("group_08_03_masks.ipynb", "03"),
        ("03 Masks - Copy.ipynb", "03"),
        ("ann-transformer-encoder.ipynb", "08"),
        ("09_transformer.ipynb", "09"),
        ("ann_transformer.ipynb", "09"),
        ("12_03_ann.ipynb", "03"),
        ("ann_07.ipynb", "07"),
        ("ch03ann.ipynb", "03"),
        ("submitted/ann/03_masks/answers.ipynb", "03"),
        ("ann/ch08/answers.ipynb", "08"),
        ("ann/work.zip/x.ipynb", ""),
        ("20231234.ipynb", ""),
        ("ann.ipynb", ""),
        ("unmasked_03_masks.zip/x/y.ipynb", "03"),
        ("unmasks.ipynb", ""),
    ],
)
def test_chapter_of(file, chapter):
    assert chapter_of(file, STEMS) == chapter


def test_the_stems_are_those_of_the_exercise_notebooks(monkeypatch):
    monkeypatch.undo()
    there = {path.stem for path in (Path(__file__).parents[2] / "exercises").glob("*.ipynb")}
    assert there <= set(submissions.stems())
    assert "01_dot_product_attention" in there


# Any names at all


@settings(deadline=None)
@given(names=st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=6))
def test_a_zip_with_any_names(tmp_path_factory, names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"tom/{DOT}", b"x")
        for i, name in enumerate(names):
            archive.writestr(f"student {i}/{name}.ipynb".encode("utf-8", "replace").decode(), b"x")
    path = tmp_path_factory.getbasetemp() / "any-names.zip"
    path.write_bytes(buffer.getvalue())
    found = find(path)
    assert f"tom/{DOT}" in [s.file for s in found]
    there = [s.file for s in found if not s.missing]
    assert len(set(there)) == len(there)
    assert found == find(path)


@settings(deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_the_chapter_of_any_name(before, after):
    said = chapter_of(f"{before}_03_masks_{after}", STEMS)
    assert said in {stem[:2] for stem in STEMS}  # a longer known name in the rest goes first
    alone = chapter_of(before, STEMS)
    assert alone == "" or (len(alone) == 2 and alone.isascii() and alone.isdecimal())
