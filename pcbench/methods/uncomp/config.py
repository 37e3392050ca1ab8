"""UNComp's parameters."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, zeros

from pcbench.config import Count, Seed
from pcbench.errors import ConfigError
from pcbench.methods.eviction import Budgets, EvictionConfig, Odd, Policy
from pcbench.methods.eviction.budgets import Pyramid, UNCompPyramid, Uniform
from pcbench.methods.eviction.decoding import WindowSum
from pcbench.methods.eviction.scores import Window
from pcbench.methods.uncomp.budgets import (
    Evenly,
    Exact,
    Extreme,
    Given,
    Grouped,
    Paper,
    Released,
    ReleasedSplit,
    Rule,
)
from pcbench.methods.uncomp.groups import (
    MOST_GROUPS,
    NOTHING,
    as_text,
    head_groups,
    of_kv_heads,
    of_texts,
    random_statistic,
)
from pcbench.methods.uncomp.removal import MostAlike
from pcbench.methods.uncomp.table import EntropyTable, Matrix, find_table
from pcbench.types import Cost, DeviceKind, ModelSpec, causal_flops

__all__ = ["Config"]

RULES: Mapping[str | None, type[Rule]] = {None: Exact, "paper": Paper, "released": Released}


class Config(EvictionConfig):
    """UNComp's parameters.

    Args:
        groups: head groups of a layer, 1…32; those of higher entropy keep more. Of two groups the higher one has an odd
            head more; a layer with fewer kv-heads leaves groups empty.
        group_tokens: what each group keeps, lowest entropy first, in place of `tokens`; says how many groups.
        extreme: extreme compression with two groups: the high one keeps `tokens`, the low one so many of 512, else as
            large a part of them, or of a shorter prompt.
        remove_heads: kv-heads of a layer, those of the lowest entropy, that keep nothing; behind the prompt their
            query heads take the outputs of the kv-head with the most similar last keys. Each stores one token beside
            a question's.
        order: entropy; for ablations at the same budget: reverse: low entropy keeps more; random: by `seed`;
            uniform: every head of a layer the same.
        k: eigenvalues that count in the entropy; more than a head has are all.
        renormalise: they sum to 1.
        matrix: whose entropy: queries, the mean over a kv-head's query heads, or keys.
        layers: what a layer keeps in the mean: even: the same; pyramid: more in early layers, as PyramidKV; reverse:
            more in late ones.
        window: last queries that vote for tokens; they stay, within the budget.
        pool: odd width of the max-pool over the votes of neighbours.
        reduce: over the query heads of a kv-head.
        decode: evict: every new token displaces the one with the least attention of the last 8 queries; grow: the
            cache grows.
        preset: released: budgets of the released code (commit b3e9f7b), with `layers` of its pyramid, nothing protected
            but the window, which is half of `tokens` at most where there are two groups; paper: budgets of the paper.
            Without one the mean is exactly `tokens`.
        seed: of the random order.
        table: an entropy table; without one the model's own where `pcbench calibrate` writes it.
        head_groups: the groups themselves, a text a layer and a letter a kv-head, 0 the lowest and - for a removed
            one; resolving fills it, with `table_sha256` of the table's numbers. If that is given instead, no other
            table is taken.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"released": {"sink": 0}, "paper": {"sink": 0}}

    groups: Annotated[int, Field(ge=1, le=MOST_GROUPS)] = 2
    group_tokens: Annotated[list[Count], Field(min_length=1, max_length=MOST_GROUPS)] | None = None
    extreme: Literal[128, 64, 32, 16, 12, 10] | None = None
    remove_heads: Annotated[int, Field(ge=0)] = 0
    order: Literal["entropy", "reverse", "random", "uniform"] = "entropy"
    k: Literal[16, 32, 64, 128] = 32
    renormalise: bool = False
    matrix: Matrix = "queries"
    layers: Literal["even", "pyramid", "reverse"] = "even"
    window: Count = 8
    pool: Odd = 7
    reduce: Literal["mean", "max"] = "mean"
    decode: Literal["evict", "grow"] = "evict"
    preset: Literal["released", "paper"] | None = None
    seed: Seed = 0
    table: str | None = None
    head_groups: list[str] | None = None
    table_sha256: str | None = None

    @model_validator(mode="after")
    def _sizes_once(self) -> Self:
        named = "groups" in self.model_fields_set
        if self.group_tokens is not None and named and len(self.group_tokens) != self.groups:
            raise ValueError(f"group_tokens should have {self.groups} numbers as groups has it")
        if self.group_tokens is not None and (self.tokens or self.share):
            raise ValueError("group_tokens should stand without tokens and share")
        if self.extreme is not None and (self.groups != 2 or self.group_tokens is not None):
            raise ValueError("extreme should stand with 2 groups and without group_tokens")
        if self.decode == "grow" and (self.remove_heads or any(NOTHING in x for x in self.head_groups or ())):
            raise ValueError("removed heads should stand without decode = grow, which fills them again")
        return self

    def sized(self, tokens: int) -> Self:
        """As of every eviction method; sizes of groups are a size."""
        return super().sized(tokens) if self.group_tokens is None else self

    def resolve(self, spec: ModelSpec, device: DeviceKind, task: str = "") -> Self:
        """The size, the preset's values and the head groups.

        Raises:
            DataMissing: the model has no entropy table; the message holds the command that makes one.
            ConfigError: the table is another model's, or head groups are not those of this model.
        """
        config = super().resolve(spec, device, task)
        if config.group_tokens is not None:
            config = config.model_copy(update={"groups": len(config.group_tokens), "tokens": None})
        if config.remove_heads >= spec.kv_heads:
            raise ConfigError(
                f"remove_heads: fewer than the {spec.kv_heads} kv-heads of {spec.name}, got {config.remove_heads}; "
                "leave it one at least"
            )
        config = config.completed(spec, config.entropies(spec) if config.needs_table() else None)
        config.check_budgets(spec)
        return config

    def completed(self, spec: ModelSpec, table: EntropyTable | None) -> Self:
        """With what is not given and comes from the model's table.

        Raises:
            ConfigError: the config names another table.
        """
        if table is not None and self.table_sha256 not in (None, table.about.numbers_sha256):
            raise ConfigError(
                f"table_sha256: the entropy table {self.table_sha256}, got {table.about.numbers_sha256}; name the file "
                "of that one by `table`, or set the head_groups of the record"
            )
        values: dict[str, Any] = {} if table is None else {"table_sha256": table.about.numbers_sha256}
        if self.head_groups is None:
            values["head_groups"] = self.grouped(self.statistic(spec, table))
        return self.model_copy(update=values)

    def check_budgets(self, spec: ModelSpec) -> None:
        """Raises ConfigError where head groups are not the model's, or the released code has no such sizes."""
        longest = spec.trained_tokens
        self.budgets(spec)(0, spec, self.tokens_of(longest), longest)

    def needs_table(self) -> bool:
        """Whether the heads' entropies decide anything."""
        decides = self.order in ("entropy", "reverse") or (self.order == "uniform" and self.remove_heads > 0)
        return decides and self.head_groups is None

    def entropies(self, spec: ModelSpec) -> EntropyTable:
        """The model's table; errors as of `find_table`."""
        return find_table(spec, self.matrix, self.table)

    def statistic(self, spec: ModelSpec, table: EntropyTable | None) -> Tensor:
        """[L, Hkv], by which heads are ordered."""
        if self.order == "random":
            return random_statistic(spec, self.seed)
        if table is None or (self.order == "uniform" and not self.remove_heads):
            return zeros(spec.layers, spec.kv_heads)
        found = of_kv_heads(table.of_heads(self.k, self.renormalise), spec.kv_heads)
        return -found if self.order == "reverse" else found

    def grouped(self, statistic: Tensor) -> list[str]:
        """A text of groups a layer."""
        groups = 1 if self.order == "uniform" else self.groups
        return [as_text(head_groups(layer, groups, self.remove_heads)) for layer in statistic.tolist()]

    def budgets(self, spec: ModelSpec) -> Grouped:
        """Of every layer and kv-head; the config must be resolved."""
        assert self.head_groups is not None, "resolve() first"
        groups = self.groups
        layers: Budgets = Uniform()
        rule: Rule = RULES[self.preset]()
        if self.layers != "even":
            reverse = self.layers == "reverse"
            layers = Pyramid(window=self.window, reverse=reverse)
            if self.preset == "released":
                layers, rule = UNCompPyramid(reverse=reverse), ReleasedSplit()
        if self.group_tokens is not None:
            rule = Given(self.group_tokens)
        elif self.extreme is not None:
            rule = Extreme(self.extreme, self.window)
        if self.order == "uniform":
            rule, groups = Evenly(rule, groups), 1
        return Grouped(of_texts(self.head_groups, spec, groups), groups, rule, layers)

    def policy(self, spec: ModelSpec, tokens: int) -> Policy:
        budgets, window, last = self.budgets(spec), self.window, 8
        if self.preset == "released" and self.groups == 2 and self.extreme is None:
            window = min(window, max(1, tokens // 2))
            last = min(last, window)
        decoding = WindowSum(last, self.sink, window) if self.decode == "evict" else None
        removes = any(label < 0 for layer in budgets.labels for label in layer)
        return Policy(
            Window(window, self.reduce), budgets, self.pool, self.sink, window,
            decoding=decoding, copies=MostAlike(budgets.labels) if removes else None,
        )  # fmt: skip

    def cost(self, spec: ModelSpec, tokens: int) -> Cost:
        """A causal forward in which each layer reads its tokens; what stays of it in the mean."""
        budgets, wanted, lengths = self.budgets(spec), self.tokens_of(tokens), self.layer_tokens(spec, tokens)
        kept = [min(n, length) for i, length in enumerate(lengths) for n in budgets(i, spec, wanted, length)]
        flops = sum(causal_flops(spec, length) for length in lengths) / spec.layers
        return Cost(flops=flops, kv_tokens=round(sum(kept) / len(kept)))

    def layer_tokens(self, spec: ModelSpec, length: int) -> Sequence[int]:
        """Tokens of a prompt that each layer reads."""
        return [length] * spec.layers
