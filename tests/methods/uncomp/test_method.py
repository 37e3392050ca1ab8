"""UNComp on tiny models: what it stores, its ablations, removed heads, and the tables it takes."""

import json
from dataclasses import replace

import pytest
import torch

from pcbench.config import validate
from pcbench.errors import ConfigError, DataMissing
from pcbench.methods.eviction import Prompted
from pcbench.methods.full import Full
from pcbench.methods.uncomp import Config, UNComp
from pcbench.methods.uncomp.removal import MostAlike
from pcbench.methods.uncomp.table import About, EntropyTable, default_path, find_table, read_table
from pcbench.types import no_stages
from tests.methods.eviction.test_methods import answered
from tests.tiny import make_prompt, make_runner

KS = [16, 32, 64, 128, 129]


def make_table(spec, seed=0, matrix="queries", **changes):
    heads = {"queries": spec.heads, "keys": spec.kv_heads, "hidden": 1}[matrix]
    entropy = torch.rand(len(KS), spec.layers, heads, generator=torch.Generator().manual_seed(seed)).double()
    about = {
        "model": spec.name, "names": [spec.name], "config_sha256": spec.config_sha256, "matrix": matrix, "k": KS,
        "texts_sha256": "0" * 64, "tokens": 100, "samples": 1, "pcbench": "0",
    }  # fmt: skip
    return EntropyTable(About(**about | changes), entropy, entropy.flip(1), torch.arange(spec.layers).double())


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def make(runner, **values):
    return UNComp(validate(Config, values, "test").resolve(runner.spec, "cpu"), runner)


@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (3, 1), (8, 1), (6, 3)])
@pytest.mark.parametrize("compress", ["prompt", "context"])
@pytest.mark.parametrize("values", [{"tokens": 70}, {"tokens": 200, "preset": "paper", "groups": 8}])
def test_a_budget_that_holds_the_prompt_is_full_attention(heads, kv_heads, compress, values):
    runner = make_runner(num_attention_heads=heads, num_key_value_heads=kv_heads)
    prompt = make_prompt(context=50, new_tokens=8)
    ours, prefilled = answered(make(runner, order="random", compress=compress, **values), prompt)
    truth, _ = answered(Full(Full.Config(), runner), prompt)
    torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-4)
    assert ours.argmax(-1).tolist() == truth.argmax(-1).tolist()
    assert prefilled.kv_bytes == prefilled.kv_bytes_predicted


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        ({"tokens": 48}, [32, 64]),
        ({"tokens": 48, "preset": "paper"}, [32, 64]),
        ({"tokens": 48, "preset": "released"}, [36, 72]),
        ({"group_tokens": [20, 90]}, [20, 90]),
        ({"tokens": 60, "extreme": 12}, [8, 60]),
        ({"share": 0.3}, [32, 64]),
        ({"tokens": 48, "order": "uniform"}, [48, 48]),
        ({"tokens": 48, "preset": "released", "order": "uniform"}, [54, 54]),
        ({"group_tokens": [20, 90], "order": "uniform"}, [55, 55]),
        ({"tokens": 60, "extreme": 12, "order": "uniform"}, [34, 34]),
    ],
)
@pytest.mark.parametrize("decode", ["evict", "grow"])
def test_stored_lengths_are_the_budgets(values, stored, decode):
    runner = make_runner(backend="cpu")
    method = make(runner, head_groups=["01", "10"] if "order" not in values else None, decode=decode, **values)
    prefilled = method.prefill(make_prompt(context=150, new_tokens=8), no_stages)
    store = prefilled.state.store
    assert [x.tolist() for x in store.lengths] == [[stored], [stored[::-1]]]
    assert prefilled.kv_bytes == prefilled.kv_bytes_predicted == store.nbytes()
    for token in range(12):
        method.step(prefilled, torch.tensor([token]))
    more = 1 if decode == "evict" else 12
    assert [x.tolist() for x in store.lengths] == [[[n + more for n in stored]], [[n + more for n in stored[::-1]]]]


