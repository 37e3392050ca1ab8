"""README and docs/: Python runs as printed, generated parts are up to date, links lead somewhere."""

import ast
import dataclasses
import html
import json
import logging
import re

import pytest
from chart import FILES, chart
from documentation import PAGES, ROOT, rendered
from documented import BLOCKS, TAGGED, TEXTS, blocks, lines
from tiny import letters_tokenizer, make_runner

from pcbench import registry
from pcbench.types import Record, Sample

README = ROOT / "README.md"
MAX_WORDS = 900


def test_readme_is_short():
    assert len(README.read_text(encoding="utf-8").split()) <= MAX_WORDS


def test_readme_leads_to_every_page():
    assert [page.name for page in PAGES if page != README and f"](docs/{page.name})" not in TEXTS["README.md"]] == []


def test_every_code_block_says_how_it_is_tested():
    assert [block for block in BLOCKS if block[1] not in TAGGED[block[3]]] == []
    assert len(BLOCKS) == sum(text.count("```") for text in TEXTS.values()) // 2


def test_nothing_is_left_to_fill_in():
    assert [name for name, text in TEXTS.items() if re.search(r"@\w+@|TODO|FIXME", text)] == []


def test_generated_parts_are_up_to_date():
    stale = [page.name for page in PAGES if rendered(TEXTS[page.name]) != TEXTS[page.name]]
    assert stale == [], "run `python tools/documentation.py`"


@pytest.mark.parametrize("theme", FILES)
def test_the_chart_is_what_the_records_say(theme):
    assert FILES[theme].read_text(encoding="utf-8") == chart(theme), "run `python tools/documentation.py`"


@pytest.mark.parametrize(("page", "text"), [(block[0], block[4]) for block in BLOCKS if block[3] == "sh"])
def test_shells_leave_the_values_as_they_are(page, text):
    """zsh takes brackets and question marks outside quotes for patterns of file names, and braces for lists."""
    for line in lines(text):
        bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", line.partition(" #")[0])
        assert re.findall(r"[\[\]{}*?]", bare) == [], f"{page}: {line}"


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the blocks of Python use: a stored tiny model, a text, a question."""
    monkeypatch.chdir(tmp_path)
    runner = make_runner(bos_token_id=256)
    runner.model.save_pretrained(tmp_path)
    letters_tokenizer().save_pretrained(tmp_path)
    import pcbench

    given = {"model": runner.model, "tokenizer": letters_tokenizer(), "pcbench": pcbench}
    return given | {"folder": tmp_path, "text": "a b c " * 60, "question": "what?"}


def test_the_lines_of_the_readme_answer_a_question(names, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (text,) = blocks("README.md", "python")
    assert len(lines(text)) == 6
    exec(text, names)
    assert "torchrun" in names["found"].text
    assert len(names["found"].kept_chunks) == 1


def test_python_of_the_pages_runs(names, tmp_path, capsys):
    measured, asked, ops = blocks("python.md", "python")
    exec(measured, names)
    assert set(names["run"].records().status) == {"ok"}
    assert capsys.readouterr().out.endswith(f"{tmp_path}/first_run/report.html\n")
    exec(asked, names)
    assert len(names["found"].ids) == 64
    assert capsys.readouterr().out.endswith(f"{[names['text']]}\n")
    exec(ops, names)
    (attached,) = blocks("attach.md", "python")
    exec(attached, names)
    assert capsys.readouterr().out.startswith("['")


SECTION = re.compile(r"^#{2,3} (\w+)\n(.*?)(?=^#{2,3} |\Z)", re.M | re.S)
ROW = re.compile(r"^\| (`\w+`(?:, `\w+`)*)\*?.*? \| (.*?) \| ", re.M)


def options(text):
    """Option → default of the tables in a text."""
    return {name: default for names, default in ROW.findall(text) for name in re.findall(r"`(\w+)`", names)}


def test_every_option_of_every_method_is_in_a_table_with_its_default():
    page = TEXTS["methods.md"]
    sections = dict(SECTION.findall(page))
    own = {name: options(sections[name]) for name in registry.OWN_METHODS}
    own["parallel_comp"] = options(TEXTS["parallel_comp.md"].partition("\n## ")[0])
    shared, votes, keys = (
        options(found) for found in re.findall(r"^## (?:Options|Methods) .*?\n(.*?)(?=^#)", page, re.M | re.S)
    )
    for name in ("snapkv", "pyramidkv", "adakv"):
        own[name] = votes | own[name]
    own["pyramidkv"] = own["snapkv"] | own["pyramidkv"]
    own["uncomp_stage"] = own["uncomp"] | own["uncomp_stage"]
    for name in ("knorm", "keydiff", "expected_attention", "random_tokens"):
        own[name] = keys | own[name]
    for name, said in own.items():
        config = registry.load(registry.METHODS, "method", name, "test").Config
        wanted = dict(config.model_fields)
        said = (shared if "tokens" in wanted else {}) | said
        lacking, unknown = sorted({*wanted} - {*said}), sorted({*said} - {*wanted})
        if name == "uncomp_stage":
            unknown = []
        assert (name, lacking, unknown) == (name, [], [])
        for key, default in said.items():
            if key in wanted and re.fullmatch(r"`\w+`|[\d.]+|true|false|none", default):
                assert (name, key, default.strip("`")) == (name, key, shown(key, wanted[key]))


def shown(key, field):
    """A default as the tables have it; 512 tokens stand where neither tokens nor share is given."""
    value = field.get_default(call_default_factory=True)
    if key == "tokens":
        return "512"
    return "none" if value is None or value == [] else str(value).lower()


@pytest.mark.parametrize(("title", "kind"), [("records", Record), ("samples", Sample)])
def test_every_field_of_a_file_is_explained(title, kind):
    found = re.search(rf"^## {title}\.jsonl\n(.*?)(?=^## |\Z)", TEXTS["files.md"], re.M | re.S)
    first = re.findall(r"^\| (`.*?) \| ", found[1], re.M)
    said = [name for cell in first for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(said) == sorted(field.name for field in dataclasses.fields(kind))


def constants():
    """The texts of the package's sources, the parts of f-strings each by itself."""
    for path in (ROOT / "pcbench").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_the_errors_of_the_questions_are_those_of_the_code():
    known = list(constants())
    for title in re.findall(r"^### `(.*?)`$", TEXTS["faq.md"], re.M):
        for part in title.split("…"):
            assert any(part.strip() in text for text in known), f"{title}: {part}"


