"""A method inside a Hugging Face model: plain `generate` prefills with it and decodes over what stayed."""

from pcbench.models.attach.attached import Attached, Sizes, attach

__all__ = ["Attached", "Sizes", "attach"]
