"""Head groups: the kv-heads of each layer in the order of their entropy, cut by sizes."""

from collections.abc import Sequence

from torch import Generator, Tensor, rand

from pcbench.errors import ConfigError, shown
from pcbench.types import ModelSpec

__all__ = [
    "MOST_GROUPS",
    "NOTHING",
    "as_text",
    "group_sizes",
    "head_groups",
    "of_kv_heads",
    "of_texts",
    "random_statistic",
]

MOST_GROUPS = 32
# a letter a kv-head: its group, or that it keeps nothing
LETTERS, NOTHING = "0123456789abcdefghijklmnopqrstuv", "-"


def of_kv_heads(entropy: Tensor, kv_heads: int) -> Tensor:
    """[L, H] of query heads → [L, Hkv], the mean over each group; [L, Hkv] stays."""
    return entropy.unflatten(1, (kv_heads, -1)).mean(2)


def random_statistic(spec: ModelSpec, seed: int) -> Tensor:
    """[L, Hkv] numbers that say nothing of the heads, for ablations."""
    return rand(spec.layers, spec.kv_heads, generator=Generator().manual_seed(seed))


def group_sizes(heads: int, groups: int) -> list[int]:
    """Heads of each group, the one of the lowest entropy first.

    Equal where they can be. What division leaves goes to the highest group, then to the lowest, and on inwards: with
    an odd number of heads the larger half is the high one, 32 heads are 11, 10, 11 and 7, 6, 6, 6, 7. A group may be
    empty.
    """
    size, more = divmod(heads, groups)
    outside_in = sorted(range(groups), key=lambda group: (min(group, groups - 1 - group), -group))
    extra = set(outside_in[:more])
    return [size + (group in extra) for group in range(groups)]


def head_groups(statistic: Sequence[float], groups: int, removed: int = 0) -> list[int]:
    """The group of each kv-head of a layer, 0 the lowest; −1 for the `removed` lowest heads, which keep nothing.

    Equal values count in the order of the heads.
    """
    order = sorted(range(len(statistic)), key=lambda head: statistic[head])
    sizes = group_sizes(len(statistic) - removed, groups)
    ranked = [-1] * removed + [group for group, size in enumerate(sizes) for _ in range(size)]
    return [group for _, group in sorted(zip(order, ranked, strict=True))]


def as_text(groups: Sequence[int]) -> str:
    """A letter a kv-head, as a record shows a layer's groups."""
    return "".join(NOTHING if group < 0 else LETTERS[group] for group in groups)


def of_texts(texts: Sequence[str], spec: ModelSpec, groups: int) -> list[list[int]]:
    """What `as_text` made, for all layers of a model.

    Raises:
        ConfigError: it is not a text of the model's kv-heads for each of its layers, names other groups, or leaves a
            layer no head.
    """
    known = LETTERS[:groups] + NOTHING

    def is_layer(text: str) -> bool:
        return len(text) == spec.kv_heads and set(text) <= set(known) and set(text) != {NOTHING}

    if len(texts) != spec.layers or not all(map(is_layer, texts)):
        raise ConfigError(
            f"head_groups: {spec.layers} texts of {spec.kv_heads} letters of {known}, one of each no {NOTHING}, for "
            f"{spec.name}, got {shown(list(texts))}; leave it out to take the model's own"
        )
    return [[known.index(letter) if letter != NOTHING else -1 for letter in text] for text in texts]
