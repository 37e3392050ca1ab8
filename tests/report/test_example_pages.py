"""The committed pages of the example runs are what the report makes of their records today."""

import pytest
from example_pages import PAGES

from pcbench.report import build


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_a_page_is_what_its_records_say(page, tmp_path):
    made = build([page.parent], tmp_path / "report.html").read_text(encoding="utf-8")
    assert made == page.read_text(encoding="utf-8"), "run `python tools/example_pages.py`"
