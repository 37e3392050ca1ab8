"""The page in a browser with the network off: no errors, sorting, filtering, phone width, dark, without scripts."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from report.browser import NAMES, browse, framed, probe
from report.made_accuracy import accuracy_records, needle_samples, write_with_samples
from report.made_kernels import kernel_records
from report.made_losses import loss_records
from report.made_memory import memory_records, throughput_records
from report.made_methods import method_records
from report.made_runs import HOSTILE, endings, record, served_record, suite_records, write_run
from report.made_toys import toy_records

from pcbench.report import build
from pcbench.report.reading.runs import read_runs
from pcbench.report.sections import SECTIONS

pytestmark = pytest.mark.needs(*NAMES)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    records = suite_records(model=HOSTILE, warnings=[HOSTILE]) + endings(model=HOSTILE)
    records.append(record(model=HOSTILE, workload="w" * 300, method="m" * 200))
    ok = [one for one in records if one.status == "ok"]
    samples = [replace(s, id=HOSTILE, prediction=HOSTILE, answers=[HOSTILE]) for r in ok for s in needle_samples(r, 2)]
    return build([write_with_samples(tmp_path_factory.mktemp("browser") / "run", records, samples)])


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory):
    """A page with every section there is; two of its runs hold the same cells."""
    root = tmp_path_factory.mktemp("every")
    folders = [write_run(root / "kernels", kernel_records()), write_run(root / "throughput", throughput_records())]
    folders += [write_run(root / "memory", memory_records()), write_run(root / "accuracy", accuracy_records())]
    folders += [write_run(root / name, suite_records(run=name)) for name in ("one", "two")]
    folders.append(write_run(root / "methods", [*method_records(), served_record(run="methods")]))
    folders.append(write_run(root / "toys", toy_records()))
    folders.append(write_run(root / "losses", loss_records(), suite="perplexity"))
    return build(folders, root / "every.html")


def test_console_sees_errors(tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text("<!DOCTYPE html><script>missing()</script>")
    assert "missing is not defined" in browse(bad)[1][0]


@pytest.mark.parametrize("name", ["page", "every_kind"])
def test_page_opens_without_a_console_message(name, request):
    document, console = browse(request.getfixturevalue(name))
    assert console == []
    assert "<button" in document
    assert "<h1>pcbench report</h1>" in document


def test_page_has_a_part_for_every_section(every_kind):
    shown, links = probe(
        every_kind,
        """[[...document.querySelectorAll("section, footer")].map((part) => part.id),
      [...document.querySelectorAll("a")].map((a) => a.getAttribute("href"))]""",
    )
    names = ["verdict", "trust", *(make.__name__ for make in SECTIONS), "definitions"]
    assert shown == [{"times": "time"}.get(name, name) for name in names]
    assert {link.removeprefix("#") for link in links} <= set(shown)


def requests(page: Path) -> set[str]:
    """Addresses asked for while the page was open, by the browser's own log of the network."""
    log = page.with_name(f"{page.stem}-net.json")
    browse(page, f"--log-net-log={log}")
    asked = set(re.findall(r'"url":"([^"]*)"', log.read_text(encoding="utf-8")))
    # what the browser asks for at every start
    return {url for url in asked if not re.match(r"https?://[\w.-]+\.(google|googleapis|gstatic)\.com/", url)}


def test_requests_sees_a_page_that_asks(tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text('<!DOCTYPE html><img src="http://example.invalid/picture.png">')
    assert "http://example.invalid/picture.png" in requests(bad)


@pytest.mark.parametrize("name", ["page", "every_kind"])
def test_no_request_leaves_the_page(name, request):
    found = requests(request.getfixturevalue(name))
    assert {url for url in found if not url.startswith("file:")} == set()


def test_hostile_names_are_shown_and_not_run(page):
    script = """[document.body.innerText.split("alert(1)<\\/script>").length > 20,
      document.querySelectorAll("img").length, document.querySelectorAll("body script").length]"""
    # the page's data, its script and the probe
    assert probe(page, script) == [True, 0, 3]


SAVE = """(() => {
  const [blobs, saved] = [[], []];
  URL.createObjectURL = (blob) => { blobs.push(blob); return "blob:none"; };
  HTMLAnchorElement.prototype.click = function () { saved.push(this.download); };
  document.querySelectorAll(".downloads button").forEach((button) => button.click());
  return [saved, blobs.map((blob) => blob.size), DOWNLOADS["records.csv"](), DOWNLOADS["times.csv"]()];
})()"""


def test_downloads_hold_the_records(page):
    names, sizes, records, times = probe(page, SAVE)
    assert names == ["records.csv", "times.csv", "data.json"]
    assert sizes[:2] == [len(records.encode()), len(times.encode())]
    (run,) = read_runs([page])
    rows = list(csv.DictReader(io.StringIO(records, newline="")))
    assert [row["cell"] for row in rows] == [one.cell for one in run.records]
    assert {row["model"] for row in rows} == {HOSTILE}
    wanted = [float("nan") if one.ms_p50 is None else one.ms_p50 for one in run.records]
    assert [float(row["ms_p50"] or "nan") for row in rows] == pytest.approx(wanted, nan_ok=True)
    assert "samples_ms" not in rows[0]
    passes = list(csv.DictReader(io.StringIO(times, newline="")))
    assert [float(row["ms"]) for row in passes] == [ms for one in run.records for ms in one.samples_ms or ()]
    assert {"schema", "cell", "context_tokens", "repeat"} <= set(passes[0])


SORT = """(() => {
  const table = [...document.querySelectorAll("table")].find((t) => t.caption.textContent === "All cells");
  const headings = [...table.tHead.rows[0].cells];
  const at = headings.findIndex((h) => h.textContent === TITLE);
  const column = () => [...table.tBodies[0].rows].map((row) => row.cells[at].textContent);
  const found = [column()];
  for (let i = 0; i < 2; i++) { headings[at].querySelector("button").click(); found.push(column()); }
  return [...found, headings[at].getAttribute("aria-sort")];
})()"""


def test_headings_sort_numbers_with_missing_ones_last(page):
    before, up, down, state = probe(page, SORT.replace("TITLE", '"p50 (ms)"'))

    def numbers(texts: list[str]) -> list[float]:
        return [float(text.replace(",", "")) for text in texts if text]

    assert numbers(before) != sorted(numbers(before))
    assert numbers(up) == sorted(numbers(before))
    assert numbers(down) == sorted(numbers(before), reverse=True)
    gaps = before.count("")
    assert gaps > 0
    assert up[-gaps:] == down[-gaps:] == [""] * gaps
    assert state == "descending"


def test_headings_sort_text(page):
    before, up, down, _ = probe(page, SORT.replace("TITLE", '"status"'))
    assert up == sorted(before)
    assert down == sorted(before, reverse=True)


FILTER = """(() => {
  const table = [...document.querySelectorAll("table")].find((t) => t.caption.textContent === "All cells");
  const field = table.parentNode.previousElementSibling;
  field.querySelector("input").value = "8,192 full/torch";
  field.querySelector("input").dispatchEvent(new Event("input"));
  const shown = [...table.tBodies[0].rows].filter((row) => !row.hidden);
  return [shown.length, field.querySelector("[role=status]").textContent];
})()"""


def test_filter_keeps_rows_that_hold_every_word(page):
    assert probe(page, FILTER) == [1, f"1 of {len(suite_records()) + len(endings()) + 1} rows"]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["page", "every_kind"])
