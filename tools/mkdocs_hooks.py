"""Hooks of MkDocs: the README is the first page, and links that leave docs/ lead to the repository.

Without `repo_url` nobody knows where the repository is; such a link then becomes its text and its path.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

__all__ = ["on_files", "on_page_markdown"]

README = Path(__file__).resolve().parent.parent / "README.md"
# a link to a file of the repository: not to an address, not inside docs/
AWAY = re.compile(r"\[([^\]\n]+)\]\(\.\./([^)\s]+)\)")


def on_files(files: Any, config: Any) -> Any:
    """Adds the README as index.md."""
    text = README.read_text(encoding="utf-8")
    text = re.sub(r"\]\((?![a-z]+:|docs/|#)", "](../", text)
    text = re.sub(r'(\]\(|src="|srcset=")docs/', r"\1", text)
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, *, config: Any, **_: Any) -> str:
    """A page's text with links that the site can follow."""
    address = config["repo_url"]

    def link(found: "re.Match[str]") -> str:
        text, path = found.groups()
        if address:
            return f"[{text}]({address.rstrip('/')}/blob/main/{path})"
        return f"`{path}`" if text.strip("`") in path else f"{text}, `{path}`"

    return AWAY.sub(link, markdown)
