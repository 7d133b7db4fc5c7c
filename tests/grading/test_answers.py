"""Answers are found by name, whatever became of the notebook around them, and nothing else of it is run."""

import json
from typing import Any

import pytest

from attn.grading.student.answers import Broken, Notebook, Unreadable, plain, read


def answer(*cells: str, name: str = "f") -> Any:
    return Notebook(cells).answer(name)


WRITTEN = "def f(x):\n    return x + 1"
EMPTY = 'def f(x):\n    """Adds one."""\n    # YOUR CODE HERE'


@pytest.mark.parametrize(
    "cells",
    [
        [WRITTEN],
        ["f = lambda x: x + 1"],
        ["one = 1", "def f(x):\n    return x + one"],
        ["def f(x):\n    return x + one", "one = 1"],  # cells in another order
        ["def f(x):\n    return g(x)", "def g(x):\n    return x + h", "h = k[0]", "k = [1]"],
        ["import math\nfrom math import floor as down", "def f(x):\n    return down(x + math.cos(0))"],
        ["from math import *", "def f(x):\n    return floor(x + cos(0))"],
        ["if True:\n    def f(x):\n        return x + 1"],
        ["try:\n    import nowhere\nexcept ImportError:\n    one = 1", "def f(x):\n    return x + one"],
        ["f, g = (lambda x: x + 1), None"],
        ["class Adder:\n    def __call__(self, x):\n        return x + 1", "f = Adder()"],
        ["def decorate(g):\n    return lambda x: g(x) + 1", "@decorate\ndef f(x):\n    return x"],
        ["ones = []", "ones.append(1)", "def f(x):\n    return x + ones[0]"],
        ["table = {}", "for i in range(3):\n    table[i] = i", "def f(x):\n    return x + table[1]"],
        ["n = 0", "n += 1", "def f(x):\n    return x + n"],
        [WRITTEN, EMPTY],  # a copy of the empty answer below
        [EMPTY, WRITTEN],
        [WRITTEN, "def f(x):\n    raise NotImplementedError"],
        [WRITTEN, "def f(x):\n    raise NotImplementedError('later')", "def f(x):\n    ..."],
        ["def f(x):\n    return x", WRITTEN],  # the last one counts
        [f"%%time\n{WRITTEN}"],
        [f"%%capture out\n\n{WRITTEN}\n"],
        [f"%matplotlib inline\n!pip install torch\n{WRITTEN}\n?f"],
        ["files = !ls\nwhere = %pwd", WRITTEN],
        ["files = !echo 1", "def f(x):\n    files\n    return x + 1"],
        ["this is no python", WRITTEN],
        ["x = (", WRITTEN],
        ["%%bash\nrm -rf /", "%%html\n<b>", WRITTEN],
        ["import nowhere", "nowhere.run()", WRITTEN],
        ["1 / 0", "raise SystemExit", WRITTEN],
        [WRITTEN, "check(f, '01.f')", "assert f(1) == 3"],
        ["", "   ", "\n\n# a comment", WRITTEN],
        ["f: object = lambda x: x + 1"],
        ["(f := lambda x: x + 1)"],
        ["import os\nif os.environ.get('NOWHERE'):\n    raise SystemExit\ndef f(x):\n    return x + 1"],
        ["from attn.grading import check\ndef f(x):\n    return x + 1\ncheck(f, '01.f')"],
    ],
)
def test_the_answer_is_found(cells):
    assert answer(*cells)(1) == 2


@pytest.mark.parametrize(
    "demo",
    [
        "for step in range(10**9):\n    loss = f(step)",
        "while True:\n    pass",
        "import time\ntime.sleep(1000)",
        "model = train()\nmodel.fit()\nx = model(3)",  # x is a local name of the answer
        "print(f(1))",
        "raise SystemExit",
        "import os\nos._exit(1)",
        "import matplotlib.pyplot as plt\nplt.plot(f(range(10**9)))",
        "optimizer.step()\nlosses.append(f(1))",
        "import numpy\nnumpy.allclose = lambda *a: True",
        "import torch\ntorch.equal = lambda *a: True",
    ],
)
def test_a_demo_is_not_run(demo):
    assert answer(demo, WRITTEN, demo)(1) == 2


