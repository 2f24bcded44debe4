"""Trust in the code that stored settings name, by a signature with the user's key.

Files run no code: the code that a run folder names may have been named by its user, or by a stranger who sent
the folder. A run is signed (HMAC-SHA256, RFC 2104), over its settings and the SHA-256 of each source file,
with a key that never leaves the user's state folder. Where signature and digests hold, the code is the user's
and unchanged; otherwise the user must consent again.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ticketsearch.errors import BadInput
from ticketsearch.plugins import code_of, relative_name, source_digest
from ticketsearch.settings.fields import Settings
from ticketsearch.settings.files import portable

__all__ = ["Origin", "check_word", "outside"]

KEY_BYTES = 32
# Flags that name code; other settings have --set.
FLAGS = {"model.name": "--model ", "data.name": "--data ", "seeding.method": "--method "}
Digest = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]


class Origin(BaseModel):
    """The sources of the code that stored settings name.

    Attributes
    ----------
    folder : folder that paths of sources are relative to, itself relative to the folder of the store.
    sources : ``{name: SHA-256 of its file}``, "" for a module without a file.
    signature : signature of settings and sources by the store's maker; "" where there was no key.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    folder: str = ""
    sources: dict[str, Digest] = {}
    signature: Digest = ""

    @classmethod
    def of(cls, settings: Settings, store: Path, folder: Path) -> Origin:
        """Return the origin of a store of this user; paths become relative to ``folder``."""
        sources = _sources(settings, folder)
        back = os.path.relpath(folder.resolve(), store.parent.resolve() / store.name)
        key = _key(make=True) if outside(settings) else None
        signature = _signature(key, settings, sources, folder) if key else ""
        return cls(folder=back, sources=sources, signature=signature)

    @classmethod
    def read(cls, text: str | None) -> Origin:
        """Return a stored origin, an empty one for a store without.

        Raises :class:`ValueError` for a malformed text.
        """
        try:
            return cls() if text is None else cls.model_validate_json(text)
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"]
            raise ValueError(f"the origin of its code is garbled: {reason}") from error

    def base(self, store: Path) -> Path:
        """Return the folder that paths of sources are relative to, for a store in this folder."""
        return (store.resolve() / self.folder).resolve() if self.folder else Path.cwd()

    def is_own(self, settings: Settings, folder: Path) -> bool:
        """Whether the user of this process signed these settings with these sources."""
        key = _key(make=False)
        if key is None or not self.signature:
            return False
        return hmac.compare_digest(self.signature, _signature(key, settings, self.sources, folder))


def outside(settings: Settings) -> dict[str, str]:
    """Return ``{dotted setting: text}`` of the settings that let other code than the package's run.

    These are texts that name a function in a file or module, in any setting, and the address of a cluster,
    whose answers are unpickled.
    """
    texts = {name: text for name, text in _texts(settings.model_dump()) if code_of(text)}
    if settings.training.address:
        texts["training.address"] = settings.training.address
    return texts


def check_word(
    what: str, settings: Settings, origin: Origin, folder: Path, given: Collection[str] = ()
) -> None:
    """Raise :class:`BadInput` for stored settings that name code, unless this user signed unchanged code.

    Parameters
    ----------
    what : the store as text, e.g. ``"run 'a'"``.
    settings, origin : those of the store.
    folder : folder that paths are relative to.
    given : dotted settings that the user has just given, and so trusts.
    """
    for name, text in outside(settings).items():
        if any(name == other or name.startswith(f"{other}.") for other in given):
            continue
        shown = relative_name(text, folder)
        if not origin.is_own(settings, folder):
            raise BadInput(
                f"files run no code, but {what} names {name} = {_cut(shown)} and is not known to be yours; "
                "read that code, then add --trust (in Python trust=True)"
            )
        code, digest = code_of(text), source_digest(text)
        if code is None or digest == origin.sources.get(shown):
            continue
        if code.is_file and not digest:
            flag = FLAGS.get(name, f"--set {name}=")
            raise BadInput(
                f"{what} goes on with {name} = {_cut(shown)}, but there is no such file in {str(folder)!r}; "
                f"say where it is now: {flag}FILE.py:{code.function}"
            )
        raise BadInput(
            f"{what} goes on with its own code, but {_cut(shown.rpartition(':')[0])} has changed since "
            f"({name}); put it back, or add --trust (in Python trust=True) to go on with it as it is"
        )


def _texts(tree: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield all texts in a tree of settings, with their dotted names."""
    if isinstance(tree, str):
        yield prefix, tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _texts(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _texts(value, prefix)


def _sources(settings: Settings, folder: Path) -> dict[str, str]:
    texts = [text for _, text in _texts(settings.model_dump()) if code_of(text)]
    return {relative_name(text, folder): source_digest(text) for text in texts}


def _signature(key: bytes, settings: Settings, sources: Mapping[str, str], folder: Path) -> str:
    """Return the HMAC of the settings, except for ``evolution.generations``, and of the sources."""
    tree = portable(settings, folder, exclude_defaults=True)
    tree.get("evolution", {}).pop("generations", None)
    content = json.dumps([tree, dict(sources)], sort_keys=True, default=str)
    return hmac.new(key, content.encode(), hashlib.sha256).hexdigest()


def _key(*, make: bool) -> bytes | None:
    """Return the user's key, None where there is none; with ``make`` it is made on first use."""
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        file = Path(state) / "ticketsearch" / "key"
        if make and not file.exists():
            _make_key(file)
        key = file.read_bytes()
    except (OSError, RuntimeError):  # no home folder, or one that cannot be written to
        return None
    return key if len(key) == KEY_BYTES else None


def _make_key(file: Path) -> None:
    """Write a new key that its user alone can read; of two processes that write one, the first wins."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=file.parent)  # with mode 0600
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(secrets.token_bytes(KEY_BYTES))
        with contextlib.suppress(FileExistsError):
            os.link(name, file)
    finally:
        Path(name).unlink()


def _cut(text: str) -> str:
    return repr(text) if len(text) <= 80 else repr(f"{text[:79]}…")
