"""How a model's keys turn with their position: measured, and with other frequencies."""

from pcbench.models.rotary.measured import ModelRotary, measure_rotary
from pcbench.models.rotary.scaling import Swapped, scaled, swap, swapped

__all__ = ["ModelRotary", "Swapped", "measure_rotary", "scaled", "swap", "swapped"]
