"""Finds the texts that the page can show, in the code that makes them.

A text is an argument of a call that reports it: `Fault(path, TEXT)`, `UnavailableError(TEXT)` and others.
`MessageSources` follows names, constants, conditions and functions to the literals. A function that passes a parameter
on to such a call counts as such a call itself. A literal is a template: a constant, `message("…%(name)s…")`, or an
f-string; its values get names. So a new text is found wherever it is written.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_Place = int | str
"""The position or the keyword of an argument."""

_REPORTING_CALLS: Mapping[str, tuple[_Place, ...]] = {
    "Fault": (1, "message"),
    "InvalidError.at": (1, "message"),
    "PersonFileError": (0,),
    "UnavailableError": (0,),
    "NotConnectedError": (0,),
    "TlsFilesError": (0,),
    "RequestError": (1, "message"),
    "_Failure": (0, 1),
    "make_finding": (1, 2, "what", "to_do"),
    "Reply": ("message",),
    "reply": ("message",),
    "unavailable": (0, "reason"),
    "warnings.set": (1, "text"),
    "_reply": ("message",),
    "_report": (0,),
    "RequestAge": (1, "note"),
    "StoreError": (0,),
    "UnsendableError": (0,),
}
"""The calls with texts for people as arguments. A name with a dot is a method of something with the first name."""

_TEXT_CONSTANTS = ("_NOT_YET", "_ON_CONNECT_FAILED", "LOST_REPEATEDLY", "CONNECTION_LOST")
_TEXT_FUNCTIONS = (
    "describe_refusal",
    "describe_ending",
    "describe_failure",
    "first_few",
    "_photo_key_problem",
    "_access_problem",
)
"""Constants, and functions that return texts, which reach the page as attributes of objects."""

_SAME_TEXT = ("message", "noop", "str", "shorten")
"""Functions that return the text that is their first argument."""

_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """Something found in a file.

    Attributes:
        file: relative to the package.
        line: in the file.
        text: the template; of an argument without a literal, its source.
    """

    file: str
    line: int
    text: str


@dataclass(slots=True)
class _Scope:
    """A function, or a module's top level (`node` is None)."""

    file: str
    node: ast.FunctionDef | ast.AsyncFunctionDef | None
    is_method: bool
    values: dict[str, list[ast.expr]] = field(default_factory=lambda: defaultdict(list))
    returns: list[ast.expr] = field(default_factory=list)
    calls: list[ast.Call] = field(default_factory=list)
    imported_from: dict[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> list[str]:
        if self.node is None:
            return []
        arguments = self.node.args
        return [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


class MessageSources:
    """The texts of some modules.

    Attributes:
        texts: the templates.
        unresolved: the arguments that lead to no literal.
    """

    def __init__(self, package: Path, files: Iterable[Path]) -> None:
        """Read the modules.

        Args:
            package: the folder that paths are relative to.
            files: the modules.
        """
        self.texts: set[Found] = set()
        self.unresolved: set[Found] = set()
        self._scopes: list[_Scope] = []
        self._functions: dict[str, list[_Scope]] = defaultdict(list)
        self._constants: dict[str, list[tuple[ast.expr, _Scope]]] = defaultdict(list)
        # For each argument, whether it is only a part of a text.
        self._reporting: dict[str, dict[_Place, bool]] = {
            name: dict.fromkeys(places, False) for name, places in _REPORTING_CALLS.items()
        }
        for file in files:
            self._read(str(file.relative_to(package)), ast.parse(file.read_text()))
        for name in _TEXT_CONSTANTS:
            for value, scope in self._constants[name]:
                self._resolve(value, scope, 0)
        for name in _TEXT_FUNCTIONS:
            for function in self._functions[name]:
                for value in function.returns:
                    self._resolve(value, function, 0)
        known = None
        while known != (known := sorted((name, *map(str, one.items())) for name, one in self._reporting.items())):
            for scope in self._scopes:
                self._follow_calls(scope)

    def _read(self, file: str, tree: ast.Module) -> None:
        top = _Scope(file, None, is_method=False)
        self._scopes.append(top)
        self._read_below(tree, top, in_class=False)
        for name, values in top.values.items():
            self._constants[name] += [(value, top) for value in values]

    def _read_below(self, node: ast.AST, scope: _Scope, *, in_class: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = _Scope(scope.file, child, is_method=in_class)
                inner.values |= {} if scope.node is None else scope.values
                inner.imported_from = scope.imported_from
                self._scopes.append(inner)
                self._functions[child.name].append(inner)
                self._read_below(child, inner, in_class=False)
                continue
            if isinstance(child, ast.Assign):
                for target in child.targets:
                    _assign(scope, target, child.value)
            elif isinstance(child, ast.AnnAssign | ast.NamedExpr | ast.AugAssign) and child.value is not None:
                _assign(scope, child.target, child.value)
            elif isinstance(child, ast.Return | ast.Yield) and child.value is not None:
                scope.returns.append(child.value)
            elif isinstance(child, ast.ImportFrom) and child.module is not None:
                file = child.module.partition(".")[2].replace(".", "/") + ".py"
                scope.imported_from |= {one.asname or one.name: file for one in child.names}
            elif isinstance(child, ast.ClassDef):
                self._read_error_class(child)
            elif isinstance(child, ast.Call):
                scope.calls.append(child)
            self._read_below(child, scope, in_class=isinstance(child, ast.ClassDef))

    def _read_error_class(self, node: ast.ClassDef) -> None:
        """Let a subclass of an error that reports a text report it too."""
        for base in node.bases:
            if isinstance(base, ast.Name) and base.id in self._reporting:
                self._reporting.setdefault(node.name, {}).update(self._reporting[base.id])

    def _follow_calls(self, scope: _Scope) -> None:
        for call in scope.calls:
            if isinstance(call.func, ast.Name) and call.func.id == "message":
                self._resolve_call(call, scope, 0, is_part=False)
            for place, is_part in self._places(call.func, scope).items():
                argument = _argument(call, place)
                if argument is None:
                    continue
                depth = _MAX_DEPTH - 3 if is_part else 0
                if not self._resolve(argument, scope, depth, is_part=is_part) and not is_part:
                    self.unresolved.add(Found(scope.file, argument.lineno, ast.unparse(argument)))

    def _places(self, function: ast.expr, scope: _Scope) -> Mapping[_Place, bool]:
        """Return the arguments of a call of this function that are texts, or parts of texts."""
        names = ast.unparse(function).split(".")
        is_of_module = len(names) > 1 and names[0].islower() and names[0] in scope.imported_from
        if names[0] == "_LOGGER" or is_of_module:
            return {}
        method = [] if len(names) == 1 else [".".join(names[-2:]), ".".join(names[-2:]).lstrip("_")]
        keys = (names[-1], *method, f"{scope.file}:{names[-1]}")
        return {place: is_part for key in keys for place, is_part in self._reporting.get(key, {}).items()}

    def _resolve(self, value: ast.expr, scope: _Scope, depth: int, *, is_part: bool = False) -> bool:
        """Add the templates that a value can be; return whether all of its sources are known.

        Args:
            value: the expression.
            scope: it is in.
            depth: of the functions and names that led to it.
            is_part: whether it is a value inside another text, which may be a name or a number.
        """
        if depth > _MAX_DEPTH:
            return True
        match value:
            case ast.Constant(value=str(text)):
                if not is_part or " " in text.strip():
                    self._add(text, scope, value)
                return True
            case ast.Constant():
                return value.value is None
            case ast.JoinedStr():
                self._add(template_of(value), scope, value)
                parts = [part.value for part in value.values if isinstance(part, ast.FormattedValue)]
                self._resolve_all(parts, scope, max(depth, _MAX_DEPTH - 4), is_part=True)
                return True
            case ast.IfExp():
                return self._resolve_all([value.body, value.orelse], scope, depth, is_part=is_part)
            case ast.BoolOp() | ast.Dict():
                return self._resolve_all(value.values, scope, depth, is_part=is_part)
            case ast.Subscript():
                return self._resolve(value.value, scope, depth + 1, is_part=is_part)
            case ast.Call():
                return self._resolve_call(value, scope, depth, is_part=is_part)
            case ast.Name():
                return self._resolve_name(value.id, scope, depth, is_part=is_part)
        return False

    def _resolve_all(self, values: Iterable[ast.expr], scope: _Scope, depth: int, *, is_part: bool) -> bool:
        found = [self._resolve(one, scope, depth + 1, is_part=is_part) for one in values]
        return bool(found) and all(found)

    def _resolve_call(self, call: ast.Call, scope: _Scope, depth: int, *, is_part: bool) -> bool:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
        if name in _SAME_TEXT and call.args:
            if name == "message":
                parts = [keyword.value for keyword in call.keywords]
                self._resolve_all(parts, scope, max(depth, _MAX_DEPTH - 4), is_part=True)
            return self._resolve(call.args[0], scope, depth + 1, is_part=is_part)
        if name == "get" and isinstance(call.func, ast.Attribute):
            return self._resolve_all([call.func.value, *call.args[1:]], scope, depth, is_part=is_part)
        is_method = isinstance(call.func, ast.Attribute)
        functions = [one for one in self._functions.get(name, ()) if one.is_method == is_method]
        if not is_method or name.startswith("_"):
            files = (scope.file, scope.imported_from.get(name))
            functions = [one for one in functions if one.file in files]
        known = [self._resolve_all(one.returns, one, depth, is_part=is_part) for one in functions]
        return bool(known) and all(known)

    def _resolve_name(self, name: str, scope: _Scope, depth: int, *, is_part: bool) -> bool:
        values = scope.values.get(name, ())
        if values:
            return self._resolve_all(values, scope, depth, is_part=is_part)
        if scope.node is not None and name in scope.parameters:
            return self._report_parameter(name, scope, scope.node, is_part=is_part)
        files = (scope.file, scope.imported_from.get(name))
        constants = [one for one in self._constants.get(name, ()) if one[1].file in files]
        known = [self._resolve(value, of, depth + 1, is_part=is_part) for value, of in constants]
        return bool(known) and all(known)

    def _report_parameter(
        self, name: str, scope: _Scope, function: ast.FunctionDef | ast.AsyncFunctionDef, *, is_part: bool
    ) -> bool:
        """Let the calls of a function report a text with this parameter; return whether they do."""
        arguments = function.args
        every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        annotation = next(one.annotation for one in every if one.arg == name)
        if function.name == "__init__" or (is_part and (annotation is None or "str" not in ast.unparse(annotation))):
            return False
        places: list[_Place] = [name]
        if all(one.arg != name for one in arguments.kwonlyargs):
            places.append(scope.parameters.index(name) - scope.is_method)
        key = f"{scope.file}:{function.name}" if function.name.startswith("_") else function.name
        known = self._reporting.setdefault(key, {})
        for place in places:
            known[place] = known.get(place, True) and is_part
        return True

    def _add(self, template: str, scope: _Scope, node: ast.expr) -> None:
        if re.search(r"[A-Za-z]{2}", re.sub(r"%\(\w+\)s", "", template)):
            self.texts.add(Found(scope.file, node.lineno, template))


def template_of(joined: ast.JoinedStr) -> str:
    """Return the template of an f-string: each value is a place with a name that says what it is."""
    names: dict[str, str] = {}
    parts = []
    for part in joined.values:
        if isinstance(part, ast.Constant):
            parts.append(str(part.value).replace("%", "%%"))
        elif isinstance(part, ast.FormattedValue):
            source = ast.unparse(part.value)
            if source not in names:
                words = [word for word in re.findall(r"[A-Za-z_]\w*", source) if word not in _WORDS_WITHOUT_MEANING]
                name = words[-1].strip("_").lower() if words else "value"
                while name in names.values():
                    name += "_too"
                names[source] = name
            parts.append(f"%({names[source]})s")
    return "".join(parts)


_WORDS_WITHOUT_MEANING = frozenset(
    {"self", "str", "len", "shorten", "repr", "if", "else", "is", "not", "or", "in", "for", "s"}
)


def _assign(scope: _Scope, target: ast.expr, value: ast.expr) -> None:
    if isinstance(target, ast.Name):
        scope.values[target.id].append(value)
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, its_value in zip(target.elts, value.elts, strict=False):
            _assign(scope, one, its_value)


def _argument(call: ast.Call, place: _Place) -> ast.expr | None:
    if isinstance(place, int):
        return call.args[place] if 0 <= place < len(call.args) else None
    return next((one.value for one in call.keywords if one.arg == place), None)
