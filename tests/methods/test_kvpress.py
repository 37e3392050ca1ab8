"""Presses of kvpress: what they leave, that nothing of theirs stays behind, and what is refused."""

import copy
import re
import tomllib
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tiny import continued, make_prompt, make_runner
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from pcbench.config import validate
from pcbench.errors import ConfigError, DataMissing
from pcbench.harness.runner import Options, plan, run
from pcbench.methods.full import Full
from pcbench.methods.kvpress import KVPress, method
from pcbench.methods.snapkv import SnapKV
from pcbench.models import kvpress
from pcbench.types import no_stages

installed = pytest.mark.skipif(find_spec("kvpress") is None, reason=f"kvpress is not installed: {method.INSTALL}")
# of the tiny model in float32: keys and values of two layers, two kv-heads and 64 numbers
TOKEN_BYTES = 2 * 2 * 2 * 64 * 4
PROMPT, TOKENS = make_prompt(context=90, new_tokens=8), 100
SNAPKV = "SnapKVPress(compression_ratio=0.5, window_size=16)"

SUITE = """
# Full attention, ParallelComp and three presses.
[suite]
kind = "prefill"
repeats = 1
peak_passes = 1
context_tokens = [400]
budget_bytes = 4000000
model = "random:tiny"
dtype = "float32"
[[workload]]
name = "passkey"
task = "passkey"
new_tokens = 4
[[cell]]
method = "full"
[[cell]]
method = "parallel_comp"
config = { chunk_tokens = 128, keep = 1 }
[[cell]]
method = "kvpress"
config = { press = "SnapKVPress(compression_ratio=0.5)" }
[[cell]]
method = "kvpress"
config = { press = "StreamingLLMPress( compression_ratio = .5 )" }
[[cell]]
method = "kvpress"
config = { press = "KnormPress(0.5)", sees = "context" }
"""


def made(press, runner=None, **config):
    return KVPress(KVPress.Config(press=press, **config), runner or make_runner())


def functions():
    return {name: id(function) for name, function in ALL_ATTENTION_FUNCTIONS.items()}


@installed
def test_attention_is_the_same_before_and_after_and_so_is_the_model(monkeypatch):
    runner, before = make_runner(), functions()
    _, full, _ = continued(Full(Full.Config(), runner), PROMPT)
    parts = [name for name, _ in runner.model.named_modules()]
    during, forward = [], runner.model.base_model.forward

    def seen(*args, **kwargs):
        during.append(ALL_ATTENTION_FUNCTIONS["sdpa"].__module__)
        return forward(*args, **kwargs)

    monkeypatch.setattr(runner.model.base_model, "forward", seen)
    # hides keys, which only kvpress's functions know
    continued(made("AdaKVPress(SnapKVPress(0.5, window_size=16))", runner), PROMPT)
    assert set(during) == {"kvpress.attention_patch"}
    monkeypatch.undo()
    assert functions() == before
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is sdpa_attention_forward
    assert {f.__module__ for f in ALL_ATTENTION_FUNCTIONS.values()}.isdisjoint({"kvpress.attention_patch"})
    assert [name for name, _ in runner.model.named_modules()] == parts
    assert all(not hasattr(layer.self_attn, kvpress.MASK) for layer in runner.model.model.layers)
    assert all(not layer.self_attn._forward_hooks for layer in runner.model.model.layers)
    assert torch.equal(continued(Full(Full.Config(), runner), PROMPT)[1], full)


@installed
def test_attention_is_the_same_after_a_press_that_fails():
    runner, before = make_runner(), functions()
    with pytest.raises(ConfigError, match=r"^kvpress: a press that takes .*window.*; choose another press") as error:
        made("SnapKVPress(0.5, window_size=500)", runner).prefill(PROMPT, no_stages)
    assert "\n" not in str(error.value)
    assert functions() == before
    assert runner.model.config._attn_implementation == "sdpa"


@installed
def test_a_process_that_has_imported_it_by_itself_is_refused():
    kvpress.kvpress()
    with pytest.raises(ConfigError, match="a process in which only pcbench imports it"):
        kvpress.kvpress.__wrapped__()


