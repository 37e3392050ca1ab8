"""Tiny models with random weights and prompts for them."""

import copy
import multiprocessing
import os
import resource
import signal
import struct
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from pcbench import ops
from pcbench.config import Table
from pcbench.errors import ConfigError, PcbenchError, RankLost
from pcbench.harness.processes.children import started
from pcbench.methods.full import Full
from pcbench.models.runner import HFRunner
from pcbench.models.support import check_supported, read_spec
from pcbench.models.tokens import ByteTokenizer
from pcbench.types import Cost, Prompt, no_stages

FAMILIES = ("llama", "qwen2", "mistral", "gemma")


def make_runner(family="llama", backend="reference", trained_tokens=512, dtype=torch.float32, **changes):
    """A two-layer model with random weights, wide enough for attention to have something to choose from."""
    settings = dict(
        num_hidden_layers=2,
        hidden_size=96,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        intermediate_size=128,
        vocab_size=300,
        max_position_embeddings=trained_tokens,
        sliding_window=None,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    config = AutoConfig.for_model(family, **(settings | changes))
    check_supported(family, config)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval().requires_grad_(False)
    return HFRunner(model, read_spec(family, model), ByteTokenizer(), ops.backend(backend))


def with_rope(model, rope):
    """A model of the same weights, as it is with these `rope_parameters` in its config."""
    config = copy.deepcopy(model.config)
    config.rope_parameters = rope
    other = type(model)(config).eval().requires_grad_(False)
    other.load_state_dict(model.state_dict())
    return other


def letters_tokenizer():
    """A Hugging Face tokenizer that has a letter for a token and begins every text with its BOS, 256."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 256)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")


def putting(runner, *start_ids):
    """The same runner with a tokenizer that puts `start_ids` in front of every text."""
    tokenizer = ByteTokenizer()
    tokenizer.start_ids = list(start_ids)
    return replace(runner, tokenizer=tokenizer)


def make_prompt(prefix=3, context=40, query=7, new_tokens=4, seed=0, start_ids=()):
    """Random ids; `start_ids` are the first of the prefix and nowhere else."""
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randint(0, 300, (n,), generator=generator) for n in (prefix, context, query)]
    if start_ids:
        parts = [part.clamp_max(min(start_ids) - 1) for part in parts]
        parts[0][: len(start_ids)] = torch.tensor(start_ids)
    return Prompt(*parts, new_tokens=new_tokens, start_tokens=len(start_ids))


@torch.inference_mode()
def continued(method, prompt, steps=3):
    """Prefill and a few greedy steps: the state after the prefill, logits [1 + steps, V], tokens."""
    prefilled = method.prefill(prompt, no_stages)
    logits, tokens = [prefilled.logits], []
    for _ in range(steps):
        tokens.append(int(logits[-1].argmax()))
        logits.append(method.step(prefilled, torch.tensor(tokens[-1:])))
    return prefilled, torch.cat(logits), tokens


def beyond_the_limit():
    """More memory than the system gives this process from now on: 64 MiB more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    more = pages * resource.getpagesize() + (64 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (more, resource.RLIM_INFINITY))
    return torch.ones(256 << 20, dtype=torch.uint8)


class Broken:
    """A method for tests of the harness; `how` names what goes wrong in its prefill of `above` tokens and more."""

    class Config(Table):
        how: str
        above: int = 0
        pid_file: str = ""

        def resolve(self, spec, device, task=""):
            return self

        def cost(self, spec, tokens):
            return Cost(flops=1.0, kv_tokens=tokens)

    backends = ("ops",)

    def __init__(self, config, runner):
        self.config, self.how = config, config.how

    def prefill(self, prompt, stages):
        if self.how == "refuses" or prompt.context_tokens < self.config.above:
            raise ConfigError("broken: a method that works, got this one; choose another")
        if self.how == "lost":
            raise RankLost("every rank until the end, got one that ended before")
        if self.how == "memory":
            return torch.empty(1 << 50, dtype=torch.uint8)
        if self.how == "limit":
            return beyond_the_limit()
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "hangs":
            child = subprocess.Popen(["sleep", "600"])
            Path(self.config.pid_file).write_text(str(child.pid))
            time.sleep(600)
        raise RuntimeError("something that nobody expected\nwith a second line")

    def step(self, prefilled, token):
        raise AssertionError("never prefilled")


class Toy(Full):
    """Another method of stock code, for tests of what only full attention is."""


class Opless(Full):
    """A method that says it computes with ops and calls none."""

    backends = ("ops",)


class BrokenPeak(Full):
    """Full attention for tests of the harness; `how` names what goes wrong where its peak memory is measured."""

    class Config(Full.Config):
        how: str

    def __init__(self, config, runner):
        super().__init__(config, runner)
        self.how = config.how

    def prefill(self, prompt, stages):
        if multiprocessing.parent_process() is not None:
            if self.how == "limit":
                beyond_the_limit()
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "error":
                raise RuntimeError("something that nobody expected")
            if self.how == "elsewhere":
                raise PcbenchError("peak memory: another system, got this one")
        return super().prefill(prompt, stages)


def tell_servers(deeper, send):
    """What a process of the harness does that tells from which process it and its own child were forked."""
    if not deeper:
        send.send(os.getppid())
        return
    with started(tell_servers, False) as (_, receive):
        send.send((os.getppid(), receive.recv()))


def die_inside_a_message(prepared, send):
    """What a process of the harness does that is killed while it tells its result."""
    os.write(send.fileno(), struct.pack("!i", 1000) + b"the beginning")
    os.kill(os.getpid(), signal.SIGKILL)


class Wrong:
    """The CPU backend with one op that is off by a little."""

    backend = "cpu"

    def __getattr__(self, name):
        real = getattr(ops.backend("reference"), name)
        if name != "cached_attention":
            return real

        def off(q, *args, **kwargs):
            out, lse = real(q, *args, **kwargs)
            out[..., -1, :] *= 1 + 1e-4
            return out, lse

        return off
