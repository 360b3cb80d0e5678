"""Turns a file or folder into a ``Dataset``: schema, groups, splits."""

from dlaudit.datasets.inference import infer

__all__ = ["infer"]
