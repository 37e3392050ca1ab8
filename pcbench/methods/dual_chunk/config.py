"""Parameters of dual chunk attention: period, clip, gain, and which chunks far back are read."""

from typing import Annotated, Literal, Self

from pydantic import Field

from pcbench.config import Count, Table
from pcbench.errors import ConfigError
from pcbench.types import Cost, DeviceKind, ModelSpec, linear_flops

__all__ = ["Config"]

# of the trained length c: sixteenths of the period, and of the clip; None is c − 1
PRESETS: dict[str, tuple[int, int | None]] = {
    "paper": (12, None),
    "repo": (10, 12),
    "repo16": (11, 12),
    "ppl": (8, 12),
}
# positions of a clip: what they turn by is a table, 2 GB then
LONGEST = 1 << 22


class Config(Table):
    """Parameters of dual chunk attention.

    Args:
        preset: of the trained length c: paper: period 3c/4 and clip c − 1, which changes nothing up to c; of the
            released code (HKUNLP/ChunkLlama, commit 2add4d7) repo: 5c/8 and 3c/4, as it is now; repo16: 11c/16 and
            3c/4, as it was before April 2024; ppl: c/2 and 3c/4, as its perplexity script calls it; model: those of
            `dual_chunk_attention_config` in the model's config. None is model where the model has it, else paper.
        period: s, tokens of a chunk: the key at position j is turned by j mod s; the preset's where it is not given.
        clip: P ≥ s, the largest distance: a query sees keys of the chunk before at most so far away, and keys
            further back as if it stood there; the preset's where it is not given; 2^22 at most.
        trained_tokens: c; None is what the model's config says.
        gain: what multiplies the scores of a query behind L tokens, itself included: none: 1; yarn: (1 + 0.1·ln r)²;
            half-yarn: (1 + 0.05·ln r)², with r = max(1, L/c). L is the query's own, so that it does not matter how a
            text is divided among forwards; the released code takes the text's for all. None is yarn where a model's
            own numbers ask for it, else none.
        keep_chunks: chunks that are read beside the first one, a query's own and the one before it: those with the
            best scores, each kv-head its own; None reads all.
        score: of a chunk, by the last query of a tile, the largest of a kv-head's queries: mean: its mean logit; max:
            a bound of its largest one; lse: the log-sum-exp of all, for which every key is read.
        tile_rows: queries next to each other that read the same chunks.
    """

    preset: Literal["paper", "repo", "repo16", "ppl", "model"] | None = None
    period: Count | None = None
    clip: Count | None = None
    trained_tokens: Count | None = None
    gain: Literal["none", "yarn", "half-yarn"] | None = None
    keep_chunks: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    score: Literal["mean", "max", "lse"] = "mean"
    tile_rows: Count = 128

    def resolve(self, spec: ModelSpec, device: DeviceKind, task: str = "") -> Self:
        """Numbers in place of presets.

        Raises:
            ConfigError: the model has no numbers of its own, or the period is 0 or above the clip.
        """
        own, preset = spec.dual_chunk, self.preset
        if preset is None:
            preset = "paper" if own is None else "model"
        trained, gain = self.trained_tokens or spec.trained_tokens, "none"
        if preset == "model":
            if own is None:
                raise ConfigError(
                    f"dual_chunk: preset: another than model, as the config of {spec.name} has no "
                    "dual_chunk_attention_config, got model; leave it out"
                )
            chunk, local, original = own
            period, clip = chunk - local, chunk
            if original > 0:
                trained, gain = self.trained_tokens or original, "yarn"
        else:
            share, most = PRESETS[preset]
            period, clip = share * trained // 16, trained - 1 if most is None else most * trained // 16
        period, clip = self.period or period, self.clip or clip
        if clip > LONGEST:
            raise ConfigError(f"dual_chunk: clip: at most {LONGEST} positions, got {clip}; set a smaller one")
        if not 1 <= period <= clip:
            raise ConfigError(
                f"dual_chunk: period and clip: 1 ≤ period ≤ clip, got {period} and {clip}; "
                "set both, or a larger trained_tokens"
            )
        found = {"period": period, "clip": clip, "trained_tokens": trained, "gain": self.gain or gain}
        return self.model_copy(update=found)

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Period, clip and trained length; the config must be resolved."""
        period, clip, trained = self.period, self.clip, self.trained_tokens
        assert period is not None, "resolve() first"
        assert clip is not None, "resolve() first"
        assert trained is not None, "resolve() first"
        return period, clip, trained

    def cost(self, spec: ModelSpec, tokens: int) -> Cost:
        """A causal forward over the pairs that are read; all keys are stored."""
        pairs = tokens**2 / 2
        if self.keep_chunks is not None:
            period, _, _ = self.numbers
            # the first and the chosen ones, the one before and half of the own
            pairs = min(pairs, tokens * (self.keep_chunks + 2.5) * period)
        flops = linear_flops(spec, tokens) + 4.0 * spec.layers * spec.heads * spec.head_dim * pairs
        return Cost(flops=flops, kv_tokens=tokens)
