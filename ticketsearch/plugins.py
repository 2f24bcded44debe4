"""Plugins: functions by name, listed in the package or a user's own, ``file.py:function``; their options."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from ticketsearch.errors import BadInput, nearest, unknown

__all__ = [
    "OBJECT",
    "Code",
    "call",
    "check_call",
    "check_keywords",
    "check_options",
    "code_of",
    "listed",
    "one_line",
    "own_code",
    "parameters_of",
    "relative_name",
    "resolve",
    "source_digest",
]

# Names of Python objects in settings begin so; no name of a function does.
OBJECT = "object:"
# Keywords of objects in Python, by the noun of error messages.
KEYWORDS = {"dataset": "data"}


class Code(NamedTuple):
    """A function outside the package that a name stands for.

    Attributes
    ----------
    place : path of a file, or dotted name of a module.
    function : name of the function there.
    is_file : whether ``place`` is a path.
    """

    place: str
    function: str
    is_file: bool


def code_of(text: str, known: Collection[str] = ()) -> Code | None:
    """Return the function in a file or module that ``text`` names, or None; nothing is imported.

    ``known`` are the listed names, which take precedence.
    """
    name, colon, function = text.partition(":")
    if name in known:
        return None
    path, _, last = text.rpartition(":")
    if path.endswith(".py"):
        return Code(path, last, True)
    if colon and "." in name and all(part.isidentifier() for part in name.split(".")):
        return Code(name, function, False)
    return None


def source_digest(text: str) -> str:
    """Return the SHA-256 of the file that ``text`` names a function of, in hexadecimal; nothing is imported.

    The digest is empty where ``text`` names no code, or code without a file, such as a built-in module.
    """
    code = code_of(text)
    path = code and (Path(code.place) if code.is_file else _module_file(code.place))
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path else ""
    except OSError:
        return ""


def relative_name(text: str, folder: Path) -> str:
    """Return a name of a function in a file with the file's path relative to a folder.

    Any other name, and a path that has nothing but the root in common with the folder, stay as they are.
    """
    code = code_of(text)
    if code is None or not code.is_file or not Path(code.place).is_absolute():
        return text
    try:
        shared = Path(os.path.commonpath([code.place, folder]))
    except ValueError:  # on another drive
        return text
    return text if shared == shared.parent else f"{os.path.relpath(code.place, folder)}:{code.function}"


def _module_file(name: str) -> Path | None:
    """Return a module's file from the finders of the import system, without importing its packages."""
    if name in sys.modules:
        file = getattr(sys.modules[name], "__file__", None)
        return Path(file) if file else None
    parts, places, spec = name.split("."), None, None
    for last in range(1, len(parts) + 1):
        specs = (finder.find_spec(".".join(parts[:last]), places) for finder in sys.meta_path)
        spec = next((spec for spec in specs if spec is not None), None)
        places = spec.submodule_search_locations if spec else None
        if spec is None or (places is None and last < len(parts)):
            return None
    return Path(spec.origin) if spec and spec.origin and spec.has_location else None


