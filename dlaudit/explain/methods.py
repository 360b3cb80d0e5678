"""The methods that ship, each an ``Explainer``: what they need, what they promise, what they are called.

Knows their names and parameters; how each is computed stands in the module that it asks. Imports no
torch: methods are listed where nothing is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec
from msgspec import Meta

from dlaudit.audit.parts import Explainer, Request
from dlaudit.audit.record import Cost
from dlaudit.errors import NotExplained, nearest
from dlaudit.explain.controls import Centre, Distance, Edges, Noise

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from dlaudit.explain.layers import Layer

Count = Annotated[int, Meta(ge=1)]
SAMPLE = 16
"""Inputs on which a layer is chosen."""
CELLS = 8
"""Occlusion hides a side's eighth at a time."""


class IntegratedGradients(Explainer, frozen=True, kw_only=True):
    """Integrated Gradients: slopes along the straight way from the baseline, times the way."""

    complete: ClassVar[bool] = True
    based: ClassVar[bool] = True

    steps: Count = 50

    def attribute(self, request: Request) -> Tensor:
        """See ``Explainer.attribute``."""
        from dlaudit.explain.via_captum import integrated_gradients

        return integrated_gradients(request, self.steps)

    def passes(self, *, positions: int) -> Cost:
        """One forward and one backward pass for each step."""
        del positions
        return Cost(forward=self.steps, backward=self.steps)


class Saliency(Explainer, frozen=True, kw_only=True):
    """The gradient of the logit, with its sign."""

    local: ClassVar[bool] = True

    def attribute(self, request: Request) -> Tensor:
        """See ``Explainer.attribute``."""
        from dlaudit.explain.via_captum import saliency

        return saliency(request)


class InputXGradient(Explainer, frozen=True, kw_only=True):
    """Gradient times input."""

    def attribute(self, request: Request) -> Tensor:
        """See ``Explainer.attribute``."""
        from dlaudit.explain.via_captum import input_x_gradient

        return input_x_gradient(request)


class SmoothGrad(Explainer, frozen=True, kw_only=True):
    """The gradient, averaged over inputs with noise. noise: its sd as a share of the inputs' range."""

    local: ClassVar[bool] = True

    draws: Count = 25
    noise: Annotated[float, Meta(gt=0)] = 0.15

    def attribute(self, request: Request) -> Tensor:
        """See ``Explainer.attribute``."""
        from dlaudit.explain.slopes import smooth_gradient

        among = request.references
        sd = self.noise * float(among.max() - among.min())
        return smooth_gradient(
            request.answer, request.x, request.target, draws=self.draws, sd=sd,
            generator=request.generator,
        )  # fmt: skip

    def passes(self, *, positions: int) -> Cost:
        """One forward and one backward pass for each draw."""
        del positions
        return Cost(forward=self.draws, backward=self.draws)


class ExpectedGradients(Explainer, frozen=True, kw_only=True):
    """Integrated Gradients on average over other inputs as baselines. draws: points of ways."""

    draws: Count = 50

    def attribute(self, request: Request) -> Tensor:
        """See ``Explainer.attribute``."""
        from dlaudit.explain.slopes import expected_gradient

        return expected_gradient(
            request.answer, request.x, request.target, request.references, draws=self.draws,
            generator=request.generator,
        )  # fmt: skip

    def passes(self, *, positions: int) -> Cost:
        """One forward and one backward pass for each draw."""
        del positions
        return Cost(forward=self.draws, backward=self.draws)


class DeepLift(Explainer, frozen=True, kw_only=True):
    """DeepLift with the rescale rule, for nets whose activations are modules."""

    complete: ClassVar[bool] = True
    based: ClassVar[bool] = True

    def attribute(self, request: Request) -> Tensor:
        """See ``Explainer.attribute``."""
        from dlaudit.explain.via_captum import deep_lift

        return deep_lift(request)

    def passes(self, *, positions: int) -> Cost:
        """Input and baseline go through together."""
        del positions
        return Cost(forward=2, backward=2)


