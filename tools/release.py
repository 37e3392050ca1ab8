"""Whether a tag can be released: it is the version of pyproject.toml, of which CHANGELOG.md has a section.

tools/release.py TAG FILE: the section is written into FILE, as the notes of the release.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def notes(tag: str, version: str, changelog: str) -> str:
    """The section of a version.

    Args:
        tag: as it was pushed.
        version: of pyproject.toml.
        changelog: the text of CHANGELOG.md, whose sections begin with `## VERSION` and perhaps a date.

    Raises:
        SystemExit: one line about what does not fit.
    """
    if tag != f"v{version}":
        sys.exit(f"release: tag v{version} as pyproject.toml has it, got {tag}; change the version or the tag")
    sections = re.split(r"^## ", changelog, flags=re.M)[1:]
    found = next((text for text in sections if text.split(maxsplit=1)[0] == version), None)
    if found is None:
        sys.exit(f"release: a section ## {version} in CHANGELOG.md, got none; rename ## Unreleased")
    return found.partition("\n")[2].strip() + "\n"


def main() -> None:
    """Reads the tree that holds this file."""
    if len(sys.argv) != 3:
        sys.exit("release: tools/release.py TAG FILE; as v0.1.0 notes.md")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    Path(sys.argv[2]).write_text(notes(sys.argv[1], project["version"], changelog), encoding="utf-8")


if __name__ == "__main__":
    main()