def listed(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """Return the functions in a module's ``__all__`` by name: users may give these names."""
    return {name: getattr(module, name) for name in module.__all__}


def resolve(
    text: str, known: Mapping[str, Callable[..., Any]], kind: str, supplied: tuple[str, ...] = ()
) -> Callable[..., Any]:
    """Return the function that ``text`` names.

    Parameters
    ----------
    text : a name in ``known``; or ``name:argument``, whose argument goes to the function's first positional
        parameter that is not ``supplied``; or ``file.py:function`` or ``package.module:function``.
    known : the listed functions by name.
    kind : noun for error messages, e.g. ``"pruner"``.
    supplied : names of parameters that the caller passes itself.

    Raises :class:`BadInput` for any other text, and for code that cannot be imported.
    """
    name, colon, argument = text.partition(":")
    if name in known:
        return _with_argument(known[name], name, argument if colon else None, kind, supplied)
    if text.startswith(OBJECT):
        raise BadInput(
            f"{kind} {text.removeprefix(OBJECT)!r} is a Python object, which no name finds; give the object "
            f"itself in Python, {KEYWORDS.get(kind, kind)}=…"
        )
    code = code_of(text, known)
    if code is None:
        raise unknown(kind, name, known, "file.py:function names one of your own")
    if code.is_file:
        return _attribute(_load_file(Path(code.place), kind), code.function, text, kind)
    try:
        module = importlib.import_module(code.place)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the module's own code may raise anything
        raise BadInput(f"{kind} {text!r}: cannot import {code.place!r} ({one_line(error)})") from error
    return _attribute(module, code.function, text, kind)


@contextlib.contextmanager
def own_code(kind: str, name: str) -> Iterator[None]:
    """Turn exceptions of a user's code that would end the program, such as ``sys.exit``, into bad input.

    Ordinary exceptions and Ctrl-C pass. Raises :class:`BadInput` with the name of the code.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise BadInput(
            f"{kind} {name!r} must return or raise an error, but would end the program ({one_line(error)}); "
            "put sys.exit and the like under if __name__ == '__main__'"
        ) from error


def call(function: Callable[..., Any], kind: str, name: str, /, *arguments: Any, **options: Any) -> Any:
    """Return what a user's own function returns.

    Raises :class:`BadInput` for a function that does not take these arguments, and as :func:`own_code` does;
    other exceptions of the function pass unchanged.
    """
    with own_code(kind, name):
        try:
            return function(*arguments, **options)
        except TypeError as error:
            # The call itself raised the error, not the function: there is no frame of the function.
            if error.__traceback__ is None or error.__traceback__.tb_next is None:
                reason = one_line(error)
                raise BadInput(f"{kind} {name!r} does not take what it is given ({reason})") from error
            raise


def check_call(
    function: Callable[..., Any],
    kind: str,
    name: str,
    form: str,
    placed: int,
    named: Iterable[str] = (),
) -> None:
    """Raise :class:`BadInput` for a function that does not take the arguments of a call.

    These are ``placed`` arguments by position, and the ``named`` ones by keyword. ``form`` shows the call,
    e.g. ``"factory(input_shape, classes)"``. A function without a signature passes.
    """
    signature = _signature(function)
    if signature is None:
        return
    try:
        signature.bind(*[None] * placed, **dict.fromkeys(named))
    except TypeError as error:
        raise BadInput(f"a {kind} is called as {form}, which {name!r} does not take ({error})") from error


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature of a function, None for a built-in function that has none."""
    try:
        return inspect.signature(function)
    except (ValueError, TypeError):
        return None


def check_options(
    function: Callable[..., Any],
    options: Mapping[str, object],
    kind: str,
    name: str,
    supplied: tuple[str, ...] = (),
) -> None:
    """Raise :class:`BadInput` for the first unknown or missing option of a function, before it is called.

    ``supplied`` are the keywords that the caller passes itself; they are no options.
    """
    signature = _signature(function)
    if signature is None:
        return
    parameters = signature.parameters.values()
    bound = function.keywords if isinstance(function, partial) else {}
    known = {
        p.name: p.default
        for p in parameters
        if p.name not in bound and p.name not in supplied
        if p.kind is p.KEYWORD_ONLY or p.default is not p.empty
        if p.kind is not p.VAR_KEYWORD
    }
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    takes = f"it takes {', '.join(known)}" if known else "it takes none"
    for option in options:
        if option not in known and not anything:
            raise BadInput(f"{kind} {name!r} has no option {option!r}{nearest(option, known)}: {takes}")
    for option, default in known.items():
        if default is inspect.Parameter.empty and option not in options:
            raise BadInput(f"{kind} {name!r} needs the option {option!r}: {takes}")


def check_keywords(function: Callable[..., Any], keywords: tuple[str, ...], kind: str, name: str) -> None:
    """Raise :class:`BadInput` for the first of these keywords that a function does not take."""
    signature = _signature(function)
    if signature is None:
        return
    parameters = signature.parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for keyword in keywords:
        if keyword not in parameters:
            raise BadInput(
                f"a {kind} is called with {', '.join(keywords)}, but {name!r} takes no {keyword!r}"
            )


def parameters_of(function: Callable[..., Any]) -> frozenset[str]:
    """Return the names of a function's parameters; an empty set for a built-in function without signature."""
    signature = _signature(function)
    return frozenset() if signature is None else frozenset(signature.parameters)


def _with_argument(
    function: Callable[..., Any], name: str, argument: str | None, kind: str, supplied: tuple[str, ...]
) -> Callable[..., Any]:
    positional = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.name not in supplied
    ]
    if argument is None:
        if positional and positional[0].default is positional[0].empty:
            takes = positional[0].name
            raise BadInput(f"{kind} {name!r} needs its {takes}: write {name}:{takes.upper()}")
        return function
    if not positional:
        raise BadInput(f"{kind} {name!r} takes nothing after a colon, but got {name}:{argument}")
    return partial(function, **{positional[0].name: argument})


class _SourceAlone(SourceFileLoader):
    """Loader of a file's text; it ignores the compiled copy beside it, which may hold other code."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _load_file(path: Path, kind: str) -> ModuleType:
    if not path.is_file():
        raise BadInput(f"{kind}: no file {str(path)!r}")
    name = f"file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_SourceAlone(name, str(path)))
    assert spec is not None  # a .py suffix always finds the source loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks its module up while it is made. The module is listed only for that time: worker
    # processes cannot import it by name, so its functions are sent to them whole.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the user's code may raise anything, SystemExit too
        raise BadInput(f"{kind}: {str(path)!r} does not load ({one_line(error)})") from error
    finally:
        del sys.modules[spec.name]
    return module


def one_line(error: BaseException) -> str:
    """Return the type of an error and its message on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _attribute(module: ModuleType, name: str, text: str, kind: str) -> Callable[..., Any]:
    function = getattr(module, name, None)
    if not callable(function):
        callables = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise BadInput(f"{kind} {text!r}: no function {name!r} there{nearest(name, callables)}")
    resolved: Callable[..., Any] = function
    return resolved
