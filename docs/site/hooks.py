"""Hooks of MkDocs: pages of the repository outside docs/, the notebook, and links between them."""

from __future__ import annotations

import json
import re
from os.path import relpath
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

PROJECT = Path(__file__).resolve().parents[2]
NOTEBOOK = "docs/quickstart.ipynb"
# File of the repository -> page of the site. Other files in docs/ keep their names.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "data/README.md": "data.md",
    "models/README.md": "models.md",
    "experiments/README.md": "recipes.md",
    NOTEBOOK: "quickstart.md",
}
SOURCES = {page: source for source, page in PAGES.items()}
LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside docs/, and the files outside docs/ that a page links to."""
    for source, page in PAGES.items():
        text = (PROJECT / source).read_text()
        content = notebook_markdown(text) if source == NOTEBOOK else text
        files.append(File.generated(config, page, content=content))

    for file in list(files.documentation_pages()):
        for link in LINK.findall(file.content_string):
            target = target_of(file.src_uri, link)
            if target and not target.startswith("docs/") and target not in PAGES:
                files.append(File.generated(config, target, abs_src_path=str(PROJECT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with links to the places that files have in the site."""
    uri = page.file.src_uri

    def in_site(match: re.Match[str]) -> str:
        target = target_of(uri, match[0])
        if target is None:
            return match[0]  # reported by MkDocs
        place = PAGES.get(target, target.removeprefix("docs/"))
        return relpath(place, Path(uri).parent)

    text = LINK.sub(in_site, markdown)
    if SOURCES.get(uri) == NOTEBOOK:
        name = Path(NOTEBOOK).name
        text += f"\n\n[Download this page as a notebook]({name})\n"
    return text


def target_of(uri: str, link: str) -> str | None:
    """The file of the repository that a link on the page `uri` means; None if there is none."""
    source = PROJECT / SOURCES.get(uri, f"docs/{uri}")
    target = (source.parent / link).resolve()
    if not target.is_file() or not target.is_relative_to(PROJECT):
        return None
    return target.relative_to(PROJECT).as_posix()


def notebook_markdown(text: str) -> str:
    """The cells of a notebook one after another; code in fences, outputs left out."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        is_code = cell["cell_type"] == "code"
        parts.append(f"```python\n{source}\n```" if is_code else source)
    return "\n\n".join(parts) + "\n"


def on_post_build(config: MkDocsConfig) -> None:
    """The search index as a script, too: pages opened from the disk ask for it."""
    folder = Path(config.site_dir) / "search"
    index = (folder / "search_index.json").read_text()
    (folder / "search_index.js").write_text(f"var __index = {index}")
