"""Small nets in the shapes of well-known ones, built from scratch; none is trained."""

import torch
from torch import nn
from torch.nn import functional


class Residual(nn.Module):
    def __init__(self, inside, outside, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(outside), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.down = nn.Sequential() if stride == 1 else nn.Conv2d(inside, outside, 1, stride)

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + self.down(x))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(Residual(8, 8), Residual(8, 8))
        self.layer2 = nn.Sequential(Residual(8, 16, 2), Residual(16, 16))
        self.layer3 = nn.Sequential(Residual(16, 32, 2), Residual(32, 32))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(32, 5)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.flatten(self.avgpool(self.layer3(self.layer2(self.layer1(x)))), 1))


class VGG(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(16 * 64, 32), nn.ReLU(), nn.Linear(32, 5)
        )

    def forward(self, x):
        return self.classifier(self.features(x))


class MobileNet(nn.Module):
    """Depthwise blocks with ReLU6; a block before the pool, which is no module."""

    def __init__(self):
        super().__init__()

        def block(inside, outside, stride):
            return nn.Sequential(
                nn.Conv2d(inside, inside, 3, stride, 1, groups=inside), nn.BatchNorm2d(inside),
                nn.ReLU6(inplace=True), nn.Conv2d(inside, outside, 1), nn.BatchNorm2d(outside),
            )  # fmt: skip

        self.stem = nn.Conv2d(3, 8, 3, 1, 1)
        self.blocks = nn.Sequential(block(8, 16, 2), block(16, 32, 2), nn.ReLU6())
        self.head = nn.Linear(32, 5)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class DenseNet(nn.Module):
    """Concatenated features; the last ReLU is a function, as in the published code."""

    def __init__(self):
        super().__init__()

        class Dense(nn.Module):
            def __init__(self, inside):
                super().__init__()
                self.norm, self.conv = nn.BatchNorm2d(inside), nn.Conv2d(inside, 8, 3, padding=1)

            def forward(self, x):
                return torch.cat([x, self.conv(functional.relu(self.norm(x)))], 1)

        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), Dense(8), Dense(16), nn.AvgPool2d(2), Dense(24),
            nn.BatchNorm2d(32),
        )  # fmt: skip
        self.classifier = nn.Linear(32, 5)

    def forward(self, x):
        x = functional.relu(self.features(x))
        return self.classifier(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Block(nn.Module):
    """A transformer's block. explicit: q, k and v by a linear layer, else by torch's attention."""

    def __init__(self, width, *, explicit=False):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.explicit = explicit
        if explicit:
            self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.softmax = nn.Softmax(-1)
        else:
            self.attn = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def attend(self, x):
        if not self.explicit:
            return self.attn(x, x, x, need_weights=False)[0]
        n, count, width = x.shape
        q, k, v = self.qkv(x).reshape(n, count, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        weights = self.softmax(q @ k.transpose(-2, -1) / width**0.5)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, count, width))

    def forward(self, x):
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, *, pool="cls", extra=1, explicit=False):
        super().__init__()
        self.pool, self.extra = pool, extra
        self.patch_embed = nn.Conv2d(3, 16, 4, 4)
        self.tokens = nn.Parameter(torch.randn(1, extra, 16))
        self.pos = nn.Parameter(torch.randn(1, 64 + extra, 16))
        self.blocks = nn.Sequential(*[Block(16, explicit=explicit) for _ in range(2)])
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.tokens.expand(len(x), -1, -1), x], 1) + self.pos
        x = self.norm(self.blocks(x))
        return self.head(x[:, 0] if self.pool == "cls" else x[:, self.extra :].mean(1))


class Swin(nn.Module):
    """Grids with channels last, attention in windows, patches merged between the stages."""

    def __init__(self):
        super().__init__()

        class Windowed(nn.Module):
            def __init__(self, width):
                super().__init__()
                self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
                self.attn = nn.MultiheadAttention(width, 2, batch_first=True)
                self.mlp = nn.Sequential(
                    nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
                )

            def forward(self, x):
                n, h, w, c = x.shape
                y = self.norm1(x).reshape(n, h // 4, 4, w // 4, 4, c).transpose(2, 3)
                y = y.reshape(-1, 16, c)
                y = self.attn(y, y, y, need_weights=False)[0]
                y = y.reshape(n, h // 4, w // 4, 4, 4, c).transpose(2, 3).reshape(n, h, w, c)
                x = x + y
                return x + self.mlp(self.norm2(x))

        class Merging(nn.Module):
            def __init__(self, width):
                super().__init__()
                self.reduction = nn.Linear(4 * width, 2 * width)

            def forward(self, x):
                parts = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
                return self.reduction(torch.cat(parts, -1))

        self.patch_embed = nn.Conv2d(3, 16, 2, 2)
        self.layers = nn.Sequential(Windowed(16), Merging(16), Windowed(32))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 5)

    def forward(self, x):
        x = self.norm(self.layers(self.patch_embed(x).permute(0, 2, 3, 1)))
        return self.head(x.mean((1, 2)))


class ConvNeXt(nn.Module):
    def __init__(self):
        super().__init__()

        class Next(nn.Module):
            def __init__(self, width):
                super().__init__()
                self.dw, self.norm = (
                    nn.Conv2d(width, width, 3, 1, 1, groups=width),
                    nn.LayerNorm(width),
                )
                self.up, self.act, self.down = (
                    nn.Linear(width, 4 * width),
                    nn.GELU(),
                    nn.Linear(4 * width, width),
                )

            def forward(self, x):
                y = self.dw(x).permute(0, 2, 3, 1)
                return x + self.down(self.act(self.up(self.norm(y)))).permute(0, 3, 1, 2)

        self.stem = nn.Conv2d(3, 16, 4, 4)
        self.stages = nn.Sequential(Next(16), Next(16))
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


class Signal(nn.Module):
    """A net for sounds: (B, C, T)."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(1, 8, 9, 2, 4), nn.ReLU(), nn.Conv1d(8, 16, 9, 2, 4), nn.ReLU()
        )
        self.pool, self.head = nn.AdaptiveAvgPool1d(1), nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.pool(self.body(x)).flatten(1))


def perceptron():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 32), nn.ReLU(), nn.Linear(32, 5))


def strided():
    """Down to 2 x 2 by strides: the last grid of at least 4 x 4 lies in the middle."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 4, 1), nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4, 5),
    )  # fmt: skip