@installed
@pytest.mark.parametrize(
    "press", [SNAPKV, "StreamingLLMPress(0.5)", "KnormPress(0.5)", "PyramidKVPress(0.5, window_size=16)"]
)
@torch.inference_mode()
def test_what_stays_is_what_is_stored(press):
    runner = make_runner()
    _, full, _ = continued(Full(Full.Config(), runner), PROMPT)
    prefilled, logits, _ = continued(made(press, runner), PROMPT)
    assert prefilled.kept_tokens() == TOKENS / 2
    assert prefilled.kv_bytes == prefilled.kv_bytes_predicted == TOKENS // 2 * TOKEN_BYTES
    assert torch.equal(logits[0], full[0])
    assert not torch.allclose(logits[1], full[1], atol=1e-3)


@installed
@torch.inference_mode()
def test_memory_that_layers_share_counts_once_and_all_of_it():
    held = made(SNAPKV).prefill(PROMPT, no_stages).state
    base = torch.zeros(1, 2, 1000, 64)
    for layer in held.cache.layers:
        layer.keys = layer.values = base[:, :, :10]
    assert held.stored_bytes() == base.numel() * 4
    assert held.shaped_bytes() == 10 * TOKEN_BYTES


@installed
@torch.inference_mode()
def test_a_press_that_only_hides_frees_nothing_and_says_so():
    prefilled, *_ = continued(made("AdaKVPress(SnapKVPress(0.5, window_size=16))"), PROMPT)
    assert prefilled.kept_tokens() == TOKENS / 2
    assert prefilled.kv_bytes == TOKENS * TOKEN_BYTES
    assert prefilled.warnings == [method.MASKED]


@installed
@torch.inference_mode()
def test_what_kvpress_says_is_a_warning_and_is_not_printed(capfd):
    (said,) = made("SimLayerKVPress()").prefill(PROMPT, no_stages).warnings
    assert said == "Sequence length is shorter than 1029: no compression applied"
    assert "".join(capfd.readouterr()) == ""


@installed
@torch.inference_mode()
def test_our_snapkv_at_its_settings_keeps_the_same_tokens():
    runner = make_runner()
    cache = runner.stock_forward(torch.cat([PROMPT.prefix, PROMPT.context, PROMPT.query])[None], None)[1]
    held = made(SNAPKV, runner).prefill(PROMPT, no_stages).state
    config = SnapKV.Config(window=16, pool=5, pooling="avg", sink=0, share=0.5).resolve(runner.spec, "cpu")
    store = SnapKV(config, runner).prefill(PROMPT, no_stages).state.store
    for layer in range(runner.spec.layers):
        for head in range(runner.spec.kv_heads):
            start, count = int(store.starts[layer][0, head]), int(store.lengths[layer][0, head])
            ours = store.positions[layer][start : start + count].tolist()
            kept, every = held.cache.layers[layer].keys[0, head], cache.layers[layer].keys[0, head]
            theirs = (kept[:, None] == every).all(-1).nonzero()[:, 1].tolist()
            assert len(theirs) == TOKENS // 2
            assert sorted(ours) == sorted(theirs), (layer, head)