def test_bytes_stay_while_tokens_displace_each_other():
    runner = make_runner(backend="cpu")
    method = make(runner, head_groups=["01", "10"], tokens=48)
    prefilled = method.prefill(make_prompt(context=150, new_tokens=200), no_stages)
    store = prefilled.state.store
    arenas, size = [x.data_ptr() for x in (*store.k, *store.v)], store.nbytes()
    for token in range(200):
        method.step(prefilled, torch.tensor([token]))
    assert [x.data_ptr() for x in (*store.k, *store.v)] == arenas
    assert store.nbytes() == size == prefilled.kv_bytes
    # the newest 8 and the first 4 are there
    for layer, row in ((0, 0), (1, 1)):
        start, length = int(store.starts[layer][0, row]), int(store.lengths[layer][0, row])
        held = set(store.positions[layer][start : start + length].tolist())
        seen = int(store.seen)
        assert {0, 1, 2, 3, *range(seen - 8, seen)} <= held


def test_orders_differ_and_layers_can_be_swapped(cache):
    runner = make_runner(num_attention_heads=8, num_key_value_heads=4)
    make_table(runner.spec).write(default_path(runner.spec, "queries"))
    spec, found = runner.spec, {}
    for order in ("entropy", "reverse", "random", "uniform"):
        found[order] = Config(order=order, seed=3).resolve(spec, "cpu")
    assert found["uniform"].head_groups == ["0000", "0000"]
    flipped = [text.translate(str.maketrans("01", "10")) for text in found["entropy"].head_groups]
    assert found["reverse"].head_groups == flipped
    assert found["random"].table_sha256 is None
    assert len(found["entropy"].table_sha256) == 64
    assert {sum(c.budgets(spec)(0, spec, 48, 500)) for c in found.values()} == {4 * 48}
    groups = {k: Config(k=k).resolve(spec, "cpu").head_groups for k in (16, 32, 64, 128)}
    assert len({tuple(x) for x in groups.values()}) > 1
    assert Config(renormalise=True).resolve(spec, "cpu").head_groups == found["entropy"].head_groups[::-1]
    early, late = (
        Config(order="random", tokens=48, layers=layers).resolve(spec, "cpu").budgets(spec)
        for layers in ("pyramid", "reverse")
    )
    first, last = ([sum(b(i, spec, 48, 500)) for i in range(2)] for b in (early, late))
    assert first[0] > first[1]
    assert first == last[::-1]


def test_sizes_of_groups_are_a_size():
    spec = make_runner().spec
    config = Config(group_tokens=[20, 90, 91], order="random")
    assert config.sized(64) == config
    assert Config(order="random").sized(64).tokens == 64
    resolved = config.resolve(spec, "cpu")
    assert (resolved.tokens, resolved.groups) == (None, 3)
    assert Config(**resolved.model_dump()).resolve(spec, "cpu") == resolved
    # the groups of two heads are 0 and 2
    assert resolved.cost(spec, 4000).kv_tokens == round((20 + 91) / 2)


def test_the_released_pyramid_has_its_own_budgets():
    spec = replace(make_runner().spec, layers=32)
    config = Config(tokens=512, preset="released", layers="pyramid", order="random").resolve(spec, "cpu")
    budgets = config.budgets(spec)
    assert sorted(budgets(0, spec, 512, 4000)) == [182, 911]
    assert sorted(budgets(31, spec, 512, 4000)) == [11, 59]


def test_half_of_a_small_released_budget_is_the_window_at_most():
    spec = make_runner().spec
    small, large, plain, extreme = (
        Config(tokens=tokens, order="random", **more).resolve(spec, "cpu").policy(spec, tokens)
        for tokens, more in (
            (10, {"preset": "released"}), (16, {"preset": "released"}), (10, {}),
            (10, {"preset": "released", "extreme": 12}),
        )
    )  # fmt: skip
    assert [p.recent for p in (small, large, plain, extreme)] == [5, 8, 8, 8]
    assert (small.scores.window, small.decoding.window, small.decoding.recent) == (5, 5, 5)
    assert plain.decoding.window == 8


