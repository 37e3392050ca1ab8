"""The processes of a run: ranks of a torchrun, children, and who holds the folder."""
