"""The only door to captum: the methods that it computes right, with its known traps handled.

Knows which of captum's methods are right for which question; never what a map is used for. Explains
logits, never probabilities: a saturated softmax has a gradient of exactly 0.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from dlaudit.audit.parts import Request
from dlaudit.errors import NotExplained
from dlaudit.explain.nonlinearities import performed

DEEP_LIFT = {"relu", "leaky_relu", "elu", "sigmoid", "tanh", "softplus", "softmax", "max_pool"}
"""Operations that captum's DeepLift has a rule for, where a module performs them."""
NO_RULE = {"gelu", "silu", "hardswish", "relu6", "layer_norm", "attention"}


def integrated_gradients(request: Request, steps: int) -> Tensor:
    """Gradients integrated from the baseline to the input (Sundararajan et al. 2017), Gauss-Legendre."""
    from captum.attr import IntegratedGradients

    # Without internal_batch_size captum would send rows x steps inputs through the net at once.
    return _tensor(
        IntegratedGradients(request.answer).attribute(
            request.x, baselines=request.baseline, target=request.target, n_steps=steps,
            internal_batch_size=max(request.batch, len(request.x)),
        )
    )  # fmt: skip


def saliency(request: Request) -> Tensor:
    """The gradient itself, with its sign (Simonyan et al. 2014)."""
    from captum.attr import Saliency

    return _tensor(Saliency(request.answer).attribute(request.x, target=request.target, abs=False))


def input_x_gradient(request: Request) -> Tensor:
    """Gradient times input (Shrikumar et al. 2016)."""
    from captum.attr import InputXGradient

    return _tensor(InputXGradient(request.answer).attribute(request.x, target=request.target))


def deep_lift(request: Request) -> Tensor:
    """DeepLift with the rescale rule (Shrikumar et al. 2017).

    Raises NotExplained where an activation is no module of its own or has no rule: captum would give a
    map that does not add up, without a word.
    """
    from captum.attr import DeepLift

    module = _module(request)
    seen = performed(request.answer, module, request.x)
    if reused := seen.reused:
        message = (
            f"deep_lift: the module {reused[0]} is called more than once, and DeepLift keeps one "
            "activation for each: expected a module for every call; integrated_gradients needs none"
        )
        raise NotExplained(message)
    if wrong := [*seen.outside(DEEP_LIFT), *sorted(NO_RULE & set(seen.graph))]:
        message = (
            f"deep_lift: {wrong[0]} is performed outside a module or has no rescale rule: expected "
            "activations as modules out of ReLU, LeakyReLU, ELU, Sigmoid, Tanh, Softplus, Softmax "
            "and MaxPool; integrated_gradients needs no rules"
        )
        raise NotExplained(message)
    with _quiet():
        return _tensor(
            DeepLift(module).attribute(request.x, baselines=request.baseline, target=request.target)
        )


def guided_backprop(request: Request) -> Tensor:
    """Gradients of which each ReLU passes on the positive only (Springenberg et al. 2015).

    Raises NotExplained where a ReLU is no module: captum would give the plain gradient in silence.
    """
    from captum.attr import GuidedBackprop

    module = _module(request)
    seen = performed(request.answer, module, request.x)
    others = (DEEP_LIFT | NO_RULE) - {"relu", "max_pool", "layer_norm", "softmax"}
    wrong = [*seen.outside({"relu"}), *sorted(others & set(seen.graph))]
    if wrong or not seen.modules["relu"]:
        message = (
            f"guided_backprop: {wrong[0] if wrong else 'no activation'} is performed where a ReLU "
            "module was expected; without one in every place the map is the plain gradient: use "
            "saliency"
        )
        raise NotExplained(message)
    if seen.reused:
        message = (
            f"guided_backprop: the module {seen.reused[0]} is called more than once: expected a ReLU "
            "module for every call"
        )
        raise NotExplained(message)
    with _quiet():
        return _tensor(GuidedBackprop(module).attribute(request.x, target=request.target))


def occlusion(request: Request, window: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
    """What the logit loses when a window of the input shows the baseline (Zeiler & Fergus 2014)."""
    from captum.attr import Occlusion

    rows = max(1, request.batch // len(request.x))
    return _tensor(
        Occlusion(request.answer).attribute(
            request.x, sliding_window_shapes=window, strides=strides, baselines=request.baseline,
            target=request.target, perturbations_per_eval=rows,
        )
    )  # fmt: skip


def _module(request: Request) -> nn.Module:
    """The module, which the method's needs say that there is."""
    if request.module is None:
        message = "this method opens the model: expected a torch module"
        raise NotExplained(message)
    return request.module


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """captum warns each time that it sets hooks, which it removes again."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Setting (forward|backward)", category=UserWarning
        )
        yield


def _tensor(maps: Any) -> Tensor:
    """One map per row: captum answers a tuple where it was given one, and it is given a tensor."""
    one: Tensor = maps[0] if isinstance(maps, tuple) else maps
    return one