def test_the_groups_are_those_of_the_mean_entropy_of_query_heads(cache):
    spec = make_runner(num_attention_heads=4, num_key_value_heads=2).spec
    table = make_table(spec)
    table.entropy[1] = torch.tensor([[0.1, 0.9, 0.6, 0.5], [0.9, 0.2, 0.5, 0.4]]).double()
    table.write(default_path(spec, "queries"))
    assert Config(k=32).resolve(spec, "cpu").head_groups == ["01", "10"]


def test_a_resolved_config_needs_no_table(cache):
    spec = make_runner().spec
    path = make_table(spec).write(default_path(spec, "queries"))
    resolved = Config().resolve(spec, "cpu")
    path.unlink()
    assert Config(**resolved.model_dump()).resolve(spec, "cpu") == resolved


def test_a_model_without_a_table_is_told_the_command(cache):
    spec = make_runner().spec
    with pytest.raises(DataMissing, match=r"^table: .* of llama, got none in .*; pcbench calibrate --model llama$"):
        Config().resolve(spec, "cpu")
    with pytest.raises(DataMissing, match=r"; pcbench calibrate --model llama --matrix keys$"):
        Config(matrix="keys").resolve(spec, "cpu")


@pytest.mark.parametrize(
    ("changes", "got"),
    [({"model": "gemma", "names": ["gemma"]}, "gemma"), ({"config_sha256": "1" * 64}, "llama of other numbers")],
)
def test_the_table_of_another_model_is_refused(tmp_path, changes, got):
    spec = make_runner().spec
    path = make_table(spec, **changes).write(tmp_path / "other")
    with pytest.raises(ConfigError, match=rf"^table: entropies of llama, got those of {got} in .*other"):
        Config(table=str(path)).resolve(spec, "cpu")


def test_a_named_table_is_taken_by_either_of_its_files(tmp_path):
    spec = make_runner().spec
    path = make_table(spec).write(tmp_path / "mine.v1")
    assert sorted(x.name for x in tmp_path.iterdir()) == ["mine.v1.json", "mine.v1.safetensors"]
    for named in (path, path.with_suffix(".json")):
        assert find_table(replace(spec, name="somewhere/llama"), "queries", str(named)).about.model == "llama"


def test_what_is_no_table_is_one_line(tmp_path, cache):
    spec = make_runner().spec
    path = make_table(spec).write(tmp_path / "mine.safetensors")
    about = json.loads(path.with_suffix(".json").read_text())
    data = path.read_bytes()
    path.write_bytes(data + b" ")
    with pytest.raises(ConfigError, match=r"mine.safetensors: the numbers that mine.json describes, got others"):
        read_table(path)
    path.write_bytes(data)
    path.with_suffix(".json").write_text(json.dumps(about | {"samples": "6"}))
    with pytest.raises(ConfigError, match=r"mine.json: samples: .*; calibrate again"):
        read_table(path)
    path.with_suffix(".json").write_text(json.dumps(about))
    with pytest.raises(ConfigError, match=r"^table: entropies of keys, got those of queries in .*mine"):
        Config(matrix="keys", table=str(path)).resolve(spec, "cpu")
    hidden = make_table(spec, matrix="hidden").write(tmp_path / "hidden")
    with pytest.raises(ConfigError, match=r"^table: entropies of heads, got those of hidden states"):
        Config(matrix="hidden", table=str(hidden)).resolve(spec, "cpu")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"groups": 3, "group_tokens": [1, 2]}, "group_tokens should have 3 numbers"),
        ({"extreme": 12, "groups": 3}, "extreme should stand with 2 groups"),
        ({"remove_heads": 1, "decode": "grow"}, "removed heads should stand without decode = grow"),
        ({"head_groups": ["0-", "01"], "decode": "grow"}, "removed heads should stand without decode = grow"),
        ({"head_groups": ["--", "01"]}, "head_groups: 2 texts of 2 letters of 01-, one of each no -, for llama, got"),
        ({"group_tokens": [1, 2], "tokens": 9}, "group_tokens should stand without tokens and share"),
        ({"group_tokens": [1, 2], "share": 0.5}, "group_tokens should stand without tokens and share"),
        ({"remove_heads": 2, "order": "random"}, "remove_heads: fewer than the 2 kv-heads of llama, got 2"),
        ({"head_groups": ["01"]}, "head_groups: 2 texts of 2 letters"),
        ({"preset": "released", "groups": 5, "tokens": 100, "order": "random"}, "got 5 groups of 100 tokens"),
    ],
)
def test_values_that_do_not_fit_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        make(make_runner(), **values)


