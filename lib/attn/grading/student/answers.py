"""Finds answers in a notebook by name, and runs no more of it than an answer needs.

Check cells may be edited or gone, metadata stripped, cells moved or doubled: an answer is whatever the
notebook binds to its name. To have it, the statements that bind the name are executed, those that bind what
these use, and so on. Demos, training loops and plots are not.
"""

import __future__

import ast
import json
import linecache
import re
import symtable
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

NAMES = 2_000  # that are looked at
# Cell magics whose cell is Python all the same.
_PYTHON_MAGICS = ("time", "timeit", "capture", "prun", "python", "python3")


# A line magic, a shell line or a question to IPython; IPython itself then says what it is.
_NOT_PYTHON = re.compile(r"^\s*[%!?]|=\s*[%!]|\?\s*$", re.MULTILINE)
# How a cell that is not Python would bind a name.
_BINDS = re.compile(r"^(?:def|class)\s+(\w+)|^(\w+)\s*=(?!=)", re.MULTILINE)


class Unreadable(Exception):
    """The file is no notebook; the message says why."""


class Broken(Exception):
    """The cell that should hold the answer cannot be parsed; the message is Python's."""


@dataclass(frozen=True)
class Statement:
    """One statement at the top of a cell."""

    node: ast.stmt
    file: str  # of its cell, known to linecache
    makes: frozenset[str]  # names that it binds anew
    imports: frozenset[str]  # those of them that are imported
    changes: frozenset[str]  # names whose values it changes: items, attributes, calls of their methods
    uses: frozenset[str]  # names that it needs, now or when a function made by it is called
    stub: bool  # an answer that nobody wrote yet


