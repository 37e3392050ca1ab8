"""Templates → pages: one file each, with style and script inside, that opens with the network off."""

import base64
import hashlib
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pcbench.config import bundled

__all__ = ["filled_in"]

SCRIPT = "report.js"


def filled_in(template: str, **values: Any) -> str:
    """A page; equal values give equal text.

    Args:
        template: name of a file beside report.css.
        values: what it shows.
    """
    folder = bundled("templates")
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (folder / SCRIPT).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(script=script, script_hash=digest, **values)
