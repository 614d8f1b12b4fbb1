"""Let pages link to files outside of docs/: the README becomes the first page, other files their names."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the README as the first page, with links as seen from docs/."""
    text = (ROOT / "README.md").read_text().replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(text: str, page: Any, files: Files, **_: Any) -> str:
    """Write a link to a file that the site does not have as the file's path in the repository."""
    folder = posixpath.dirname(page.file.src_uri)

    def rewrite(link: re.Match[str]) -> str:
        picture, words, target = link.groups()
        name = posixpath.normpath(posixpath.join(folder, target.partition("#")[0]))
        if picture or "://" in target or target.startswith("#") or files.get_file_from_path(name):
            return link[0]
        if name == "../README.md":
            return f"[{words}]({posixpath.relpath('index.md', folder or '.')})"
        path = name if folder or not name.startswith("../") else name.removeprefix("../")
        return f"{words} (`{path.removeprefix('../')}`)"

    return LINK.sub(rewrite, text)
