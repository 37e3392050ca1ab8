"""What a page shows first, and what stays in sight, on a phone and on a wide screen."""

import pytest
from report.browser import NAMES, framed
from report.made_runs import suite_records, write_run

from pcbench.report import build

pytestmark = pytest.mark.needs(*NAMES)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """One run as a person has it."""
    return build([write_run(tmp_path_factory.mktemp("small") / "run", suite_records())])


def test_the_first_screen_of_a_phone_shows_the_sentence_and_the_numbers(small):
    script = """["h1", "#verdict .sentence", ".headline .value", ".headline .interval"].map((what) =>
      [...doc.querySelectorAll(what)].map((e) => [e.textContent.length > 0, e.getBoundingClientRect().bottom <= 844,
        e.getBoundingClientRect().right <= 390]))"""
    title, sentence, values, intervals = framed(small, 390, script)
    assert [len(title), len(sentence), len(values), len(intervals)] == [1, 1, 3, 3]
    assert all(all(one) for found in (title, sentence, values, intervals) for one in found)


def test_a_command_in_a_text_breaks_between_its_words_alone(small):
    script = """[...doc.querySelectorAll(".lead code span")].map((e) => [e.textContent, e.getClientRects().length])"""
    words = framed(small, 390, script)
    assert " ".join(word for word, _ in words) == "pcbench choose RUN --memory 24GiB --context 131072"
    assert all(lines == 1 for _, lines in words)


TABLE = """(() => {
  const region = [...doc.querySelectorAll(".scroll")].find((r) => r.getAttribute("aria-label") === "All cells");
  region.scrollLeft = 500;
  const rows = [region.querySelector("thead tr"), region.querySelector("tbody tr")];
  const lefts = rows.map((row) => row.cells[0].getBoundingClientRect().left - region.getBoundingClientRect().left);
  const cue = doc.defaultView.getComputedStyle(region.querySelector("caption"), "::after").content;
  const titles = [...rows[0].cells].map((cell) => cell.textContent);
  return [Math.max(...lefts), cue, titles, region.querySelector("tbody tr").cells[0].getBoundingClientRect().width];
})()"""


def test_a_table_keeps_its_first_column_says_that_it_scrolls_and_ends_with_what_identifies(small):
    left, cue, titles, width = framed(small, 390, TABLE)
    assert left <= 1
    assert "scroll sideways" in cue
    assert width <= 150
    assert titles[0] == "cell"
    assert titles.index("method / backend") > titles.index("p50 (ms)") > titles.index("context tokens")


def test_a_wide_screen_keeps_the_contents_beside_the_page(small):
    script = """(() => {
      doc.defaultView.scrollTo(0, 3000);
      const [nav, main] = ["nav", "main"].map((what) => doc.querySelector(what).getBoundingClientRect());
      return [nav.right <= main.left, nav.top >= 0 && nav.top < 100, main.right - main.left];
    })()"""
    beside, stays, width = framed(small, 1800, script, 900)
    assert beside
    assert stays
    assert width > 1400
