"""transformers' own growing cache with room behind what it holds, so that a new token copies nothing."""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

__all__ = ["give_room"]

# rows behind the held ones, whenever there are none left
ROOM = 256


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values [B, Hkv, S, D] of a layer as views of the first rows of larger arrays.

    Attention reads the views, so that SDPA needs no mask and may take any of its kernels.

    Args:
        layer: whose keys and values it goes on with.
    """

    def __init__(self, layer: DynamicLayer) -> None:
        super().__init__()
        self.__dict__ |= vars(layer)
        self.arrays: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Writes [B, Hkv, T, D] behind what is held, in place while there is room; all that is held then."""
        new, held = (key_states, value_states), (self.keys, self.values)
        first, end = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
        # whoever has put other keys in their place has put them elsewhere
        known = [x.data_ptr() for x in self.arrays] == [x.data_ptr() for x in held]
        if not known or end > self.arrays[0].shape[2]:
            self.arrays = [
                torch.cat([x, y, y.new_empty(*y.shape[:2], ROOM, y.shape[3])], 2)
                for x, y in zip(held, new, strict=True)
            ]
        else:
            for array, rows in zip(self.arrays, new, strict=True):
                array[:, :, first:end] = rows
        self.keys, self.values = (array[:, :, :end] for array in self.arrays)
        return self.keys, self.values


def give_room(cache: Any) -> None:
    """Layers of a filled cache that keep every token go on with room; windows, which never grow, stay as they are."""
    cache.layers = [
        RoomyLayer(layer) if type(layer) is DynamicLayer and layer.is_initialized else layer for layer in cache.layers
    ]
