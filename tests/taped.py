"""A CUDA graph on a CPU: ops of a call that are made again on the same tensors, whatever Python would do now."""

from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pcbench.measure import steps
from pcbench.measure.steps import NotCaptured, StepLog


class Tape(TorchDispatchMode):
    """Keeps every op with its tensors."""

    def __init__(self):
        super().__init__()
        self.made, self.before = [], {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for x, argument in zip(args, func._schema.arguments, strict=False):
            if isinstance(x, torch.Tensor) and argument.is_write:
                storage = x.untyped_storage()
                self.before.setdefault(storage.data_ptr(), (storage, storage.clone()))
        out = func(*args, **(kwargs or {}))
        self.made.append((func, args, kwargs or {}, out))
        return out

    def undo(self):
        """What the ops have changed is as it was before them."""
        for storage, before in self.before.values():
            storage.copy_(before)

    def replay(self):
        """Computes all of it once more, in place."""
        for func, args, kwargs, before in self.made:
            now = func(*args, **kwargs)
            for old, new in zip(tree_leaves(before), tree_leaves(now), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def capture(call, device, beside=None):
    """As of `pcbench.measure.steps`: the call computes nothing that stays, its graph does."""
    tape, log = Tape(), StepLog(device)
    with patch("torch.cuda.is_current_stream_capturing", lambda: True), log, tape:
        found = call()
    if log.waits:
        raise NotCaptured(log.waits[0])
    tape.undo()
    return found, tape


@contextmanager
def graphs():
    """Steps on a CPU are replayed inside."""
    with patch.object(steps, "capture", capture), patch.object(steps, "are_replayed", lambda device: True):
        yield
