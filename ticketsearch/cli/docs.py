"""``docs``: the documents of the package, in the terminal."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Annotated

import typer

from ticketsearch.cli import completion
from ticketsearch.errors import unknown

__all__ = ["docs"]

# A link to another document, with or without a heading in it.
LINK = re.compile(r"\[([^\]]+)\]\((\w+)\.md(?:#[\w-]*)?\)")


def docs(
    topic: Annotated[
        str | None,
        typer.Argument(
            help="The topic to show; without one, the topics are listed.", autocompletion=completion.topics
        ),
    ] = None,
) -> None:
    """Show a document in the terminal, or list the topics."""
    pages = _pages()
    if topic is None:
        _list(pages)
    elif topic in pages:
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(LINK.sub(_reference, pages[topic])))
    else:
        raise unknown("topic", topic, pages)


def _pages() -> dict[str, str]:
    """Return the Markdown of each document by its topic, in alphabetical order."""
    folder = files("ticketsearch") / "docs"
    documents = [document for document in folder.iterdir() if document.name.endswith(".md")]
    texts = {document.name.removesuffix(".md"): document.read_text("utf-8") for document in documents}
    return dict(sorted(texts.items()))


def _list(pages: dict[str, str]) -> None:
    """Print each topic with the first paragraph of its document."""
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    for topic, text in pages.items():
        table.add_row(topic, Markdown(text.split("\n\n")[1]))
    print("`ticketsearch docs TOPIC` shows one of:\n")
    Console().print(table)


def _reference(link: re.Match[str]) -> str:
    """Return a link to another document as a terminal shows it: its text, and its topic if that differs."""
    text, topic = link.groups()
    return text if text == topic else f"{text} (topic `{topic}`)"