RESULTS = TEXTS["results.md"]
EXAMPLES = sorted((ROOT / "reports/examples").glob("*/manifest.json"))
CITED = [(name, line) for name, text in TEXTS.items() for line in text.splitlines() if "reports/examples/" in line]


@pytest.mark.parametrize("manifest", EXAMPLES, ids=lambda path: path.parent.name)
def test_figures_of_a_cpu_say_how_many_threads_ran(manifest):
    environment = json.loads(manifest.read_text(encoding="utf-8"))["environment"]
    if environment["device"] == "cpu":
        own = manifest.with_name("README.md").read_text(encoding="utf-8")
        cited = [line for _, line in CITED if f"{manifest.parent.relative_to(ROOT)})" in line]
        said = re.compile(r"\b1 thread\b" if environment["threads"] == 1 else rf"\b{environment['threads']} threads\b")
        assert [text for text in (own, *cited) if not said.search(text)] == []


@pytest.mark.parametrize(("page", "line"), [found for found in CITED if re.search(r"\d\.\d", found[1])])
def test_figures_beside_a_run_are_those_of_its_own_page(page, line):
    """Every number with a decimal point in a line that links to an example."""
    cited = re.findall(r"reports/examples/(\w+)\)", line)
    said = [(ROOT / "reports/examples" / name / "README.md").read_text(encoding="utf-8") for name in cited]
    said += [
        table for name in cited for table in re.findall(rf"<!-- results: {name} -->(.*?)<!-- end -->", RESULTS, re.S)
    ]
    for number in re.findall(r"(?<![\w.])\d+\.\d+(?![.\d])", line):
        assert any(number in text for text in said), f"{page}: {number}"


@pytest.mark.parametrize(
    "page", [*PAGES, *(ROOT / name for name in ("CONTRIBUTING.md", "DESIGN.md"))], ids=lambda p: p.name
)
def test_links_lead_somewhere(page):
    found = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", page.read_text(encoding="utf-8"))
    for target in map("".join, found):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_the_site_builds_strictly(tmp_path, caplog):
    """A link or an anchor that leads nowhere is an error; every page is in the contents."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    with caplog.at_level(logging.WARNING, "mkdocs"):
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path)))
    assert [record.getMessage() for record in caplog.records if record.name.startswith("mkdocs")] == []
    home = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'srcset="images/prefill_dark.svg"' in home
    assert 'href="getting_started.html"' in home
    assert "<code>reports/examples/prefill_epyc2c_202611</code>" in html.unescape(home)