def test_page_is_no_wider_than_the_window(name, width, request):
    script = "[doc.documentElement.clientWidth, doc.documentElement.scrollWidth]"
    assert framed(request.getfixturevalue(name), width, script) == [width, width]


CONTRAST = """(() => {
  const channel = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const light = (rgb) => rgb.slice(0, 3).map((x, i) => channel(x) * [0.2126, 0.7152, 0.0722][i])
    .reduce((a, b) => a + b);
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const found = numbers(getComputedStyle(e).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const low = {};
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || e.closest("script, style, pre") || !e.getClientRects().length) continue;
    const style = getComputedStyle(e);
    const ink = numbers(e.closest("svg") ? style.fill : style.color);
    const [x, y] = [light(ink), light(behind(e))].sort((x, y) => y - x);
    const ratio = (x + 0.05) / (y + 0.05);
    if (ratio < 4.5) low[`${e.tagName}.${e.getAttribute("class")}`] = ratio;
  }
  return low;
})()"""


@pytest.mark.parametrize("scheme", [0, 1])
def test_every_text_of_a_page_meets_contrast(every_kind, scheme):
    assert probe(every_kind, CONTRAST, f"--blink-settings=preferredColorScheme={scheme}") == {}


def test_columns_of_text_are_left_aligned(page):
    script = """[...document.querySelectorAll("table")].every((table) => [...table.tBodies[0].rows].every((row) =>
      [...row.cells].every((cell, i) =>
        (getComputedStyle(cell).textAlign === "left") === table.tHead.rows[0].cells[i].classList.contains("t"))))"""
    assert probe(page, script) is True


def test_page_follows_the_dark_scheme(page):
    script = "['backgroundColor', 'color'].map((name) => getComputedStyle(document.body)[name])"
    light = probe(page, script, "--blink-settings=preferredColorScheme=1")
    dark = probe(page, script, "--blink-settings=preferredColorScheme=0")
    brightness = [[sum(map(int, re.findall(r"\d+", text)[:3])) for text in colours] for colours in (light, dark)]
    assert brightness[0][0] > 700 > 100 > brightness[0][1]
    assert brightness[1][0] < 100 < 600 < brightness[1][1]


def test_page_is_whole_without_scripts(page):
    copy = page.with_name("no_scripts.html")
    copy.write_text(re.sub(r"'sha256-[^']*'", "'none'", page.read_text(encoding="utf-8")), encoding="utf-8")
    document, console = browse(copy)
    assert "script-src" in console[0]
    assert "<button" not in document
    assert "hidden" not in re.sub(r"<(style|script).*?</\1>|aria-hidden", "", document, flags=re.DOTALL)
    for text in ("Can these numbers be trusted?", "All cells", "1.75×", "Definitions"):
        assert text in document


def test_text_meets_contrast(page):
    script = """(() => {
      const channel = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
      const light = (rgb) => rgb.match(/\\d+/g).slice(0, 3).map((x, i) => channel(+x) * [0.2126, 0.7152, 0.0722][i])
        .reduce((a, b) => a + b);
      const style = getComputedStyle(document.documentElement);
      const shown = (name) => {
        const probe = document.createElement("i");
        probe.style.color = style.getPropertyValue(name);
        document.body.append(probe);
        return light(getComputedStyle(probe).color);
      };
      const ratio = (a, b) => {
        const [x, y] = [shown(a), shown(b)].sort((x, y) => y - x);
        return (x + 0.05) / (y + 0.05);
      };
      const names = ["--ink", "--dim", "--link", "--good", "--bad", "--unsure"];
      const text = names.flatMap((name) => [ratio(name, "--paper"), ratio(name, "--panel")]);
      const lines = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((i) => ratio("--s" + i, "--paper"));
      return [Math.min(...text), Math.min(...lines)];
    })()"""
    for scheme in (0, 1):
        text, lines = probe(page, script, f"--blink-settings=preferredColorScheme={scheme}")
        assert text >= 4.5
        assert lines >= 3
