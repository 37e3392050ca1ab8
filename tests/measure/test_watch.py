import pytest
import torch
from tiny import continued, make_prompt, make_runner

from pcbench import ops, reference
from pcbench.measure.kernels.chunk_cases import chunk_select
from pcbench.measure.kernels.draws import Draws
from pcbench.measure.sampling import AXES
from pcbench.measure.watch import Watch, WatchedRunner
from pcbench.methods.parallel_comp import ParallelComp

EVERYTHING = dict(
    chunk_tokens=20, keep=2, micro_batch=2, evict=dict(capacity=8), calibration=[dict(zone="all", layers=[0, 1])]
)
BF16 = torch.bfloat16


class Off:
    """The reference with one result of one op changed."""

    backend = "off"

    def __init__(self, op, change):
        self.op, self.change = op, change

    def __getattr__(self, name):
        real = getattr(reference, name)
        if name != self.op:
            return real

        def call(*args, **kwargs):
            results = real(*args, **kwargs)
            self.change(results, kwargs)
            return results

        return call


def watched(backend=reference, **config):
    runner = make_runner(num_hidden_layers=5)
    runner = type(runner)(runner.model, runner.spec, runner.tokenizer, backend)
    made = WatchedRunner.of(runner, 0)
    method = ParallelComp(ParallelComp.Config(**(EVERYTHING | config)).resolve(runner.spec, "cpu"), made)
    result = continued(method, make_prompt(context=70))
    return made.watch, result


def failed(watch):
    return {op for op, found in watch.worst().items() if not found["err"] <= found["bound"]}


def test_watching_changes_nothing():
    runner = make_runner(num_hidden_layers=5)
    plain = ParallelComp(ParallelComp.Config(**EVERYTHING).resolve(runner.spec, "cpu"), runner)
    expected = continued(plain, make_prompt(context=70))[1]
    _, (_, logits, _) = watched()
    assert torch.equal(logits, expected)


def test_the_reference_passes_its_own_watch_on_every_op():
    watch, _ = watched()
    assert set(watch.worst()) == {
        "calibrated_attention",
        "cached_attention",
        "chunk_select",
        "select_tokens",
        "window_mass",
    }
    assert failed(watch) == set()


def test_only_first_middle_and_last_layer_are_checked():
    watch, _ = watched()
    assert {layer for _, layer in watch.calls} == {None, 0, 2, 4}


def scale_last_row(results, _):
    results[0][..., -1, :] *= 1.001


def move_a_key(results, _):
    index = results[2]
    index[..., 0] = torch.where(index[..., 0] > 0, index[..., 0] - 1, index[..., 1] - 1)


@pytest.mark.parametrize(
    ("op", "change"),
    [
        ("calibrated_attention", scale_last_row),
        ("cached_attention", scale_last_row),
        ("calibrated_attention", lambda results, _: results[2].mul_(1.01)),
        ("window_mass", lambda results, _: results.mul_(1.01)),
        ("select_tokens", move_a_key),
        ("chunk_select", lambda results, _: results[0].add_(1e-3)),
        ("chunk_select", lambda results, _: results[1].copy_(results[1].flip(0))),
    ],
)
def test_a_wrong_result_fails_its_op_and_no_other(op, change):
    watch, _ = watched(Off(op, change))
    assert failed(watch) == {op}


@pytest.mark.parametrize(("dtype", "off", "passes"), [(torch.float32, 2e-5, 0), (BF16, 9e-4, 1), (BF16, 1.1e-3, 0)])
def test_scores_are_held_to_the_bound_of_the_hidden_rows(dtype, off, passes):
    watch = Watch(Off("chunk_select", lambda results, _: results[0].add_(off)), layers=1, seed=0)
    watch.chunk_select(**chunk_select(Draws(0, torch.device("cpu"), dtype), rows=[4, 4]))
    assert watch.found["chunk_select"]["scores"].ok is bool(passes)


def test_a_nan_is_the_largest_error_and_still_json():
    import json

    watch, _ = watched(Off("cached_attention", lambda results, _: results[0].fill_(torch.nan)))
    assert failed(watch) == {"cached_attention"}
    assert json.dumps(watch.worst(), allow_nan=False)


def test_axes_name_arguments_and_results_of_their_ops():
    import inspect

    from pcbench.measure.kernels.cases import _RESULTS

    for op, axes in AXES.items():
        known = {*inspect.signature(getattr(reference, op)).parameters, *_RESULTS[op]}
        assert set(axes) <= known


OFTEN = dict(zone="all", layers=[0, 4], threshold=0.1, rows=2)


@pytest.mark.parametrize(
    ("config", "seen"),
    [
        (dict(evict=dict(capacity=6, group="query_head")), {"select_tokens"}),
        (dict(evict=dict(capacity=6, when="query", decode=True)), {"window_mass"}),
        (dict(evict=dict(capacity=6, decode=True), rank_by="window_nll"), {"window_mass", "select_tokens"}),
        (dict(rank_by="random"), {"chunk_topk"}),
        (dict(prefer="highest", tie="late", query_tail=3), {"chunk_select", "chunk_topk"}),
        (dict(calibration=[OFTEN | dict(scope="chunk", starts="now", fill=True)]), {"calibrated_attention"}),
        (dict(calibration=[OFTEN | dict(starts="next", query_keys=True, shared=True)]), {"window_mass"}),
    ],
)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_every_switchs_calls_are_watched_and_right(config, seen, backend):
    if why := ops.why_not(backend):
        pytest.skip(why)
    watch, _ = watched(ops.backend(backend), **dict(evict=None, calibration=[]) | config)
    assert seen | {"calibrated_attention", "cached_attention"} <= set(watch.worst())
    assert failed(watch) == set()