class GuidedBackprop(Explainer, frozen=True, kw_only=True):
    """Gradients of which each ReLU passes on the positive only."""

    local: ClassVar[bool] = True

    def attribute(self, request: Request) -> Tensor:
        """See ``Explainer.attribute``."""
        from dlaudit.explain.via_captum import guided_backprop

        return guided_backprop(request)


class LRP(Explainer, frozen=True, kw_only=True):
    """Layer-wise relevance, for chains of modules. gamma: how much convolutions favour the positive."""

    gamma: Annotated[float, Meta(ge=0)] = 0.25

    def attribute(self, request: Request) -> Tensor:
        """See ``Explainer.attribute``."""
        from dlaudit.explain.relevance import relevance

        module = _module(request)
        return relevance(request.answer, module, request.x, request.target, gamma=self.gamma).maps

    def passes(self, *, positions: int) -> Cost:
        """The chain goes through the net once; layer by layer backwards is not counted by the net."""
        del positions
        return Cost(forward=1, backward=0)


class GradCAM(Explainer, frozen=True, kw_only=True):
    """Grad-CAM: a layer's channels weighted by their mean gradient. layer: its name, found if empty."""

    layer: str = ""

    def attribute(self, request: Request) -> Tensor:
        """See ``Explainer.attribute``."""
        from dlaudit.explain.class_activation import grad_cam

        layer = self._layer(request)
        cam = grad_cam(request.answer, _module(request), request.x, request.target, layer)
        # Each channel of the input gets an equal part: a pixel's channels add up to its map.
        return (cam[:, None] / request.x.shape[1]).expand_as(request.x).clone()

    def fitted(self, request: Request) -> Explainer:
        """With the layer that is chosen on the model as it is."""
        return msgspec.structs.replace(self, layer=self._layer(request).name)

    def _layer(self, request: Request) -> Layer:
        from dlaudit.explain import layers

        if request.x.ndim not in {3, 4}:
            message = f"grad_cam: expected inputs with channels and places, got {tuple(request.x.shape[1:])}"
            raise NotExplained(message)
        module, x, target = _module(request), request.x[:SAMPLE], request.target[:SAMPLE]
        if self.layer:
            return layers.named(request.answer, module, x, self.layer)
        found = layers.chosen(request.answer, module, x, target)
        if found is None:
            message = (
                "grad_cam: no layer keeps a grid of at least 4 x 4 places on which the logit depends; "
                "integrated_gradients needs no such layer"
            )
            raise NotExplained(message)
        return found


class AttentionRollout(Explainer, frozen=True, kw_only=True):
    """Attention multiplied up along a transformer's layers; the same map for every class."""

    def attribute(self, request: Request) -> Tensor:
        """See ``Explainer.attribute``."""
        from dlaudit.explain.rollout import rollout

        return rollout(request)


class Occlusion(Explainer, frozen=True, kw_only=True):
    """What the logit loses when a window shows the baseline; works on black boxes.

    window: a window's side in pixels, a side's eighth if 0; one column of other inputs.
    """

    needs: ClassVar[tuple[str, ...]] = ("logits",)
    based: ClassVar[bool] = True

    window: Annotated[int, Meta(ge=0)] = 0

    def attribute(self, request: Request) -> Tensor:
        """See ``Explainer.attribute``."""
        from dlaudit.explain.via_captum import occlusion

        shape = tuple(request.x.shape[1:])
        if not request.pixels:
            ones = (1,) * len(shape)
            return occlusion(request, ones, ones)
        sides = tuple(min(side, self.window or max(1, side // CELLS)) for side in shape[-2:])
        window = (*shape[:-2], *sides)
        # captum gives every number of a window the whole difference: a pixel's channels share it.
        channels = request.x[0, ..., 0, 0].numel()
        return occlusion(request, window, (*shape[:-2], *sides)) / channels

    def passes(self, *, positions: int) -> Cost:
        """One for each window, and one for the input."""
        windows = min(positions, CELLS * CELLS) if not self.window else positions
        return Cost(forward=windows + 1, backward=0)


class KernelSHAP(Explainer, frozen=True, kw_only=True):
    """Shapley values of columns or of a picture's cells; works on black boxes.

    cells: of a picture, per side. coalitions: asked at most; where they are all, the values are exact.
    """

    needs: ClassVar[tuple[str, ...]] = ("logits",)
    complete: ClassVar[bool] = True
    based: ClassVar[bool] = True

    cells: Count = 4
    coalitions: Annotated[int, Meta(ge=4)] = 512

    def attribute(self, request: Request) -> Tensor:
        """See ``Explainer.attribute``."""
        import numpy as np
        import torch

        from dlaudit.explain.shapley import shapley_values

        player = players_of(request, self.cells)
        count = int(player.max()) + 1
        places = torch.as_tensor(player, device=request.x.device)

        def worth(asked: np.ndarray) -> np.ndarray:
            return _worth(request, places, asked)

        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=request.generator)))
        try:
            values = shapley_values(worth, count, coalitions=self.coalitions, rng=rng)
        except ValueError as error:
            message = f"kernel_shap: {error}; fewer cells or columns, or more coalitions"
            raise NotExplained(message) from error
        size = torch.bincount(places.flatten(), minlength=count)
        shares = torch.as_tensor(values).to(request.x) / size.to(request.x)
        return shares[:, places.flatten()].reshape(request.x.shape)

    def passes(self, *, positions: int) -> Cost:
        """One for each coalition, all or as many as may be asked."""
        return Cost(forward=min(2 ** min(positions, 40), self.coalitions), backward=0)


