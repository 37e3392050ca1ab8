"""Folders of models as `save_pretrained` leaves them, for tests that change a file of one."""

import json

import torch
from safetensors.torch import load_file, save_file
from tiny import make_runner
from tokenizers import Tokenizer, models, processors
from transformers import PreTrainedTokenizerFast

from pcbench import ops
from pcbench.models import load_runner, model_spec

WORDS = ["<s>", "<g>", "a", "?", "</s>"]


def word_tokenizer(starts=(), **more):
    """A tokenizer of single words that puts `starts` in front of every text."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="?"))
    if starts:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=" ".join((*starts, "$A")), special_tokens=[(word, WORDS.index(word)) for word in starts]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?", **more)


def save_model(folder):
    make_runner("llama").model.save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)


def load(folder):
    """As a run does it: planned, then loaded."""
    model_spec(str(folder))
    return load_runner(str(folder), torch.device("cpu"), torch.float32, ops.backend("reference"))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def change_json(path, **values):
    """Sets keys of a JSON file, or makes one."""
    table = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(table | values))
