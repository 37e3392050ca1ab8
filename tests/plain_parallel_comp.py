"""ParallelComp once more, by one forward over everything with a mask per layer and head, and loops over keys.

Slow and without caches: what the method's stores, slots, bits and kernels must amount to.
"""

import math
from dataclasses import dataclass, field

import torch
from transformers import AttentionInterface

from pcbench.models import interface

CONTEXT, QUERY_COPY, QUERY, NEW = range(4)


@dataclass
class Plain:
    """The answer's logits when `spans` are the kept chunks.

    Args:
        runner: the model.
        prompt: the request, its query with a BOS where it shall have one.
        spans: of the kept chunks.
        follow: the tokens that were generated.
        config: a resolved config.
    """

    runner: object
    prompt: object
    spans: list
    follow: list
    config: object
    kept: dict = field(default_factory=dict)  # layer → [Hkv] lists of context and query keys after the query

    def __post_init__(self):
        prompt = self.prompt
        ids, position, owner, kind = [], [], [], []
        self.repeated = []
        for i, (a, b) in enumerate(self.spans):
            row = torch.cat([prompt.prefix, prompt.context[a:b], prompt.query])
            if i:
                self.repeated += range(len(ids), len(ids) + prompt.start_tokens)
            context = len(row) - len(prompt.query)
            ids += row.tolist()
            position += range(len(row))
            owner += [i] * len(row)
            kind += [CONTEXT] * context + [QUERY_COPY] * len(prompt.query)
        start = max(len(prompt.prefix) + b - a for a, b in self.spans)
        tail = [*prompt.query.tolist(), *self.follow]
        ids += tail
        position += range(start, start + len(tail))
        owner += [-1] * len(tail)
        kind += [QUERY] * len(prompt.query) + [NEW] * len(self.follow)
        self.ids, self.position = torch.tensor(ids), torch.tensor(position)
        self.owner, self.kind = torch.tensor(owner), torch.tensor(kind)
        self.query_rows = [j for j, k in enumerate(kind) if k == QUERY]
        self.new_rows = [j for j, k in enumerate(kind) if k == NEW]

    @torch.inference_mode()
    def logits(self):
        """[1 + follow, V]."""

        def attend(module, query, key, value, _mask, **_):
            group = query.shape[1] // key.shape[1]
            scores = query[0] @ key[0].repeat_interleave(group, 0).transpose(1, 2) * query.shape[-1] ** -0.5
            seen = self.visible(module.layer_idx, scores, key.shape[1])
            p = scores.masked_fill(~seen, -math.inf).softmax(-1).nan_to_num(0.0)
            return (p @ value[0].repeat_interleave(group, 0)).transpose(0, 1)[None], None

        AttentionInterface.register("plain", attend)
        with interface.attention(self.runner.model, "plain"):
            out = self.runner.model(self.ids[None], position_ids=self.position[None]).logits[0]
        return out[self.query_rows[-1] :]

    def visible(self, layer, scores, kv_heads):
        """[H, S, S] bool: which keys each row sees, in the order in which things are decided."""
        heads, n = scores.shape[0], len(self.ids)
        index = torch.arange(n)
        tail = self.owner == -1
        inside = (self.owner == self.owner[:, None]) & (index <= index[:, None])
        seen = inside.expand(heads, n, n).clone()
        hidden = torch.zeros(heads, n, dtype=torch.bool)  # from the query and everything after it
        gone = torch.zeros(heads, n, dtype=torch.bool)  # no longer stored
        gone[:, (self.kind == QUERY_COPY)] = True
        for i in range(len(self.spans)):
            self._chunk(i, layer, scores, seen, hidden, gone, kv_heads)
        gone[:, self.repeated] = True
        seen[:, tail] |= ((self.kind == CONTEXT) & ~(gone | hidden)[:, None]).expand(heads, int(tail.sum()), n)
        self._query(layer, scores, seen, hidden, gone, kv_heads)
        return seen

    def _chunk(self, i, layer, scores, seen, hidden, gone, kv_heads):
        mine = self.owner == i
        rows = [j for j in range(len(mine)) if mine[j]]
        context = [j for j in rows if self.kind[j] == CONTEXT]
        queries = [j for j in rows if self.kind[j] == QUERY_COPY]
        rules = self.config.rules("chunk", layer)
        plain = seen.clone()
        for rule in sorted(rules, key=lambda r: not r.starts_now):
            window = queries[-rule.rows :]
            found = self._rule(rule, attention(scores, plain, window), [context] * len(scores), context)
            hidden |= found
            if rule.starts_now:
                seen[:, rows] &= ~found[:, None]
        evict = self.config.evict
        if evict is None or evict.when != "chunk":
            return
        mass = attention(scores, seen, rows[-evict.rows :]).sum(1)
        protected = set(context[: self.prompt.start_tokens])
        if not evict.pool_first and self.spans[i][0] > 0:
            mass[:, sorted(protected)] = -math.inf
        for heads in groups(mass.shape[0], kv_heads, evict.group):
            candidates = [j for j in context if not all(hidden[h, j] for h in heads)]
            kept = choose(
                mass[heads].sum(0), context, candidates, evict.keys_of(self._longest()), evict.pool, protected
            )
            for h in heads:
                gone[h, [j for j in context if j not in kept]] = True

    def _longest(self):
        return max(b - a for a, b in self.spans) + len(self.prompt.prefix)

    def _rule(self, rule, p, lines, candidates):
        """[H, S] bool; the zone is counted along the line of a head."""
        score, candidates = p.mean(1), set(candidates)  # [H, S]
        if rule.shared:
            score = score.mean(0, keepdim=True).expand_as(score)
        found = torch.zeros(score.shape, dtype=torch.bool)
        for h in range(len(score)):
            line, n = lines[h], len(lines[h])
            for place, j in enumerate(line):
                sink, recent = place < rule.width, place >= n - rule.width
                zone = {"all": True, "sink": sink, "recent": recent and not sink, "middle": not sink and not recent}
                found[h, j] = bool(zone[rule.zone] and j in candidates and score[h, j] > rule.threshold)
        if rule.fill:
            most = int(found.sum(1).max())
            for h in range(len(score)):
                rest = sorted((float(score[h, j]), j) for j in lines[h] if j in candidates and not found[h, j])
                for _, j in rest[: most - int(found[h].sum())]:
                    found[h, j] = True
        return found

    def _query(self, layer, scores, seen, hidden, gone, kv_heads):
        n = len(self.ids)
        chunks = [j for j in range(n) if self.kind[j] == CONTEXT]
        plain = seen | (hidden & ~gone)[:, None] & (self.owner == -1)[:, None]
        tail = [*self.query_rows, *self.new_rows]
        # a bit hides a key, a key that is gone is not in the line
        lines = [[*(j for j in chunks if not gone[h, j]), *self.query_rows] for h in range(len(scores))]
        rules = sorted(self.config.rules("global", layer), key=lambda r: not r.starts_now)
        for rule in rules:
            p = attention(scores, plain, self.query_rows[-rule.rows :])
            found = self._rule(rule, p, lines, [*chunks, *self.query_rows] if rule.query_keys else chunks)
            hidden |= found
            seen[:, tail if rule.starts_now else self.new_rows] &= ~found[:, None]
        evict = self.config.evict
        if evict is None or (evict.when == "chunk" and not evict.decode):
            return
        window = {h: [] for h in range(len(scores))}
        for heads in groups(len(scores), kv_heads, evict.group):
            line = lines[heads[0]]
            window = attention(scores, seen, self.query_rows[-evict.rows :])[heads]
            if evict.when == "query":
                some = evict.capacity
                budget = round(evict.share * len(line)) if some is None else len(self.spans) * some
                line = self._keep(line, window, heads, hidden, budget, evict)
                self._forget(seen, gone, heads, line, self.new_rows)
            self.kept.setdefault(layer, []).append(line)
            if not evict.decode:
                continue
            for t, row in enumerate(self.new_rows):
                window = torch.cat([window, attention(scores, seen, [row])[heads]], 1)[:, -evict.rows :]
                line = self._keep([*line, row], window, heads, hidden, len(line), evict)
                self._forget(seen, gone, heads, line, self.new_rows[t + 1 :], upto=row)

    def _keep(self, line, window, heads, hidden, budget, evict):
        mass = torch.where(hidden[heads], 0.0, window.sum(1)).sum(0)
        protected = set(line[-window.shape[1] :])
        protected |= set(line[: self.prompt.start_tokens])
        candidates = [j for j in line if not all(hidden[h, j] for h in heads)]
        kept = choose(mass, line, candidates, budget, evict.pool, protected)
        return [j for j in line if j in kept]

    def _forget(self, seen, gone, heads, line, rows, upto=None):
        last = self.query_rows[-1] if upto is None else upto
        for j in range(last + 1):
            if j not in line:
                for h in heads:
                    gone[h, j] = True
                    seen[h, rows, j] = False


def attention(scores, seen, rows):
    """[H, R, S] of some rows."""
    return scores[:, rows].masked_fill(~seen[:, rows], -math.inf).softmax(-1).nan_to_num(0.0)


def groups(heads, kv_heads, group):
    if group == "query_head":
        return [[h] for h in range(heads)]
    return [list(range(g * heads // kv_heads, (g + 1) * heads // kv_heads)) for g in range(kv_heads)]


def choose(mass, line, candidates, budget, pool, protected):
    """The keys of a line with the largest pooled mass; the first of equals."""
    score = {}
    for place, j in enumerate(line):
        near = line[max(0, place - pool // 2) : place + pool // 2 + 1]
        score[j] = math.inf if j in protected else max(float(mass[i]) for i in near)
    return set(sorted(candidates, key=lambda j: (-score[j], line.index(j)))[:budget])
