"""Reports of synthetic runs."""

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from report.made_runs import Page, read_page, write_run

from pcbench.report import build
from pcbench.types import Record


@pytest.fixture
def report(tmp_path: Path) -> Callable[..., Page]:
    """Builds and reads the report of some records."""
    numbers = count()

    def make(records: Sequence[Record], **manifest: Any) -> Page:
        return read_page(build([write_run(tmp_path / f"run{next(numbers)}", records, **manifest)]))

    return make
