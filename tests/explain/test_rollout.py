"""Attention rollout: the product by hand, weights that torch shows and hides, and refusals in words."""

import math

import architectures as nets
import numpy as np
import pytest
import torch
from asking import by, request
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from dlaudit.errors import NotExplained
from dlaudit.explain.explaining import attributions
from dlaudit.explain.rollout import rolled

LENGTH, WIDTH = 6, 8


def test_two_layers_by_hand():
    first = torch.tensor([[[0.0, 1.0], [0.5, 0.5]]])
    second = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    # Half of token 1 stays, half looks at token 0: (1/2, 1/2). Layer one: token 0 gives half to token 1.
    by_hand = [0.5 * 0.5 + 0.5 * 0.25, 0.5 * 0.5 + 0.5 * 0.75]
    found = rolled([first, second], torch.tensor([[0.0, 1.0]]))
    assert found[0].tolist() == pytest.approx(by_hand)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), layers=st.integers(1, 5), count=st.integers(2, 9))
def test_rollout_is_the_product_of_the_published_matrices_and_loses_nothing(seed, layers, count):
    """Abnar & Zuidema's own way: matrices first, the class token's row last."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(count), size=(layers, 3, count))
    product = np.stack([np.eye(count)] * 3)
    for one in weights:
        product = (0.5 * one + 0.5 * np.eye(count)) @ product
    start = torch.zeros(3, count, dtype=torch.float64)
    start[:, 0] = 1
    found = rolled([torch.as_tensor(one) for one in weights], start).numpy()
    assert np.allclose(found, product[:, 0])
    assert found.sum(axis=1) == pytest.approx(np.ones(3))


class Attending(nn.Module):
    """One layer in each way that attention is written; queries and keys are given, values too."""

    def __init__(self, way, *, causal=False):
        super().__init__()
        self.way, self.causal = way, causal
        torch.manual_seed(3)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x):
        mask = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril() if self.causal else None
        if self.way == "module":
            turned = None if mask is None else ~mask
            made = self.attention(x, x, x, attn_mask=turned, need_weights=False)[0]
            return self.head(made[:, 0] if mask is None else made[:, -1])
        part = functional.linear(x, self.attention.in_proj_weight, self.attention.in_proj_bias)
        q, k, v = part.reshape(len(x), LENGTH, 3, 2, WIDTH // 2).permute(2, 0, 3, 1, 4)
        if self.way == "fused":
            made = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        else:
            score = q @ k.transpose(-2, -1) / math.sqrt(WIDTH // 2)
            if mask is not None:
                score = score.masked_fill(~mask, -math.inf)
            made = torch.softmax(score, -1) @ v
        made = self.attention.out_proj(made.transpose(1, 2).reshape(len(x), LENGTH, WIDTH))
        return self.head(made[:, 0] if mask is None else made[:, -1])


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_read_however_it_is_written(causal):
    """The module hides its weights (need_weights = False), and the fused function never makes them."""
    x = torch.randn((5, LENGTH, WIDTH), generator=torch.Generator().manual_seed(0))
    module = Attending("module", causal=causal).eval()
    mask = ~torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril() if causal else None
    weights = module.attention(x, x, x, attn_mask=mask, need_weights=True)[1].detach()
    at = LENGTH - 1 if causal else 0
    by_hand = 0.5 * weights[:, at]
    by_hand[:, at] += 0.5
    for way in ("module", "fused", "softmax"):
        one = Attending(way, causal=causal).eval()
        asked = request(one, x, [0, 1, 2, 0, 1], pixels=False)
        found = attributions(by("attention_rollout"), asked)
        assert torch.allclose(found.sum(dim=2), by_hand, atol=1e-6), way
        assert torch.allclose(found[..., 0], found[..., 1])


def test_torchs_fast_path_shows_its_weights_too():
    """In eval mode without gradients a TransformerEncoder attends inside one compiled call."""
    torch.manual_seed(0)

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True)
            self.body = nn.TransformerEncoder(layer, 2)
            self.head = nn.Linear(WIDTH, 3)

        def forward(self, x):
            return self.head(self.body(x).mean(dim=1))

    module = Encoder().eval().requires_grad_(requires_grad=False)
    x = torch.randn((4, LENGTH, WIDTH), generator=torch.Generator().manual_seed(1))
    logits = module(x)
    found = attributions(by("attention_rollout"), request(module, x, [0] * 4, pixels=False))
    assert torch.allclose(found.sum(dim=(1, 2)), torch.ones(4), atol=1e-5)
    assert float(found.sum(dim=2).std(dim=1).min()) > 0
    assert torch.equal(module(x), logits)


@pytest.mark.parametrize(
    ("net", "extra"),
    [
        (nets.ViT, 1),
        (lambda: nets.ViT(explicit=True), 1),
        (lambda: nets.ViT(extra=2), 2),
        (lambda: nets.ViT(pool="mean", extra=0), 0),
        (lambda: nets.ViT(pool="mean", extra=5), 5),
    ],
)
def test_a_pictures_patches_lie_where_they_were_cut(net, extra):
    """Patches that nobody looks at but one: the map's largest value lies on that patch."""
    torch.manual_seed(0)
    module = net().eval()
    x = torch.rand((3, 3, 32, 32), generator=torch.Generator().manual_seed(2))
    found = attributions(by("attention_rollout"), request(module, x, [0, 1, 2]))
    assert found.shape == x.shape
    assert torch.allclose(found[:, 0], found[:, 2])
    # What goes to the tokens that are no patch is on no pixel: a patch is 16 pixels wide and high.
    mass = found.sum(dim=(1, 2, 3)) / 16
    assert bool((mass < 1.02).all())
    assert bool((mass > (0.9 if not extra else 0.2)).all())


def test_the_token_that_the_logit_reads_is_found_by_its_slope():
    class Reading(Attending):
        """Reads its third token."""

        def forward(self, x):
            made = self.attention(x, x, x, need_weights=False)[0]
            return self.head(made[:, 3])

    module = Reading("module").eval()
    x = torch.randn((2, LENGTH, WIDTH), generator=torch.Generator().manual_seed(0))
    weights = module.attention(x, x, x)[1].detach()
    found = attributions(by("attention_rollout"), request(module, x, [0, 1], pixels=False))
    by_hand = 0.5 * weights[:, 3] + 0.5 * torch.eye(LENGTH)[3]
    assert torch.allclose(found.sum(dim=2), by_hand, atol=1e-6)


class Crossed(nn.Module):
    """Looks at tokens of its own making."""

    def __init__(self):
        super().__init__()
        self.asked = nn.Parameter(torch.randn(1, 2, WIDTH))
        self.attention, self.head = (
            nn.MultiheadAttention(WIDTH, 2, batch_first=True),
            nn.Linear(8, 3),
        )

    def forward(self, x):
        asked = self.asked.expand(len(x), -1, -1)
        return self.head(self.attention(asked, x, x, need_weights=False)[0].mean(1))


@pytest.mark.parametrize(
    ("net", "shape", "words"),
    [
        (nets.ResNet, (2, 3, 32, 32), "no attention was seen"),
        (nets.Swin, (2, 3, 32, 32), "windows"),
        (Crossed, (2, LENGTH, WIDTH), "another sequence"),
    ],
)
def test_what_cannot_be_multiplied_up_is_refused_in_words(net, shape, words):
    torch.manual_seed(0)
    with pytest.raises(NotExplained, match=words):
        attributions(by("attention_rollout"), request(net().eval(), torch.rand(shape), [0, 1]))