@installed
@torch.inference_mode()
def test_a_question_over_what_stayed_is_full_attention_without_what_went():
    runner, tokens, context = make_runner(), TOKENS, TOKENS - 7
    found = made("StreamingLLMPress(0.5)", runner, sees="context").prefill(PROMPT, no_stages)
    assert found.kept_tokens() == context // 2
    # four sinks and the last ones
    went = slice(4, 4 + context - context // 2)
    mask = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    mask[context:, went] = False
    ids = torch.cat([PROMPT.prefix, PROMPT.context, PROMPT.query])[None]
    truth = runner.model(input_ids=ids, attention_mask=mask[None, None]).logits[:, -1]
    torch.testing.assert_close(found.logits, truth, atol=2e-4, rtol=1e-4)


@installed
@pytest.mark.parametrize("press", [SNAPKV, "PyramidKVPress(0.5, window_size=16)"])
@torch.inference_mode()
def test_a_question_is_read_at_once_as_token_by_token_and_from_a_copy_as_anew(press):
    ours = made(press, sees="context")
    expected = continued(ours, PROMPT)[1]
    read = ours.read_context(PROMPT, no_stages)
    for _ in range(2):
        prefilled = ours.ask(read, PROMPT, no_stages)
        assert torch.equal(prefilled.logits, expected[:1])
        assert torch.equal(ours.step(prefilled, expected[0].argmax()[None]), expected[1:2])
    _, held = copy.deepcopy(read)
    rows = [ours.pressed.go_on(token[None, None], held) for token in PROMPT.query]
    torch.testing.assert_close(ours.runner.logits(rows[-1][:, -1]), expected[:1], atol=2e-4, rtol=1e-4)
    assert made(press).read_context(PROMPT, no_stages) is None


@installed
@torch.inference_mode()
def test_a_press_of_answers_goes_on_in_each_of_them_by_itself():
    ours = made("PrefillDecodingPress(KnormPress(0.5), DecodingPress(KnormPress(), 3, 40))")
    alone = continued(ours, PROMPT, steps=7)[1]
    one, other = ours.prefill(PROMPT, no_stages), ours.prefill(PROMPT, no_stages)
    found = [alone[:1]]
    for i in range(7):
        token = alone[i].argmax()[None]
        found.append(ours.step(one, token))
        ours.step(other, torch.tensor([5]))
    assert torch.equal(torch.cat(found), alone)
    assert one.kept_tokens() == TOKENS / 2
    assert one.state.lengths() == [41, 41]


@installed
def test_what_a_press_reads_from_elsewhere_and_does_not_find_is_missing():
    with pytest.raises(
        DataMissing, match=r"^kvpress: files that KVzapPress reads from .*, got .*; run it once"
    ) as error:
        made("KVzapPress()")
    assert "\n" not in str(error.value)


@installed
def test_a_press_that_reads_from_elsewhere_and_does_not_take_a_model_or_prompt_is_wrong(monkeypatch):
    said = "got {}: {}.*; choose another press or other arguments"
    for press, line in {
        "DuoAttentionPress(0.5)": "AssertionError: Checkpoint",
        "FastKVzipPress(0.5)": "RuntimeError: The gates for the given model are not released",
        "LUKVPress(SnapKVPress(0.5))": "KeyError: .No LU-KV budget curve",
    }.items():
        with pytest.raises(ConfigError, match=said.format(re.escape(press), line)):
            made(press)

    def refused(*_):
        raise ValueError("not of\nthis size")

    ours = made("KVzipPress(0.5)")
    monkeypatch.setattr(type(ours.pressed.press), "__call__", refused)
    with pytest.raises(ConfigError, match=said.format(r"KVzipPress\(0.5\)", "ValueError: not of")):
        ours.prefill(PROMPT, no_stages)


@installed
def test_arguments_that_a_press_does_not_take_are_refused():
    for press, said in {
        "SnapKVPress(compression_ratio=1.5)": "Compression ratio must be between 0 and 1",
        "SnapKVPress(ratio=0.5)": "unexpected keyword argument 'ratio'",
        "AdaKVPress(0.5)": "AdaKVPress requires a ScorerPress as input",
    }.items():
        with pytest.raises(ConfigError, match=f"with arguments that it takes, got .*{said}; change them") as error:
            made(press)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "SnapKVPress", "SnapKVPress(", "[" * 600, "x" * 3000, "lambda: 1", "SnapKVPress(0.5); 1", "\0"),
        *("kvpress.SnapKVPress(0.5)", "SnapKVPress(0.5)()", "SnapKVPress(0.5).score()", "SnapKVPress(**{'a': 1})"),
        *("SnapKVPress(*[0.5])", "SnapKVPress(1 + 1)", "SnapKVPress(0.5 if True else 1)", "SnapKVPress(x)"),
        *(
            "SnapKVPress(f'{1}')",
            "SnapKVPress(b'1')",
            "SnapKVPress(...)",
            "SnapKVPress((y := 0.5))",
            "SnapKVPress(-'a')",
        ),
        *("ObservedAttentionPress(0.5)", "AdaKVPress(FinchPress(0.5))", "KVComposePress(compression_ratio=0.5)"),
        "RestoreKVPress(0.5)",
    ],
)
def test_anything_but_a_press_is_refused_in_one_line(text):
    with pytest.raises(ConfigError, match=r"^cell\.kvpress: press: value error, input should .*, got ") as error:
        validate(KVPress.Config, {"press": text}, "cell.kvpress")
    assert "\n" not in str(error.value)


