"""Names of functions: listed ones of the package, or a user's own in a file or an installed package."""

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


class Code(NamedTuple):
    """A function outside the package that a name stands for.

    Attributes
    ----------
    place : a file's path, or a dotted module.
    function : the name there.
    is_file : which of both ``place`` is.
    """

    place: str
    function: str
    is_file: bool


def code_of(text: str, known: Collection[str] = ()) -> Code | None:
    """Return the function in a file or module that ``text`` names, or None; nothing is imported.

    ``known`` are the listed names, which come first.
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

    Empty where ``text`` names no code, or no file is found: a missing one, a module without a source.
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
    """Return a module's file as the finders of the import system give it, without importing its packages."""
    if name in sys.modules:
        file = getattr(sys.modules[name], "__file__", None)
        return Path(file) if file else None
    parts, places, found = name.split("."), None, None
    for last in range(1, len(parts) + 1):
        searched = (each.find_spec(".".join(parts[:last]), places) for each in sys.meta_path)
        found = next((spec for spec in searched if spec is not None), None)
        places = found.submodule_search_locations if found else None
        if found is None or (places is None and last < len(parts)):
            return None
    return Path(found.origin) if found and found.origin and found.has_location else None


def listed(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """Return the functions named in a module's ``__all__``: the names its users may give."""
    return {name: getattr(module, name) for name in module.__all__}


def resolve(
    text: str, known: Mapping[str, Callable[..., Any]], kind: str, supplied: tuple[str, ...] = ()
) -> Callable[..., Any]:
    """Return the function that ``text`` names.

    ``name`` is looked up in ``known``. In ``name:argument`` the argument goes to the function's first
    positional parameter that the caller does not itself give (``supplied``). ``file.py:function`` and
    ``package.module:function`` name a function anywhere else.

    Raises :class:`BadInput` for a name that is none of these.
    """
    name, colon, argument = text.partition(":")
    if name in known:
        return _with_argument(known[name], name, argument if colon else None, kind, supplied)
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
    """Refuse what would end the whole program, such as ``sys.exit``, where a user's own code raises it.

    Ordinary exceptions and Ctrl-C pass. Raises :class:`BadInput` naming the code.
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
    what else the function raises passes unchanged.
    """
    with own_code(kind, name):
        try:
            return function(*arguments, **options)
        except TypeError as error:
            # Raised by the call itself, not inside the function: it has no frame of its own.
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
    """Refuse a function that does not take ``placed`` arguments by position and those ``named`` by keyword.

    ``form`` shows the call, e.g. ``"factory(input_shape, classes)"``. A function without a signature passes.
    Raises :class:`BadInput`.
    """
    signature = _signature(function)
    if signature is None:
        return
    try:
        signature.bind(*[None] * placed, **dict.fromkeys(named))
    except TypeError as error:
        raise BadInput(f"a {kind} is called as {form}, which {name!r} does not take ({error})") from error


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature of a function, None of a built-in one that does not tell."""
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
    """Refuse options that the function does not take, or lacks, before anything is run.

    ``supplied`` names the keywords that its caller gives. Raises :class:`BadInput` naming the first unknown
    or missing option and the known ones.
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
    """Refuse a function that cannot be given these keywords; raises :class:`BadInput` naming the first."""
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
    """Return the names of a function's parameters; none of a built-in one that does not tell."""
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
    """Loads the text of a file, never a compiled copy beside it, which may hold other code."""

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
    # A dataclass looks its own module up while it is made. It is listed only that long: worker processes
    # cannot import it by name and so must be sent its functions whole.
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
    found: Callable[..., Any] = function
    return found