def test_removed_heads_keep_nothing_and_copy_the_most_alike():
    runner = make_runner(backend="cpu", num_attention_heads=8, num_key_value_heads=4)
    method = make(runner, head_groups=["0-11", "-011"], tokens=40)
    prefilled = method.prefill(make_prompt(context=150, new_tokens=20), no_stages)
    store, state = prefilled.state.store, prefilled.state
    assert [x.tolist() for x in store.lengths] == [[[24, 0, 48, 48]], [[0, 24, 48, 48]]]
    assert prefilled.kv_bytes == prefilled.kv_bytes_predicted == store.nbytes()
    copies = state.plan.policy.copies
    outputs = {}
    ours = type(copies).__call__

    def seen(self, layer, out):
        outputs[layer] = ours(self, layer, out)
        return outputs[layer]

    type(copies).__call__ = seen
    try:
        for token in range(3):
            logits = method.step(prefilled, torch.tensor([token]))
    finally:
        type(copies).__call__ = ours
    assert logits.isfinite().all()
    for layer, removed in ((0, 1), (1, 0)):
        by_head = outputs[layer].unflatten(1, (4, 2))
        source = int(copies.sources[layer][0, removed])
        assert source != removed
        assert torch.equal(by_head[:, removed], by_head[:, source])
        assert int(store.lengths[layer][0, removed]) == 1


def test_the_most_alike_are_those_of_the_last_keys():
    generator = torch.Generator().manual_seed(0)
    k = torch.randn(2, 3, 20, 8, generator=generator)
    lengths = torch.tensor([20, 12], dtype=torch.int32)
    for row, length in enumerate(lengths.tolist()):
        k[row, 0, length - 8 : length] = 2 * k[row, 2, length - 8 : length] + 0.01
        # elsewhere head 0 is like head 1
        k[row, 0, : length - 8] = k[row, 1, : length - 8]
    spec = make_runner().spec
    unused = torch.zeros(1)
    for rows in (lengths, None):
        copies = MostAlike([[-1, 0, 0]])
        copies.begin(Prompted(0, spec, None, unused, k, unused, unused, unused, rows))
        expected = [[2, 1, 2]] * 2 if rows is not None else [[2, 1, 2]]
        assert copies.sources[0].tolist()[: len(expected)] == expected
    out = torch.arange(2 * 6 * 5, dtype=torch.float32).view(2, 6, 1, 5)
    copied = copies(0, out)
    assert torch.equal(copied[0, :2], out[0, 4:])
    assert torch.equal(copied[0, 2:], out[0, 2:])


@pytest.mark.parametrize("sizes", [(0, 0, 1), (0, 3, 2), (3, 20, 4)])
def test_prompts_shorter_than_window_and_budget(sizes):
    prefix, context, query = sizes
    runner = make_runner(backend="cpu")
    prompt = make_prompt(prefix=prefix, context=context, query=query, new_tokens=4)
    for values in ({"tokens": 4}, {"tokens": 1}, {"tokens": 64, "preset": "released"}):
        logits, prefilled = answered(make(runner, head_groups=["01", "10"], **values), prompt, steps=3)
        assert logits.isfinite().all()
        assert prefilled.kv_bytes == prefilled.kv_bytes_predicted