def read(notebook: bytes) -> list[str]:
    """The sources of its code cells. Raises Unreadable."""
    try:
        content = json.loads(notebook.decode("utf-8-sig", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is not JSON: {str(error)[:200]}") from None
    if not isinstance(content, dict):
        raise Unreadable("it is JSON, but no notebook")
    cells = content.get("cells")
    if cells is None and isinstance(content.get("worksheets"), list):  # nbformat 3
        cells = [cell for sheet in content["worksheets"] for cell in sheet.get("cells", ())]
    if not isinstance(cells, list):
        raise Unreadable("it is JSON, but no notebook: it has no cells")
    sources = []
    for cell in cells:
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            source = cell.get("source", cell.get("input", ""))
            if isinstance(source, list):
                source = "".join(part for part in source if isinstance(part, str))
            if isinstance(source, str):
                sources.append(source)
    return sources


def plain(source: str) -> str:
    """A cell as Python: no cell magic, and a call of get_ipython() for each shell line and line magic."""
    lines = source.lstrip().splitlines(keepends=True)
    while lines and lines[0].startswith("%%"):
        words = lines[0][2:].split()
        if not words or words[0] not in _PYTHON_MAGICS:
            return ""
        lines = lines[1:]
    source = "".join(lines)
    if not _NOT_PYTHON.search(source):
        return source
    from IPython.core.inputtransformer2 import TransformerManager

    return TransformerManager().transform_cell(source)


class Notebook:
    """The statements of a notebook, and what each has to do with which names."""

    def __init__(self, cells: Sequence[str]):
        self.statements: list[Statement] = []
        self.broken: list[tuple[str, str]] = []  # (source, what Python says)
        self.imported: set[str] = set()
        self._features = 0  # of Python's future, as a flag of compile; IPython keeps them from cell to cell
        for number, cell in enumerate(cells, 1):
            try:
                source = plain(cell)
                found = list(_statements(source, f"<cell {number}>"))
            except Exception as error:  # of Python's parser, or of IPython's, which gives up in its own ways
                line = (getattr(error, "text", None) or "").strip()
                said = f"{type(error).__name__}: {getattr(error, 'msg', error)}"
                self.broken.append((cell, f"{said}, in the line: {line}" if line else said))
            else:
                self.statements += found
                self.imported.update(name for s in found for name in s.imports)
                for statement in found:
                    self._features |= _features(statement.node)

    @property
    def names(self) -> list[str]:
        """All names that it binds, or would if its cells were Python."""
        made = {name for statement in self.statements for name in statement.makes}
        for source, _ in self.broken:
            made.update(a or b for a, b in _BINDS.findall(source))
        return sorted(made)[:NAMES]

    def answer(self, name: str) -> Any:
        """The value that the notebook gives to `name`; None where it gives none. Raises what the code raises.

        Raises Broken where the cell that seems to hold it cannot be parsed.
        """
        needed = self._needed(name)
        if not any(name in statement.makes for statement in needed):
            for source, said in self.broken:
                if any(name in found for found in _BINDS.findall(source)):
                    raise Broken(said)
            return None
        space: dict[str, Any] = {"__name__": "__main__", "get_ipython": _NoShell, "display": _nothing}
        waiting, errors = needed, list[Exception]()
        while waiting:
            later = []
            for statement in waiting:
                try:
                    _execute(statement, space, self._features)
                except NameError as error:  # cells may stand in another order than they were run in
                    later.append(statement)
                    errors.append(error)
                except Exception as error:  # what does not need it works all the same
                    errors.insert(0, error)
            if len(later) == len(waiting):
                break
            waiting = later
        if name not in space and errors:
            raise errors[0]
        return space.get(name)

    def _needed(self, name: str) -> list[Statement]:
        """The statements that `name` depends on, in the notebook's order."""
        chosen = {i for i, s in enumerate(self.statements) if "*" in s.makes}  # `from x import *`
        names, waiting = {name}, [name]
        while waiting:
            wanted = waiting.pop()
            makers = [i for i, s in enumerate(self.statements) if wanted in s.makes]
            # A copy of the empty answer, below the one that was written, does not count.
            if any(not self.statements[i].stub for i in makers):
                makers = [i for i in makers if not self.statements[i].stub]
            changers = [i for i, s in enumerate(self.statements) if wanted in s.changes - self.imported]
            for i in {*makers, *changers} - chosen:
                chosen.add(i)
                new = self.statements[i].uses - names
                names |= new
                waiting += sorted(new)
        return [self.statements[i] for i in sorted(chosen)]


def _execute(statement: Statement, space: dict[str, Any], features: int) -> None:
    module = ast.Module([statement.node], type_ignores=[])
    exec(compile(module, statement.file, "exec", features), space)


def _features(node: ast.stmt) -> int:
    """What `from __future__ import ...` turns on."""
    if not isinstance(node, ast.ImportFrom) or node.module != "__future__":
        return 0
    flags = 0
    for alias in node.names:
        feature = getattr(__future__, alias.name, None)
        flags |= feature.compiler_flag if feature is not None else 0
    return flags


def _nothing(*arguments: Any, **named: Any) -> None:
    return None


class _NoShell:
    """Stands in for IPython's shell: magics and shell lines do nothing here."""

    def __getattr__(self, name: str) -> Any:
        return _nothing


def _statements(source: str, file: str) -> Iterator[Statement]:
    tree = ast.parse(source, file)
    lines = [f"{line}\n" for line in source.split("\n")]
    linecache.cache[file] = (len(source), None, lines, file)
    for node, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        makes, changes, imports = map(frozenset, _effects(node))
        alone = following is None or following.lineno > (node.end_lineno or 0)
        uses = _uses(node, lines if alone and node.col_offset == 0 else None)
        yield Statement(node, file, makes, imports, changes, frozenset(uses), _is_stub(node))


def _effects(node: ast.stmt) -> tuple[set[str], set[str], set[str]]:
    """The names that a top-level statement binds, those whose values it changes, those that it imports."""
    makes: set[str] = set()
    imports: set[str] = set()
    changes: set[str] = set()
    waiting: list[ast.AST] = [node]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            makes.add(inner.name)  # what is inside happens elsewhere
            continue
        if isinstance(inner, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            continue
        if isinstance(inner, ast.Import | ast.ImportFrom):
            imports.update(alias.asname or alias.name.partition(".")[0] for alias in inner.names)
        elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            makes.add(inner.id)
        elif isinstance(inner, ast.ExceptHandler) and inner.name:
            makes.add(inner.name)
        elif isinstance(inner, ast.Subscript | ast.Attribute) and isinstance(inner.ctx, ast.Store):
            changes |= _root(inner)
        elif isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Call):
            if isinstance(inner.value.func, ast.Attribute):
                changes |= _root(inner.value.func)
        elif isinstance(inner, ast.AugAssign):
            changes |= _root(inner.target)
        waiting += ast.iter_child_nodes(inner)
    if isinstance(node, ast.AugAssign):  # `x += 1` changes what there is, it does not make it
        makes -= _root(node.target)
    return makes | imports, changes, imports


def _root(node: ast.AST) -> set[str]:
    """The name at the bottom of `a.b[c].d`."""
    while isinstance(node, ast.Subscript | ast.Attribute | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _uses(node: ast.stmt, lines: Sequence[str] | None) -> set[str]:
    """The global names that a statement looks up, also in the functions that it makes.

    `lines`: of its cell, where it has its lines to itself.
    """
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    try:
        source = ast.unparse(node) if lines is None else "".join(lines[first - 1 : node.end_lineno])
        table = symtable.symtable(source, "<statement>", "exec")
    except SyntaxError:  # lines that end as no editor ends them
        table = symtable.symtable(ast.unparse(node), "<statement>", "exec")
    used = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
    waiting = table.get_children()
    while waiting:
        inner = waiting.pop()
        used |= {symbol.get_name() for symbol in inner.get_symbols() if symbol.is_global()}
        waiting += inner.get_children()
    return used


def _is_stub(node: ast.stmt) -> bool:
    """Whether it is an answer nobody wrote: a function of nothing, a dict or a value of dots."""
    if isinstance(node, ast.FunctionDef):
        return all(_says_nothing(inner) for inner in node.body)
    if isinstance(node, ast.Assign | ast.AnnAssign):
        value = node.value
        if isinstance(value, ast.Dict):
            return all(isinstance(v, ast.Constant) and v.value in (..., None) for v in value.values)
        return isinstance(value, ast.Constant) and value.value in (..., None)
    return False


def _says_nothing(node: ast.stmt) -> bool:
    if isinstance(node, ast.Raise):
        return any("NotImplementedError" in _root(part) for part in (node.exc,) if part is not None)
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
