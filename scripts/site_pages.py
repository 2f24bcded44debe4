"""Gather the pages of the site: the documents, README and other Markdown files, and the Python reference.

``python scripts/site_pages.py FOLDER`` fills a new folder, in which a site generator then builds the site.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from reference_pages import name_groups

import ticketsearch as ts

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "ticketsearch" / "docs"
# Pages that lie elsewhere in the repository.
OTHERS = {
    "README.md": "index.md",
    "runs/README.md": "runs.md",
    ".github/CONTRIBUTING.md": "contributing.md",
    "ticketsearch/LICENSE": "licence.md",
}
API = """# Python in full

The documentation of every public name; [Python](python.md) is the short list.
"""


def main(folder: Path) -> None:
    """Write the pages, the picture and the configuration into a new folder."""
    pages = folder / "pages"
    shutil.copytree(DOCS, pages)
    for source, target in OTHERS.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        (pages / target).write_text(_moved(text), encoding="utf-8")
    (pages / "api.md").write_text(api_page(), encoding="utf-8")
    for picture in (ROOT / "scripts" / "results").glob("*.png"):
        shutil.copy(picture, pages)
    shutil.copy(ROOT / "scripts" / "site.css", pages)
    shutil.copy(ROOT / "scripts" / "mkdocs.yml", folder)
    shutil.copy(ROOT / "scripts" / "site_docstrings.py", folder / "docstrings.py")


def api_page() -> str:
    """Return the page of which the site generator makes the full Python reference."""
    parts = [API]
    for title, names in name_groups().items():
        parts += [f"## {title}\n", *(f"::: {_path(name)}\n" for name in names)]
    return "\n".join(parts)


def _path(name: str) -> str:
    """Return the dotted path of a public name; in a module it may also be that of a file, as theory.audit."""
    module, _, inner = name.rpartition(".")
    return f"{getattr(getattr(ts, module), inner).__module__}.{inner}" if module else f"ticketsearch.{name}"


def _moved(text: str) -> str:
    """Return a page with its links as they are in the site, where all pages lie in one folder."""
    for source, target in OTHERS.items():
        text = text.replace(f"]({source})", f"]({target})")
    return re.sub(r"\]\((?:ticketsearch/docs|scripts/results)/", "](", text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
