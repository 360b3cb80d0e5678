"""Noise that stays a given number of decibels below the signal: the threat model of sounds.

Knows signals and their loudness; the search is that of projected gradient descent.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import msgspec

from dlaudit.attacks.base import IN_255, Norm, Terms, Threat
from dlaudit.attacks.pgd import PGD
from dlaudit.audit.parts import Batch, Epsilon
from dlaudit.audit.record import Scalar

if TYPE_CHECKING:
    from torch import Tensor

    from dlaudit.audit.bench import Bench


QUIET = [40.0, 30.0, 20.0]
"""Decibels, where neither a ratio nor a budget is given."""


class Audio(PGD, frozen=True, kw_only=True):
    """Projected gradient descent on signals, within a signal-to-noise ratio in decibels.

    snr: the least ratio that the attacker keeps to, a number or a curve of them. In l2 it is that of
    energies, 20 log10(‖x‖₂ / ‖delta‖₂); in linf that of peaks, minus the dB_x(delta) of Carlini &
    Wagner (2018). A signal's own norm is the unit of its budget: epsilon = 10^(-snr/20) follows from
    snr, and may be given in its place. A silent signal has no ratio: it is counted as left out and is
    in no other number.
    """

    measures: ClassVar[tuple[str, ...]] = (*PGD.measures, "left_out")
    proportions: ClassVar[tuple[str, ...]] = measures
    scales: ClassVar[bool] = False

    norm: Norm = "l2"
    snr: float | list[float] | None = None

    def __post_init__(self) -> None:
        """Refuse ratios that are none, and budgets that contradict them."""
        given = QUIET if self.snr is None and self.epsilon is IN_255 else self.snr
        if given is not None:
            ratios = given if isinstance(given, list) else [given]
            if not ratios or not all(math.isfinite(one) for one in ratios):
                message = f"snr: expected a number of decibels or a list of them, got {self.snr}"
                raise ValueError(message)
            budgets = Epsilon([10 ** (-one / 20) for one in ratios])
            if self.epsilon is not IN_255 and self.epsilon != budgets:
                message = f"epsilon: expected none beside snr, which says {budgets.plain}"
                raise ValueError(message)
            msgspec.structs.force_setattr(self, "epsilon", budgets)
        super().__post_init__()

    def terms(self, bench: Bench) -> Terms:
        """See ``Attack.terms``: the norm of each signal is the unit of its noise."""
        plain = super().terms(bench)

        def threat(batch: Batch, epsilon: float) -> Threat:
            loud = loudness(batch.x, self.norm).view(-1, *[1] * (batch.x.ndim - 1))
            return msgspec.structs.replace(plain.threat(batch, epsilon), scale=loud)

        return Terms(
            threat,
            applies=lambda batch: loudness(batch.x, self.norm) > 0,
            reason="a silent signal has no signal-to-noise ratio",
        )

    def conditions(self, epsilon: float) -> dict[str, Scalar]:
        """See ``Attack.conditions``; epsilon and steps are in units of each signal's own norm."""
        stated = super().conditions(epsilon)
        stated.pop("snr", None)
        return stated | ({"snr_db": round(-20 * math.log10(epsilon), 9)} if epsilon else {})


def loudness(x: Tensor, norm: Norm) -> Tensor:
    """(B, *signal) -> (B,) float64: the norm of each signal."""
    from dlaudit.attacks.ball import norm_of

    return norm_of(x.double().flatten(1), norm)
