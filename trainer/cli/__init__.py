"""`spineone-train`."""

from trainer.cli.app import main

__all__ = ["main"]
