"""Turns a file into a ``Model``: one module per format, and ``airlock`` to say what may be loaded."""

from dlaudit.models.inference import infer

__all__ = ["infer"]
