"""`pcbench calibrate`: the table of a tiny model, against entropies of the queries that its own code makes."""

import inspect
import json

import pytest
import torch

from pcbench import attach, load_model
from pcbench.cli import main
from pcbench.cli.calibrate import calibrate as command
from pcbench.errors import ConfigError, DataMissing
from pcbench.harness.calibrate import Asked, measured
from pcbench.methods.uncomp import Config
from pcbench.methods.uncomp.entropy import effective_rank, spectrum, truncated_entropy
from pcbench.methods.uncomp.table import read_table
from pcbench.models.interface import witnessed
from tests.tiny import FAMILIES, make_runner

TEXT = "".join(chr(32 + (i * i * 7 + i // 13) % 90) for i in range(2000))


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", *arguments])
    return ended.value.code or 0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("matrix", ["queries", "keys", "hidden"])
def test_the_table_is_the_mean_over_samples(family, matrix):
    runner = make_runner(family)
    seen, read = [], []
    asked = Asked("tiny", samples=3, tokens=300, matrix=matrix)
    watched = [
        layer.register_forward_pre_hook(
            lambda _, args, named: read.append(args[0] if args else named["hidden_states"]), with_kwargs=True
        )
        for layer in runner.model.base_model.layers
    ]
    with witnessed(lambda call: seen.append(call.q if matrix == "queries" else call.k)):
        table = measured(runner, TEXT, asked, lambda line: None)
    for hook in watched:
        hook.remove()
    rows = read if matrix == "hidden" else [x[0] for x in seen]
    assert len(rows) == 3 * 2
    values = [spectrum(x) for x in rows]
    for i, k in enumerate(table.about.k):
        for layer in range(2):
            of_samples = torch.stack([truncated_entropy(x, k) for x in values[layer::2]])
            torch.testing.assert_close(table.entropy[i, layer], of_samples.mean(0))
    ranks = torch.stack([torch.stack([effective_rank(x).mean() for x in values[layer::2]]).mean() for layer in (0, 1)])
    torch.testing.assert_close(table.curve, ranks)
    assert table.about.tokens == 300
    assert table.about.samples == 3


def test_a_text_that_is_too_short_is_one_line():
    with pytest.raises(ConfigError, match=r"^calibrate: samples of 256 tokens at least, got 100 of the documentation"):
        measured(make_runner(), "a" * 100, Asked("tiny"), print)


def test_the_command_writes_where_the_method_looks(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert run("--model", "random:tiny", "--samples", "2", "--tokens", "300") == 0
    path = tmp_path / "pcbench" / "calibration"
    shown = capsys.readouterr()
    assert "sample 2 of 2: 300 tokens" in shown.err
    (numbers,) = path.glob("*.safetensors")
    assert shown.out.strip() == str(numbers)
    about = json.loads(numbers.with_suffix(".json").read_text())
    assert about["model"] == "random:tiny"
    assert (about["tokens"], about["samples"], about["matrix"]) == (300, 2, "queries")
    assert read_table(numbers).entropy.shape == (5, 2, 4)
    from pcbench.models import model_spec

    resolved = Config().resolve(model_spec("random:tiny"), "cpu")
    assert resolved.table_sha256 == about["numbers_sha256"]
    assert all(sorted(text) == ["0", "1"] for text in resolved.head_groups)


def test_a_table_that_is_there_is_replaced_only_where_one_says_so(tmp_path, capsys):
    words = ["--model", "random:tiny", "--samples", "1", "--tokens", "300", "--out", str(tmp_path / "mine")]
    assert run(*words) == 0
    before = (tmp_path / "mine.json").read_text()
    capsys.readouterr()
    assert run(*words, "--matrix", "keys") == 2
    told = f"--out: a new file, got {tmp_path}/mine.safetensors, which is there; add --force or choose another\n"
    assert capsys.readouterr().err == told
    assert (tmp_path / "mine.json").read_text() == before
    assert run(*words, "--matrix", "keys", "--force") == 0
    assert json.loads((tmp_path / "mine.json").read_text())["matrix"] == "keys"


def test_the_command_that_is_missing_names_the_model_as_it_was_named(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = load_model("random:tiny", device="cpu").model
    with pytest.raises(DataMissing, match=r"; pcbench calibrate --model random:tiny$"):
        attach(model, "uncomp")
    assert run("--model", "random:tiny", "--samples", "1", "--tokens", "300") == 0
    attach(model, "uncomp").detach()


def test_the_command_takes_a_text_and_a_file(tmp_path, capsys):
    (tmp_path / "text.txt").write_text(TEXT)
    where = ["--model", "random:tiny", "--samples", "1", "--text", str(tmp_path / "text.txt")]
    assert run(*where, "--out", str(tmp_path / "mine"), "--matrix", "keys") == 0
    assert read_table(tmp_path / "mine.json").entropy.shape == (5, 2, 2)
    assert run(*where, "--matrix", "key") == 2
    assert '--matrix: unknown matrix "key"; did you mean "keys"?' in capsys.readouterr().err
    assert run("--model", "random:tiny", "--text", str(tmp_path / "none.txt")) == 2
    assert "none.txt" in capsys.readouterr().err


def test_a_place_where_nothing_can_be_written_is_refused_before_anything_is_read(tmp_path, capsys):
    (tmp_path / "table.json").mkdir()
    (tmp_path / "file").write_text("")
    for out, said in (
        (tmp_path / "table", "--out: a plain file or a new name, got"),
        (tmp_path / "file" / "table", "--out: a file in a folder, got"),
        ("/", "table: a file, got /; name one"),
        ("a\0b", "pcbench: Invalid value for '--out'"),
    ):
        assert run("--model", "random:tiny", "--out", str(out)) == 2
        shown = capsys.readouterr().err
        assert shown.startswith(said)
        assert "sample" not in shown
    with pytest.raises(ConfigError, match=r"^table: a file, got /; name one"):
        Config(table="/").resolve(make_runner().spec, "cpu")


def test_models_of_the_same_numbers_have_the_same_digest():
    first, again, other = make_runner().spec, make_runner().spec, make_runner(num_key_value_heads=4).spec
    assert first.config_sha256 == again.config_sha256 != other.config_sha256
    assert len(first.config_sha256) == 64


def test_the_command_has_the_defaults_of_the_function():
    defaults = {name: x.default for name, x in inspect.signature(command).parameters.items()}
    asked = Asked("tiny")
    assert (defaults["samples"], defaults["tokens"]) == (asked.samples, asked.tokens)
    assert (defaults["matrix"], defaults["device"], defaults["text"]) == (asked.matrix, asked.device, asked.text)
