"""How many tokens the groups of a layer's heads keep: more where the entropy is higher.

A rule takes the groups of a layer's kv-heads (−1: keeps nothing), their number, the mean that is wanted and the
prompt's length, and gives tokens of each kv-head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pcbench.errors import ConfigError
from pcbench.methods.eviction import Budgets
from pcbench.methods.uncomp.groups import head_groups
from pcbench.types import ModelSpec

__all__ = ["Evenly", "Exact", "Extreme", "Given", "Grouped", "Paper", "Released", "ReleasedSplit", "Rule", "spread"]

# the released code's lists at its two sizes, lowest group first: 512 means 384 in the mean, 86 means 64
LISTS = {
    512: {
        3: [32, 384, 736],
        4: [128, 298, 470, 640],
        5: [256, 320, 384, 448, 512],
        8: [20, 128, 256, 384, 384, 512, 640, 748],
    },
    86: {
        2: [16, 112],
        3: [16, 64, 112],
        4: [16, 48, 80, 112],
        5: [16, 40, 64, 88, 112],
        8: [16, 30, 44, 64, 64, 84, 98, 112],
    },
}
# of 32 groups at every size
STEPS = list(range(144, 656, 16))
# of the pyramid: the lower half of the groups in steps of which the first has a sixth; what they have at least
SPLITS = {2: ([1], []), 4: ([3, 7], [9, 18]), 8: ([7, 11, 15, 19], [9, 9, 9, 9])}
# of `Extreme`: what 512 becomes → by how much tokens are divided
EXTREMES = {128: 4, 64: 8, 32: 16, 16: 32, 12: 42, 10: 51}


class Rule(Protocol):
    """Tokens of each kv-head of a layer."""

    def __call__(self, labels: Sequence[int], groups: int, tokens: int, length: int) -> list[int]: ...


@dataclass(frozen=True)
class Grouped:
    """Budgets of every layer by its head groups.

    Args:
        labels: of each layer, the group of each kv-head.
        groups: their number.
        rule: tokens of the groups.
        layers: how many a kv-head of a layer keeps in the mean.
    """

    labels: Sequence[Sequence[int]]
    groups: int
    rule: Rule
    layers: Budgets

    def __call__(self, layer: int, spec: ModelSpec, tokens: int, length: int) -> Sequence[int]:
        mean = self.layers(layer, spec, tokens, length)[0]
        return self.rule(self.labels[layer], self.groups, mean, length)


def spread(weights: Sequence[int], total: int, most: int) -> list[int]:
    """Whole numbers of a sum of `total`, as proportional to `weights` as at most `most` each allows.

    What rounding leaves goes one by one to the largest remainders, the heavier and then the earlier of equals; a weight
    of 0 has nothing.
    """
    found = [most if weight else 0 for weight in weights]
    free = [i for i, weight in enumerate(weights) if weight]
    while True:
        heavy = sum(weights[i] for i in free)
        below = [i for i in free if weights[i] * total < most * heavy]
        if len(below) == len(free):
            break
        total -= most * (len(free) - len(below))
        free = below
    for i in free:
        found[i] = weights[i] * total // heavy
    rest = total - sum(found[i] for i in free)
    for i in sorted(free, key=lambda i: (-(weights[i] * total % heavy), -weights[i]))[:rest]:
        found[i] += 1
    return found


class Exact:
    """The layer's kept heads have exactly `tokens` in the mean, between groups a constant step.

    The higher of two groups has twice as many as the lower; of more groups the highest has five times as many as the
    lowest, as 640 and 128. What a short prompt leaves of high budgets goes to the lower ones, and heads of a group
    differ by one token where division leaves something.
    """

    def __call__(self, labels: Sequence[int], groups: int, tokens: int, length: int) -> list[int]:
        if length <= tokens:
            return _of_groups(labels, [tokens] * groups)
        first, step = (1, 1) if groups <= 2 else (groups - 1, 4)
        weights = [first + step * group for group in range(groups)]
        kept = sum(label >= 0 for label in labels)
        return spread(_of_groups(labels, weights), tokens * kept, length)


class Paper:
    """The paper's: of two groups ceil(4/3·tokens) and half of it; of more 5/3·tokens, falling to 122/384 of it.

    At 384 tokens 8 groups have 640 − 74·g, whose mean is 381.
    """

    def __call__(self, labels: Sequence[int], groups: int, tokens: int, length: int) -> list[int]:
        if length <= tokens or groups == 1:
            return _of_groups(labels, [tokens] * groups)
        if groups == 2:
            high = -(-4 * tokens // 3)
            return _of_groups(labels, [high // 2, high])
        steps = 192 * (groups - 1)
        down = [(320 * (groups - 1) - 259 * g) * tokens // steps for g in range(groups)]
        return _of_groups(labels, down[::-1])


class Released:
    """The released code's: for two groups half as many more as asked for, 1.125·tokens in the mean of equal halves.

    A prompt that the higher budget would hold keeps only half of its tokens in the low heads.
    """

    def __call__(self, labels: Sequence[int], groups: int, tokens: int, length: int) -> list[int]:
        return _of_groups(labels, self._list(groups, tokens, length))

    def _list(self, groups: int, tokens: int, length: int) -> list[int]:
        if groups == len(STEPS):
            return STEPS
        if groups in LISTS.get(tokens, {}):
            return LISTS[tokens][groups]
        if groups == 8:
            return LISTS[512][8]
        whole = min(tokens, length)
        if groups == 4:
            return [whole - below * ((whole - whole // 2) // 3) for below in (3, 2, 1, 0)]
        if groups != 2:
            raise ConfigError(
                "uncomp: 2, 4, 8 or 32 groups, or 512 or 86 tokens with 3 or 5 groups as the released code has them, "
                f"got {groups} groups of {tokens} tokens; name their sizes by group_tokens"
            )
        high = 3 * whole // 2
        return [length // 2, length] if length <= high else [high // 2, high]


class ReleasedSplit:
    """How the released code splits the budgets of its pyramid: three quarters of a layer's in the mean.

    From a sixth to five sixths of 3/2·tokens; of 3 groups a half to all of the tokens. Groups so low that the window
    would not fit have 9 tokens. Where a budget is too small for that the code fails; here a head has a token.
    """

    def __call__(self, labels: Sequence[int], groups: int, tokens: int, length: int) -> list[int]:
        return _of_groups(labels, [max(1, size) for size in self._list(groups, tokens)])

    def _list(self, groups: int, tokens: int) -> list[int]:
        whole = 3 * tokens // 2
        if groups == 3:
            return [tokens // 2, 3 * tokens // 4, tokens]
        if groups == len(STEPS):
            most = whole - whole // 6
            return [int(most - whole * 4 * (groups - 1 - group) / 186) for group in range(groups)]
        if groups not in SPLITS:
            raise ConfigError(
                f"uncomp: 2, 3, 4, 8 or 32 groups in the pyramid of the released code, got {groups}; choose one of them"
            )
        parts, small = SPLITS[groups]
        step = whole // (6 * parts[0])
        low = small if small and parts[0] * step < 8 else [part * step for part in parts]
        return [*low, *(whole - size for size in reversed(low))]


@dataclass(frozen=True)
class Given:
    """Sizes that somebody named, lowest group first.

    Args:
        sizes: tokens of each group.
    """

    sizes: Sequence[int]

    def __call__(self, labels: Sequence[int], groups: int, tokens: int, length: int) -> list[int]:
        return _of_groups(labels, self.sizes)


@dataclass(frozen=True)
class Extreme:
    """Extreme compression: the high heads keep `tokens`, the low ones a fraction of them or of a shorter prompt.

    Args:
        of_512: what the low heads keep where the high ones keep 512.
        window: tokens that they keep at least.
    """

    of_512: int
    window: int

    def __call__(self, labels: Sequence[int], groups: int, tokens: int, length: int) -> list[int]:
        low = min(tokens, length) // EXTREMES[self.of_512]
        return _of_groups(labels, [max(self.window, low), tokens])


@dataclass(frozen=True)
class Evenly:
    """As many tokens as another rule gives a layer, the same for every kept head; the earlier ones have what is left.

    Args:
        rule: which.
        groups: of that rule.
    """

    rule: Rule
    groups: int

    def __call__(self, labels: Sequence[int], groups: int, tokens: int, length: int) -> list[int]:
        kept = [head for head, label in enumerate(labels) if label >= 0]
        total = sum(self.rule(head_groups(range(len(kept)), self.groups), self.groups, tokens, length))
        found = [0] * len(labels)
        for i, head in enumerate(kept):
            found[head] = (total + len(kept) - 1 - i) // len(kept)
        return found


def _of_groups(labels: Sequence[int], sizes: Sequence[int]) -> list[int]:
    return [sizes[label] if label >= 0 else 0 for label in labels]
