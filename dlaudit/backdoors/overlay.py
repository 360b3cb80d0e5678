"""Overlay inversion: for each class, how faint is the faintest pattern that, added to any input, calls it up?

Knows what ``inversion`` knows, of another form of trigger: blends and patterns over the whole input, which
a mask cannot uncover cheaply.
"""

from __future__ import annotations

from dlaudit.backdoors.inversion import Family, Inversion


class Overlay(Inversion, frozen=True, kw_only=True):
    """The faintest pattern that calls up each class when added to any input, and whether one is suspicious.

    For triggers that are blended in, or lie over the whole input. The cost is the pattern's Euclidean
    length in widths of the input's range (its ``central`` range in a table); criterion, seeds, halves and
    parameters are those of ``backdoors.inversion``.
    """

    @property
    def family(self) -> Family:
        """See ``Inversion.family``."""
        from dlaudit.backdoors.forms import Adding

        return Family(
            Adding(),
            "universal additive perturbation of least length (after Pixel, Tao et al. 2022, whose "
            "cost counts positions)",
            unit="widths of the input's range, Euclidean", made_of="change",
        )  # fmt: skip
