"""Every command of the README parses, every `run` block runs, generated tables are what the program prints."""

import json
import re
import shlex
from pathlib import Path

import pytest
from tiny import letters_tokenizer, make_runner

from pcbench import registry
from pcbench.cli import main
from pcbench.methods.parallel_comp.switches import switch_rows
from pcbench.records import read_records
from pcbench.suites import suite_summaries

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- (run|dry-run|shown|python) -->\n```\w*\n(.*?)```", re.S)
TABLE = re.compile(r"<!-- table: (\w+) -->\n(.*?)<!-- end -->", re.S)


def commands(kind):
    found = []
    for tag, text in BLOCK.findall(README):
        if tag == kind:
            found += [line for line in text.splitlines() if line and not line.startswith("#")]
    return found


def test_every_code_block_is_tagged():
    assert len(BLOCK.findall(README)) == README.count("```") // 2


def test_nothing_is_left_to_fill_in():
    assert re.findall(r"@\w+@", README) == []


def targets():
    return re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize("command", [*commands("run"), *commands("dry-run")])
def test_make_targets_exist_and_other_commands_run(command, monkeypatch, capsys):
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        assert [w for w in words[1:] if "=" not in w and w not in targets()] == []
        return
    assert words[0] == "pcbench"
    extra = ["--dry-run"] if command in commands("dry-run") else []
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as ended:
        main([*words[1:], *extra])
    assert not ended.value.code, capsys.readouterr().err


def test_the_lines_of_python_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_runner(bos_token_id=256).model.save_pretrained(tmp_path)
    letters_tokenizer().save_pretrained(tmp_path)
    lines, attached, measured = (text for tag, text in BLOCK.findall(README) if tag == "python")
    names = {"folder": tmp_path, "text": "a b c " * 60, "question": "what?"}
    exec(lines, names)
    assert len(names["found"].ids) == 64
    assert capsys.readouterr().out.endswith(f"{[names['text']]}\n")
    exec(attached, names)
    assert capsys.readouterr().out.startswith("['")
    exec(measured, names)
    assert set(names["run"].records().status) == {"ok"}
    assert capsys.readouterr().out.endswith(f"{tmp_path}/first_run/report.html\n")


def rows(entries):
    return "".join(f"| `{name}` | {summary} |\n" for name, summary in entries.items())


def result_rows(folder):
    """The timed cells of an example run, as the README shows them."""
    for r in read_records(ROOT / "reports/examples" / folder):
        if r.ms_p50 is None:
            continue
        speedup = "–"
        if r.speedup_vs_full is not None:
            low, high = r.speedup_vs_full_ci_low, r.speedup_vs_full_ci_high
            speedup = f"{r.speedup_vs_full:.2f} [{low:.2f}, {high:.2f}]"
        cells = (
            f"{r.context_tokens}",
            f"`{r.method}/{r.backend}`",
            f"{r.ms_p50 / 1000:.2f}",
            speedup,
            f"{r.peak_bytes / 2**20:.0f}",
            f"{r.kv_bytes / 2**20:.0f}",
            f"{round(r.score * r.n_samples)}/{r.n_samples}",
        )
        yield f"| {' | '.join(cells)} |\n"


RESULTS = re.compile(r"<!-- results: (\w+) -->\n(.*?)<!-- end -->", re.S)
HEAD = (
    "| tokens | cell | prefill s | times faster than `full` | peak MiB | KV MiB | answered |\n"
    "|---|---|---|---|---|---|---|\n"
)


@pytest.mark.parametrize(("folder", "text"), RESULTS.findall(README))
def test_results_are_those_of_the_example_run(folder, text):
    assert text == f"\n{HEAD}{''.join(result_rows(folder))}\n"


EXAMPLES = sorted((ROOT / "reports/examples").glob("*/manifest.json"))


@pytest.mark.parametrize("manifest", EXAMPLES, ids=lambda path: path.parent.name)
def test_figures_of_a_cpu_say_how_many_threads_ran(manifest):
    environment = json.loads(manifest.read_text(encoding="utf-8"))["environment"]
    if environment["device"] == "cpu":
        own = manifest.with_name("README.md").read_text(encoding="utf-8")
        cited = [line for line in README.splitlines() if f"({manifest.parent.relative_to(ROOT)})" in line]
        said = re.compile(r"\b1 thread\b" if environment["threads"] == 1 else rf"\b{environment['threads']} threads\b")
        assert [text for text in (own, *cited) if not said.search(text)] == []


def own(entries, names):
    """Those of pcbench, whatever packages are installed beside it."""
    return {name: line for name, line in entries.items() if name in names}


@pytest.mark.parametrize("name", [name for name, _ in TABLE.findall(README)])
def test_generated_tables_are_what_pcbench_list_prints(name):
    tables = {
        "suites": own(suite_summaries(), [path.stem for path in (ROOT / "suites").glob("*.toml")]),
        "methods": own(registry.summaries(registry.METHODS), registry.OWN_METHODS),
        "models": {name: table["summary"] for name, table in registry.model_tables().own.items()},
        "ops": registry.op_summaries(),
        "scorers": own(registry.scorer_summaries(), registry.OWN_SCORERS),
        "switches": switch_rows(),
    }
    text = dict(TABLE.findall(README))[name]
    head = "option of the released runner" if name == "switches" else name[:-1]
    assert text == f"\n| {head} | |\n|---|---|\n{rows(tables[name])}\n"


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
