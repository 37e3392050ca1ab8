"""The fine-tuning recipe on two processes: what they save, one goes on from."""

import json
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import pcbench
from pcbench.models.tokens import ByteTokenizer

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "finetune_dual_chunk"
# two chunks and more of every conversation
FLAGS = [
    "--model",
    "random:tiny",
    "--use_cpu",
    "--period",
    "24",
    "--clip",
    "32",
    "--learning_rate",
    "3e-3",
    "--save_steps",
    "4",
]
RANK = """
import sys, torch, pcbench
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
sys.path.insert(0, sys.argv[1])
import train
trainer = train.main(sys.argv[3:])
model = trainer.model.eval()
with torch.no_grad():
    logits = model(torch.arange(2, 90)[None]).logits


def step(shards):
    model, _ = train.load("random:tiny")
    pcbench.attach(model, "dual_chunk", period=24, clip=32)
    model.train()
    for part in [*model.model.layers, model] if shards else []:
        fully_shard(part, mp_policy=shards)
    ids = torch.arange(2, 90)[None]
    with torch.autocast("cpu", torch.bfloat16, enabled=bool(shards and shards.param_dtype)):
        model(input_ids=ids, labels=ids).loss.backward()
    grads = [x.grad for x in model.parameters()]
    return torch.cat([(x.full_tensor() if shards else x).flatten() for x in grads])


bf16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
steps = [step(None), step(MixedPrecisionPolicy()), step(bf16)]
torch.save((logits, trainer.state.log_history, steps), f"{sys.argv[2]}.{trainer.args.process_index}")
"""


@pytest.fixture(scope="module")
def train():
    spec = util.spec_from_file_location("train", FOLDER / "train.py")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder that two processes leave, and what each of them computes at the end."""
    place = tmp_path_factory.mktemp("tuned")
    (place / "rank.py").write_text(RANK)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", place / "rank.py"]
    words = [FOLDER, place / "rank", *FLAGS, "--data", FOLDER / "conversations.jsonl", "--output_dir", place / "out"]
    done = subprocess.run([*torchrun, *words, "--max_steps", "4"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return place / "out", [torch.load(f"{place / 'rank'}.{i}") for i in range(2)]


def test_the_loss_falls_and_a_process_loads_what_two_saved(trained):
    out, ((logits, history, _), (others, *_)) = trained
    losses = [entry["loss"] for entry in history if "loss" in entry]
    assert losses[-1] < 0.9 * losses[0]
    assert torch.equal(logits, others)
    model = AutoModelForCausalLM.from_pretrained(out).eval()
    with pcbench.attach(model, "dual_chunk", period=24, clip=32), torch.no_grad():
        torch.testing.assert_close(model(torch.arange(2, 90)[None]).logits, logits, rtol=1e-5, atol=1e-5)


def test_bf16_rounds_copies_of_weights_in_float32(train, tmp_path):
    words = [*FLAGS, "--data", str(FOLDER / "conversations.jsonl"), "--output_dir", str(tmp_path), "--bf16"]
    before = train.load("random:tiny")[0].state_dict()
    trainer = train.main([*words, "--max_steps", "2", "--learning_rate", "2e-5"])
    after = trainer.accelerator.get_state_dict(trainer.model)
    # so small a step would be lost in 16 bits
    layers = [name for name in before if ".layers." in name]
    changed = sum(int((after[name] != before[name]).sum()) for name in layers)
    assert changed > 0.99 * sum(before[name].numel() for name in layers)
    assert {weight.dtype for weight in after.values()} == {torch.float32}


def test_gradients_of_a_sharded_model_are_those_of_a_whole_one(trained):
    for whole, sharded, rounded in [steps for _, _, steps in trained[1]]:
        torch.testing.assert_close(sharded, whole, rtol=1e-5, atol=1e-6)
        assert not torch.equal(rounded, sharded)
        assert (rounded - whole).norm() < 0.05 * whole.norm()


def test_it_goes_on_from_the_checkpoint_of_two_in_one(trained, train):
    out, _ = trained
    words = [*FLAGS, "--data", str(FOLDER / "conversations.jsonl"), "--output_dir", str(out), "--max_steps", "5"]
    state = train.main(words).state
    assert [entry["step"] for entry in state.log_history if "loss" in entry] == [1, 2, 3, 4, 5]


def test_only_answers_are_learned(train):
    tokenizer = pcbench.load_model("random:tiny", device="cpu").tokenizer
    turns = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4"},
    ]
    made = train.example(tokenizer, turns, 1000)
    assert tokenizer.decode(made["input_ids"]) == "user: 1+1?\nassistant: 2\nuser: 2+2?\nassistant: 4\n"
    counted = [i for i, label in zip(made["input_ids"], made["labels"], strict=True) if label != train.IGNORED]
    assert tokenizer.decode(counted) == "2\n4\n"
    assert len(train.example(tokenizer, turns, 7)["labels"]) == 7
    batch = train.Collated(0)([made, train.example(tokenizer, turns, 7)])
    assert batch["attention_mask"].sum(1).tolist() == [len(made["labels"]), 7]
    assert (batch["labels"][1, :-7] == train.IGNORED).all()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1"),
        (None, "got .*No such file"),
        ('{"messages": [{"role": "user"}]}', "line 1"),
        ('{"messages": []}', "an answer"),
    ],
)
def test_a_bad_file_is_one_line(train, tmp_path, line, said):
    path = tmp_path / "data.jsonl"
    if line is not None:
        path.write_text(line)
    with pytest.raises(SystemExit, match=said) as error:
        train.read(path)
    assert "\n" not in str(error.value)


def test_the_example_is_what_the_recipe_reads(train):
    rows = [json.loads(line) for line in (FOLDER / "conversations.jsonl").read_text().splitlines()]
    assert train.read(FOLDER / "conversations.jsonl") == [row["messages"] for row in rows]


def test_lines_end_where_json_lines_do(train, tmp_path):
    said = [{"role": "assistant", "content": "one\u2028two\x85three"}]
    (tmp_path / "data.jsonl").write_text(json.dumps({"messages": said}, ensure_ascii=False) + "\r\n\n")
    assert train.read(tmp_path / "data.jsonl") == [said]


def test_answers_end_for_tokenizers_without_a_chat_template(train):
    class Marked(ByteTokenizer):
        bos_token, eos_token = "<s>", "</s>"

    turns = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]
    made = train.example(Marked(), turns, 1000)
    assert Marked().decode(made["input_ids"]) == "<s>user: 1+1?\nassistant: 2</s>\n"
    counted = [i for i, label in zip(made["input_ids"], made["labels"], strict=True) if label != train.IGNORED]
    assert Marked().decode(counted) == "2</s>\n"