def test_local_names_pull_nothing_in():
    loop = "while True:\n    scores = weights = helper = 0"
    written = "def f(x, weights=2):\n    scores = [helper for helper in [x]]\n    return scores[0] + 1"
    assert answer(loop, written)(1) == 2


def test_values_are_found_and_may_be_filled_in_afterwards():
    empty = 'f = {"weights": ..., "output": ...}'
    assert answer(empty) == {"weights": ..., "output": ...}
    assert answer(empty, 'f = {"weights": 1, "output": 2}', empty) == {"weights": 1, "output": 2}
    assert answer(empty, 'f["weights"] = 3\nf["output"] = 4') == {"weights": 3, "output": 4}
    assert answer(empty, "f.update(weights=5)") == {"weights": 5, "output": ...}
    late = ('f = {"weights": ...}\nf = {"weights": half()}', "def half():\n    return 0.5")
    assert answer(*late) == {"weights": 0.5}


def test_what_is_not_there_is_none():
    assert answer("g = 1") is None
    assert Notebook([]).names == []
    cells = ["a = 1\ndef b(): pass", "import c.d, e as g", "def h(:"]
    assert Notebook(cells).names == ["a", "b", "c", "g", "h"]


@pytest.mark.parametrize("cell", ["def f(x:\n    return x", "f = {'a': 1", "f = 1 +"])
def test_a_cell_that_cannot_be_parsed_is_said_to_be_that(cell):
    with pytest.raises(Broken, match="SyntaxError"):
        answer("one = 1", cell)


def test_what_an_answer_needs_and_has_not_is_python_s_own_error():
    with pytest.raises(NameError, match="nowhere"):
        answer("f = nowhere + 1")
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        answer("import nowhere", "f = nowhere.function")
    with pytest.raises(ZeroDivisionError):
        answer("half = 1 / 0", "f = half")


def test_an_error_carries_the_line_of_the_cell():
    import linecache
    import traceback

    function = answer("one = 1", "def f(x):\n    y = x\n    return y / 0  # this line")
    with pytest.raises(ZeroDivisionError) as caught:
        function(1)
    frame = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert linecache.getline(frame.filename, frame.lineno).strip() == "return y / 0  # this line"


def test_deep_nesting_costs_only_its_own_cell():
    assert answer("x = " + "(" * 5000 + ")" * 5000, "y = " + "-" * 100_000 + "1", WRITTEN)(1) == 2


def test_line_magics_become_calls_and_cells_of_other_languages_nothing():
    assert plain("%%bash\nls") == ""
    assert "get_ipython()" in plain("!ls")
    assert plain("x = 1") == "x = 1"


def cell(source: Any, kind: str = "code") -> dict[str, Any]:
    return {"cell_type": kind, "metadata": {}, "source": source}


def test_notebooks_of_many_makes_are_read():
    cells = [cell("a = 1"), cell(["b = 2\n", "c = 3"]), cell("no code", "markdown"), {}, 5, cell(7)]
    assert read(json.dumps({"cells": cells}).encode()) == ["a = 1", "b = 2\nc = 3"]
    assert read(b"\xef\xbb\xbf" + json.dumps({"cells": cells[:1]}).encode()) == ["a = 1"]
    old = {"worksheets": [{"cells": [{"cell_type": "code", "input": ["a = 1"]}]}], "nbformat": 3}
    assert read(json.dumps(old).encode()) == ["a = 1"]


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0", b"print('a script')", b"[]", b"3", b'{"cells": 3}', b"{}", b"[" * 100_000, b"\xff\xfe"],
)
def test_what_is_no_notebook_is_unreadable(content):
    with pytest.raises(Unreadable):
        read(content)