def test_text_is_read_and_never_run(tmp_path, monkeypatch):
    path = tmp_path / "made"
    for text in (f"open({str(path)!r}, 'w')", f"SnapKVPress(open({str(path)!r}, 'w'))", "__import__('antigravity')"):
        for names in (None, ["SnapKVPress", "KVPressTextGenerationPipeline"]):
            monkeypatch.setattr("pcbench.methods.kvpress.expression.exported", lambda _, names=names: names)
            # without kvpress nobody knows its names, and nothing is called before it is there
            with suppress(ValueError):
                KVPress.Config(press=text)
                assert names is None
    assert not path.exists()


@installed
def test_a_name_that_kvpress_does_not_have_is_refused_with_the_nearest():
    for name in ("SnapKVPres", "ScorerPress", "KVPressTextGenerationPipeline", "open"):
        with pytest.raises(ConfigError, match=f'a press of the installed kvpress; unknown press "{name}"; '):
            validate(KVPress.Config, {"press": f"{name}()"}, "cell.kvpress")
    with pytest.raises(ConfigError, match='did you mean "SnapKVPress"'):
        validate(KVPress.Config, {"press": "SnapKVPres()"}, "cell.kvpress")


def test_spelling_makes_no_other_cell():
    assert KVPress.Config(press=" AdaKVPress( SnapKVPress(.50,) ,alpha_safeguard = 2e-1)").press == (
        "AdaKVPress(SnapKVPress(0.5), alpha_safeguard=0.2)"
    )


def test_without_kvpress_the_cell_says_how_to_get_it_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr("pcbench.methods.kvpress.method.exported", lambda _: None)
    path = tmp_path / "presses.toml"
    path.write_text(SUITE)
    cells = plan(Options(suite=str(path), device="cpu")).cells
    assert [bool(prepared.missing) for prepared in cells] == [False, False, True, True, True]
    command = "pip install --no-deps kvpress && pip install cachetools datasets fire requests tqdm"
    assert cells[2].missing == f"kvpress: an installed package, got none; install it: {command}"
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert command.endswith(" ".join(["pip install", *project["optional-dependencies"]["kvpress"]]))


@installed
def test_presses_stand_beside_other_methods_in_one_run(tmp_path, console, monkeypatch):
    # each takes a process
    knorm = lambda prepared: "Knorm" in prepared.cell.method_config.get("press", "")  # noqa: E731
    monkeypatch.setattr("pcbench.harness.kinds.methods.session.wants_peak", knorm)
    path = tmp_path / "presses.toml"
    path.write_text(SUITE)
    records = run(Options(suite=str(path), device="cpu", out=tmp_path / "run"), console)[1]
    assert [(r.method, r.status, r.reason) for r in records if r.status != "ok"] == []
    assert [r.method for r in records] == ["full", "parallel_comp", "kvpress", "kvpress", "kvpress"]
    assert len({r.cell for r in records}) == 5
    full, _, *pressed = records
    assert [r.method_config["press"] for r in pressed] == [
        "SnapKVPress(compression_ratio=0.5)", "StreamingLLMPress(compression_ratio=0.5)", "KnormPress(0.5)"
    ]  # fmt: skip
    # the answer's four tokens are not read yet
    assert [r.kept_tokens for r in pressed[:2]] == [198, 198]
    assert [r.kv_bytes * 2 for r in pressed[:2]] == [full.kv_bytes] * 2
    for record in pressed:
        assert record.ms_p50 > 0
        assert record.decode_ms_per_token > 0
        # what fits is not known of a press; its times and bytes are
        assert record.longest_context_tokens is None
        assert any(warning.startswith("budget_bytes: a method that knows what it keeps") for warning in record.warnings)
        assert (record.backend, record.speedup_vs_reference) == ("torch", None)
        assert (record.speedup_vs_full, record.decode_speedup_vs_full) == (None, None)
    assert pressed[2].peak_bytes > 0
