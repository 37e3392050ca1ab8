"""A method inside a Hugging Face model: plain `generate` prefills with it and decodes over what it keeps."""

from pcbench.models.attach.attached import attach
from pcbench.models.attach.handle import Attached, Sizes

__all__ = ["Attached", "Sizes", "attach"]