def players_of(request: Request, cells: int) -> np.ndarray:
    """Like one input: which player each number belongs to. A picture's cells, else every number."""
    import numpy as np

    shape = tuple(request.x.shape[1:])
    if not request.pixels:
        return np.arange(int(np.prod(shape))).reshape(shape)
    height, width = shape[-2:]
    down, across = min(cells, height), min(cells, width)
    rows, columns = np.indices((height, width))
    grid = (rows * down // height) * across + columns * across // width
    return np.broadcast_to(grid, shape).copy()


def _worth(request: Request, places: Tensor, asked: np.ndarray) -> np.ndarray:
    """(m, n) logits of the targets where only some players show the input, in portions of rows."""
    import numpy as np
    import torch

    n, found = len(request.x), []
    at_once = max(1, request.batch // n)
    for start in range(0, len(asked), at_once):
        some = torch.as_tensor(asked[start : start + at_once], device=request.x.device)
        shown = some[:, places.flatten()].reshape(len(some), 1, *request.x.shape[1:])
        mixed = torch.where(shown, request.x[None], request.baseline[None])
        with torch.no_grad():
            logits = request.answer(mixed.reshape(-1, *request.x.shape[1:]))
        chosen = logits.reshape(len(some), n, -1).gather(
            2, request.target[None, :, None].expand(len(some), n, 1)
        )
        found.append(chosen[..., 0].double().cpu().numpy())
    return np.concatenate(found)


def _module(request: Request) -> nn.Module:
    """The module, which a method's needs say that there is."""
    if request.module is None:
        message = "this method opens the model: expected a torch module"
        raise NotExplained(message)
    return request.module


SHIPPED: Mapping[str, type[Explainer]] = MappingProxyType(
    {
        "integrated_gradients": IntegratedGradients, "saliency": Saliency,
        "smooth_grad": SmoothGrad, "input_x_gradient": InputXGradient,
        "expected_gradients": ExpectedGradients, "deep_lift": DeepLift,
        "guided_backprop": GuidedBackprop, "lrp": LRP, "grad_cam": GradCAM,
        "attention_rollout": AttentionRollout,
        "occlusion": Occlusion, "kernel_shap": KernelSHAP,
        "edges": Edges, "distance": Distance, "centre": Centre, "noise": Noise,
    }
)  # fmt: skip
"""Every method that ships by the name of its entry point; a guest's name has a dot."""


def known_methods(methods: Sequence[str]) -> None:
    """Raise ValueError for none at all, and for a name without a dot that does not ship.

    A guest's name has a dot; whether it is installed is known where it is run.
    """
    if not methods:
        message = "methods: expected at least one, got none"
        raise ValueError(message)
    for method in methods:
        if "." not in method and method not in SHIPPED:
            message = f"methods: no explainer is called {method!r}. {nearest(method, SHIPPED)}"
            raise ValueError(message)
