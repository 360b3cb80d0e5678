"""Questions to explainers, asked directly."""

import torch

from dlaudit.audit.parts import Request
from dlaudit.audit.registry import Registry

REGISTRY = Registry()


def by(name, **given):
    """The explainer called so."""
    return REGISTRY.find("explainers", name).get()(**given)


def request(module, x, target, *, baseline=None, batch=64, pixels=None, references=None, seed=0):
    """module: of the (B, C) logits. baseline: like one input, 0 if None."""
    baseline = torch.zeros_like(x[0]) if baseline is None else baseline
    return Request(
        module, module if isinstance(module, torch.nn.Module) else None, x, torch.as_tensor(target),
        baseline.expand_as(x), x if references is None else references,
        x.ndim == 4 if pixels is None else pixels, batch, torch.Generator().manual_seed(seed),
    )  # fmt: skip
