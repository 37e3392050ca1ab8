"""The notebook of the examples runs as it is, and what it shows can be read."""

import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parent.parent / "examples" / "first_run.ipynb"


def test_the_notebook_runs_and_its_progress_is_one_line_a_cell(tmp_path, monkeypatch):
    for name in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    notebook = nbformat.read(NOTEBOOK, 4)
    assert all(cell.get("outputs", []) == [] for cell in notebook.cells)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    _, run, records, samples, page, answered = shown
    assert {output.output_type for outputs in shown for output in outputs} == {"execute_result", "stream"}
    *progress, path = run
    # what a notebook shows of stderr looks like a fault
    assert {output.name for output in progress} == {"stdout"}
    announced, *lines = "".join(output.text for output in progress).splitlines()
    assert announced.startswith("2 cells, about ")
    lines = [line for line in lines if not line.startswith("this machine is busy")]
    assert [re.match(r"\[\d/2[^]]*\] (.+) on passkey, 1,024 tokens: [\d.]+ s", line)[1] for line in lines] == [
        "Full attention",
        "ParallelComp",
    ]
    assert not any("\x1b" in line for line in lines)
    assert [output.data["text/plain"] for output in (path, *page)] == ["'first_run'", "'report.html'"]
    assert records[0].data["text/plain"].count(" ok") == 2
    assert "<table" in samples[0].data["text/html"]
    assert answered[0].data["text/plain"].endswith(" ms')")
    assert (tmp_path / "first_run" / "report.html").is_file()
