"""Fine-tunes a model under dual chunk attention on conversations; only answers are learned.

    torchrun --nproc-per-node=8 train.py --model MODEL --data conversations.jsonl --output_dir OUT

Every flag of transformers' `TrainingArguments` can be given; README.md says what stands here in place of its defaults.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, HfArgumentParser, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

import pcbench

# what a loss does not count
IGNORED = -100
# its name since transformers 5.24
CHECKPOINTING = "activation_checkpointing"
if CHECKPOINTING not in {field.name for field in fields(TrainingArguments)}:
    CHECKPOINTING = "gradient_checkpointing"
# the recipe of the released code, README.md of ChunkLlama
RECIPE = {
    "max_steps": 1600,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 2,
    "learning_rate": 2e-5,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.03,
    "weight_decay": 0.0,
    CHECKPOINTING: True,
    "save_steps": 200,
    "save_total_limit": 2,
    "logging_steps": 1,
    "report_to": "none",
}


@dataclass
class Recipe:
    """What is trained on what.

    Args:
        model: a Hugging Face id or folder, or a `random:` name of `pcbench list models`.
        data: a JSONL file, a conversation a line: `{"messages": [{"role": "user", "content": "…"}, …]}`.
        max_tokens: of a conversation; later ones are cut off.
        period, clip: of dual chunk attention; without them the preset's for the length the model was trained on.
        preset: a preset of `dual_chunk`.
    """

    model: str
    data: str
    max_tokens: int = 16384
    period: int | None = None
    clip: int | None = None
    preset: str | None = None


def load(name: str) -> tuple[Any, Any]:
    """A model with gradients and its tokenizer; weights in float32, of which bf16 training rounds copies."""
    if name.startswith("random:"):
        torch.manual_seed(0)
        model, tokenizer = pcbench.load_model(name, device="cpu", dtype=torch.float32)
        return model.requires_grad_(True), tokenizer
    model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, trust_remote_code=False)
    return model, AutoTokenizer.from_pretrained(name, trust_remote_code=False)


def read(path: Path) -> list[list[dict[str, str]]]:
    """Conversations of a JSONL file.

    Raises:
        SystemExit: the file cannot be read, a line is none, or no line has an answer; names the line.
    """
    try:
        # other ends of lines may stand in a text
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"{path}: a JSONL file in UTF-8, got {error}; give another file") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            messages = json.loads(line)["messages"]
            turns = [{"role": str(m["role"]), "content": str(m["content"])} for m in messages]
        except (ValueError, KeyError, TypeError) as error:
            raise SystemExit(
                f'{path}: line {number}: {{"messages": [{{"role": …, "content": …}}, …]}}, got {error!r}; mend the line'
            ) from error
        found.append(turns)
    if not any(turn["role"] == "assistant" for turns in found for turn in turns):
        raise SystemExit(f"{path}: a conversation with an answer of the assistant, got none; give another file")
    return found


def text(tokenizer: Any, turns: Sequence[dict[str, str]], *, asks: bool) -> str:
    """A conversation as the model reads it; with `asks` up to where its next answer begins.

    Without a chat template a line a turn, behind the token that begins a text; answers end with the one that ends it.
    """
    if getattr(tokenizer, "chat_template", None):
        whole: str = tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=asks)
        return whole
    begin, end = (getattr(tokenizer, name, None) or "" for name in ("bos_token", "eos_token"))
    ends = {"assistant": end}
    lines = [f"{turn['role']}: {turn['content']}{ends.get(turn['role'], '')}\n" for turn in turns]
    return "".join([begin, *lines, *(["assistant: "] if asks else [])])


def encode(tokenizer: Any, told: str) -> list[int]:
    """Ids of a text that brings its own special tokens."""
    if hasattr(tokenizer, "chat_template"):
        ids: list[int] = tokenizer(told, add_special_tokens=False).input_ids
        return ids
    found: list[int] = tokenizer.encode(told)
    return found


def example(tokenizer: Any, turns: Sequence[dict[str, str]], max_tokens: int) -> dict[str, list[int]]:
    """Ids of a conversation and its labels, which count the assistant's words alone.

    The text is divided where answers begin and end, and each part is encoded by itself.

    Raises:
        SystemExit: a template that writes earlier turns otherwise once more follow.
    """
    ids: list[int] = []
    labels: list[int] = []
    before = ""
    for i, turn in enumerate(turns):
        if turn["role"] != "assistant":
            continue
        for told, counts in (
            (text(tokenizer, turns[:i], asks=True), False),
            (text(tokenizer, turns[: i + 1], asks=False), True),
        ):
            if not told.startswith(before):
                raise SystemExit(
                    "a chat template under which a conversation only grows, got another; choose another model"
                )
            part = encode(tokenizer, told.removeprefix(before))
            ids += part
            labels += part if counts else [IGNORED] * len(part)
            before = told
    return {"input_ids": ids[:max_tokens], "labels": labels[:max_tokens]}


@dataclass
class Collated:
    """A batch padded at the left, as an attached model takes it."""

    pad: int

    def __call__(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)

        def padded(key: str, value: int) -> torch.Tensor:
            return torch.tensor([[value] * (longest - len(row[key])) + row[key] for row in rows])

        mask = [[0] * (longest - len(row["input_ids"])) + [1] * len(row["input_ids"]) for row in rows]
        return {
            "input_ids": padded("input_ids", self.pad),
            "labels": padded("labels", IGNORED),
            "attention_mask": torch.tensor(mask),
        }


def main(words: Sequence[str] | None = None) -> Trainer:
    """Trains, from the last checkpoint of the output folder where there is one; saves the model there.

    The model that the trainer holds keeps dual chunk attention.
    """
    parser = HfArgumentParser([Recipe, TrainingArguments])
    parser.set_defaults(**RECIPE)
    recipe, arguments = parser.parse_args_into_dataclasses(words)
    model, tokenizer = load(recipe.model)
    config = {name: value for name in ("period", "clip", "preset") if (value := getattr(recipe, name)) is not None}
    # for good, as mixed precision puts its own around the forward; the reference runs where the trainer moves the model
    pcbench.attach(model, "dual_chunk", backend="reference", **config)
    model.train()
    rows = [example(tokenizer, turns, recipe.max_tokens) for turns in read(Path(recipe.data))]
    learned = [row for row in rows if any(label != IGNORED for label in row["labels"])]
    if len(learned) < len(rows) and arguments.process_index == 0:
        left = f"{len(rows) - len(learned)} of {len(rows)} conversations left out"
        print(f"{recipe.data}: {left}, no answer within {recipe.max_tokens} tokens")
    if not learned:
        raise SystemExit(f"{recipe.data}: an answer within {recipe.max_tokens} tokens, got none; raise --max_tokens")
    trainer = Trainer(model=model, args=arguments, train_dataset=learned, data_collator=Collated(0))
    last = get_last_checkpoint(arguments.output_dir) if Path(arguments.output_dir).is_dir() else None
    trainer.train(resume_from_checkpoint=last)
    trainer.save_model()
    if hasattr(tokenizer, "save_pretrained") and trainer.is_world_process_zero():
        tokenizer.save_pretrained(arguments.output_dir)
    return trainer


if __name__ == "__main__":
    main()
