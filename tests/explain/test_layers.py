"""The layer for Grad-CAM: right on nets of every well-known shape, none where there is none."""

import architectures as nets
import pytest
import torch
from torch import nn

from dlaudit.errors import NotExplained
from dlaudit.explain.layers import Places, chosen, named

TABLE = [
    # net, the right layer by hand, its form, grid, extra tokens
    ("ResNet", nets.ResNet, "layer3", Places("channels first", (8, 8))),
    ("VGG", nets.VGG, "features", Places("channels first", (8, 8))),
    ("MobileNet", nets.MobileNet, "blocks", Places("channels first", (8, 8))),
    ("DenseNet", nets.DenseNet, "features", Places("channels first", (16, 16))),
    ("ViT, class token", nets.ViT, "blocks.1.norm1", Places("tokens", (8, 8), 1)),
    (
        "ViT, class token, own attention",
        lambda: nets.ViT(explicit=True),
        "blocks.1.norm1",
        Places("tokens", (8, 8), 1),
    ),
    ("DeiT, two tokens", lambda: nets.ViT(extra=2), "blocks.1.norm1", Places("tokens", (8, 8), 2)),
    (
        "ViT, mean of the patches",
        lambda: nets.ViT(pool="mean", extra=0),
        "norm",
        Places("tokens", (8, 8), 0),
    ),
    (
        "ViT with registers, mean",
        lambda: nets.ViT(pool="mean", extra=5),
        "norm",
        Places("tokens", (8, 8), 5),
    ),
    ("Swin", nets.Swin, "norm", Places("channels last", (8, 8))),
    ("ConvNeXt", nets.ConvNeXt, "stages", Places("channels first", (8, 8))),
    ("strided to 2 x 2", nets.strided, "3", Places("channels first", (4, 4))),
]


def found(net, x):
    torch.manual_seed(0)
    module = net().eval()
    target = module(x).argmax(dim=1)
    return chosen(module, module, x, target)


def pictures():
    return torch.rand((4, 3, 32, 32), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "net", "layer", "places"), TABLE, ids=[one[0] for one in TABLE])
def test_the_layer_is_the_last_one_whose_places_matter(name, net, layer, places):
    assert found(net, pictures()) == (layer, places)


def test_a_net_without_places_has_no_layer():
    assert found(nets.perceptron, pictures()) is None


def test_a_net_that_ends_in_pictures_of_its_own_keeps_its_last_live_grid():
    class UNet(nn.Module):
        """Its logits are single pixels: the gradient lives nowhere else on the last grid."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 1)

        def forward(self, x):
            return self.conv(x)[..., 0, 0]

    assert found(UNet, pictures()) is None


def test_a_sound_has_a_layer_too():
    x = torch.rand((3, 1, 128), generator=torch.Generator().manual_seed(0))
    assert found(nets.Signal, x) == ("body", Places("channels first", (32,)))


def test_tokens_are_laid_on_their_grid_without_the_class_token():
    tokens = torch.arange(2 * 5 * 3.0).view(2, 5, 3)
    laid = Places("tokens", (2, 2), 1).arranged(tokens)
    assert laid.shape == (2, 3, 2, 2)
    assert laid[0, :, 1, 0].tolist() == tokens[0, 3].tolist()
    last = torch.rand(2, 4, 6, 3)
    assert torch.equal(Places("channels last", (4, 6)).arranged(last), last.permute(0, 3, 1, 2))


def test_a_named_layer_must_know_places():
    module = nets.VGG().eval()
    x = pictures()
    assert named(module, module, x, "features.0").places.grid == (32, 32)
    with pytest.raises(NotExplained, match=r"classifier.1.*There are: features"):
        named(module, module, x, "classifier.1")
