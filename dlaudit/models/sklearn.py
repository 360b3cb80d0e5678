"""Loads a scikit-learn classifier or pipeline from a skops archive.

Knows skops, classes and feature names; refuses pickles and every type that nobody vouched for. A
pipeline that was fitted on a table is given that table's raw columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaudit.audit.files import identity, named_file, refusal, said, sentence
from dlaudit.audit.parts import Batch, Dataset, Decisions, Model
from dlaudit.audit.record import Card
from dlaudit.errors import LoadError, NotOffered, UntrustedModel, nearest
from dlaudit.models import airlock
from dlaudit.models.black_box import BlackBox, as_array
from dlaudit.models.declared import checked_batch, checked_bounds, checked_classes, usable_inputs

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

BATCH = 4096
HARMLESS = {"numpy.dtype"}
"""Types that skops asks about although they hold no code: imputers keep the type of their column."""


def load(
    *,
    root: Path,
    path: str,
    bounds: list[Any] | None = None,
    classes: list[str] | None = None,
    trusted: list[str] | None = None,
    batch: int = BATCH,
) -> Model:
    """A scikit-learn classifier or pipeline (skops.io.dump).

    Probabilities, or else the decision function, become logits; a classifier that has neither gives
    decisions only. bounds: ``[low, high]`` of valid inputs. classes: names in the order of the
    classifier's ``classes_``. trusted: types in the archive, beyond those that skops knows, that you
    vouch for. Raises LoadError, or UntrustedModel naming the types.
    """
    limits, size = checked_bounds(bounds), checked_batch(batch)
    names = checked_classes(classes or [])
    file = named_file(root, path, expected="a skops archive")
    airlock.admit(
        file, accepts={"skops archive"}, expected="a skops archive (skops.io.dump(model, file))"
    )
    estimator = _opened(file, trusted or [])
    model = SklearnModel(estimator, file, bounds=limits, classes=names, batch=size)
    fingerprint, facts = identity({"model": file})
    model.card = Card(
        name=file.name,
        fingerprint=fingerprint,
        facts={
            **model.card.facts, **facts,
            "airlock": {"model": "skops archive" + (f", trusting {', '.join(trusted)}" if trusted else "")},
        },
    )  # fmt: skip
    return model


def _opened(file: Path, trusted: Sequence[str]) -> Any:
    """The object in the archive. Raises UntrustedModel naming the types nobody vouched for."""
    import skops.io

    try:
        asked = set(skops.io.get_untrusted_types(file=file))
    except Exception as error:
        raise refusal(
            file,
            expected="a whole skops archive",
            got=said(error),
            hint="Was the file copied to its end?",
        ) from error
    if unknown := sorted(asked - HARMLESS - set(trusted)):
        message = (
            f"{file}: expected types that skops knows to be harmless, got {', '.join(unknown)}. It was "
            f"not loaded. If you vouch for them, add trusted = {_listed(unknown)}."
        )
        raise UntrustedModel(message)
    try:
        with warnings.catch_warnings():
            # Written by another version of scikit-learn: the version stands in the facts instead.
            warnings.simplefilter("ignore")
            return skops.io.load(file, trusted=sorted(asked))
    except Exception as error:
        raise refusal(
            file, expected="an archive that this skops and scikit-learn can open", got=said(error)
        ) from error


def _listed(names: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


class SklearnModel(BlackBox):
    """A fitted classifier. With feature names, it is given a table's raw columns by name."""

    def __init__(
        self,
        estimator: Any,
        place: object,
        *,
        bounds: tuple[Any, Any] | None = None,
        classes: tuple[str, ...] = (),
        batch: int = BATCH,
    ) -> None:
        """estimator: with ``predict`` and ``classes_``. Raises LoadError for anything else."""
        self._estimator = estimator
        known = _classes_of(estimator, place)
        self._labels = {label: index for index, label in enumerate(known)}
        own = tuple(str(label) for label in known)
        self._indices = not classes and own == tuple(str(index) for index in range(len(own)))
        """Whether the labels are mere indices, which say nothing about names."""
        if classes and len(classes) != len(own):
            raise refusal(
                place, "classes", expected=f"{len(own)} names, one for each of {', '.join(own)}",
                got=str(len(classes)),
            )  # fmt: skip
        self._order: list[int] | None = None
        """Positions of the estimator's classes in the order of the data's, once both are known."""
        self.features = [str(name) for name in getattr(estimator, "feature_names_in_", [])]
        self._places: list[tuple[str, int, list[Any]]] | None = None
        """For each feature its name, its column in x, and the categories behind its codes."""
        self._method = _method(estimator, len(own))
        width = getattr(estimator, "n_features_in_", None)
        card = Card(
            name=type(estimator).__name__,
            fingerprint="",
            facts={
                "kind": _kind(estimator),
                "answers_by": self._method or "predict",
                "features": self.features or (int(width) if width is not None else None),
                "runtime": f"scikit-learn {_version()}",
            },
        )
        form = {"predict_proba": "probabilities", "decision_function": "logits"}
        super().__init__(
            self._raw, card=card, bounds=bounds, classes=() if self._indices else classes or own,
            batch=batch, form=form.get(self._method, "decisions"),
        )  # fmt: skip
        if self.features:  # without the data's own columns, nobody knows which column of x is which
            self.offers = frozenset({"decisions"})

    def meet(self, data: Dataset) -> None:
        """Match columns and classes with the data's. Raises LoadError naming what does not match."""
        self._match_classes(data.classes)
        facts = data.card.facts
        given = list(facts.get("features", []))
        if not self.features:
            usable_inputs(data, gaps=True)
            return
        raw = facts.get("columns", given)
        if raw and (missing := [name for name in self.features if name not in raw]):
            raise LoadError(
                *(
                    sentence(
                        data.card.name, f"column {name!r}", expected="a column, as in training",
                        got="none of this name", hint=nearest(name, raw),
                    )
                    for name in missing
                )
            )  # fmt: skip
        if all(name in given for name in self.features) and self._method:
            codes = facts.get("codes", {})
            self._places = [
                (name, given.index(name), codes.get(name, [])) for name in self.features
            ]
            if not facts.get("not_numbers"):
                self.offers = frozenset({"decisions", "logits"})

    def _match_classes(self, wanted: tuple[str, ...]) -> None:
        """Put the outputs in the order of the data's classes, where both have the same names."""
        if not wanted or self.classes == wanted:
            return
        if set(self.classes) == set(wanted):
            self._order = [self.classes.index(name) for name in wanted]
            self.classes = wanted
        elif not self._indices:
            raise refusal(
                self.card.name, "classes", expected=f"those of the data: {', '.join(wanted)}",
                got=", ".join(self.classes),
                hint="Name them in the model's order with classes = […].",
            )  # fmt: skip

    def logits(self, x: Any) -> Tensor:
        """See ``Model.logits``. Raises NotOffered where x cannot stand for the fitted columns."""
        if self.features and self._places is None:
            message = (
                f"{self.card.name} was fitted on named columns ({', '.join(self.features[:5])}, …): it "
                "answers rows of a table, not bare arrays"
            )
            raise NotOffered(message)
        return super().logits(x)

    def recognise(self, x: Any) -> str:
        """The form is known from the estimator; x is only answered where it can be."""
        if "logits" in self.offers:
            return super().recognise(x)
        return self._form

    def decide(self, batch: Batch) -> Decisions:
        """``predict`` decides; logits come along where there are probabilities or scores."""
        import numpy as np

        table = self._table(batch)
        predicted = np.asarray(self._estimator.predict(table)).reshape(-1)
        indices = np.array([self._labels[label] for label in predicted.tolist()], dtype=np.int64)
        self.passes.forward += len(indices)
        if self._order is not None:
            indices = np.argsort(self._order)[indices]
        if not self._method:
            return Decisions(predicted=indices)

        import torch

        from dlaudit.models.torch_model import as_logits

        given = torch.from_numpy(self._columns(self._scores(table)))
        return Decisions(predicted=indices, logits=as_logits(given, self._form).float().numpy())

    def _table(self, batch: Batch) -> Any:
        """What the estimator was fitted on: named columns, or x."""
        if not self.features:
            return as_array(batch.x)
        import pandas as pd

        if missing := [name for name in self.features if name not in batch.columns]:
            raise refusal(
                None, f"data: column {missing[0]!r}", expected="a column, as in training",
                got="none of this name", hint=nearest(missing[0], batch.columns),
            )  # fmt: skip
        return pd.DataFrame({name: batch.columns[name] for name in self.features})

    def _raw(self, x: np.ndarray) -> np.ndarray:
        """x: (B, F) -> (B, C), in the order of the classes."""
        return self._columns(self._scores(x if self._places is None else self._frame(x)))

    def _frame(self, x: np.ndarray) -> pd.DataFrame:
        """Named columns out of x, codes turned back into the categories that they stand for."""
        import numpy as np
        import pandas as pd

        columns: dict[str, Any] = {}
        for name, place, categories in self._places or []:
            column = x[:, place]
            if categories:
                codes = np.clip(np.rint(column), 0, len(categories) - 1).astype(np.int64)
                column = pd.Series([categories[code] for code in codes])
            columns[name] = column
        return pd.DataFrame(columns)

    def _scores(self, table: Any) -> np.ndarray:
        import numpy as np

        scores = np.asarray(getattr(self._estimator, self._method)(table))
        if scores.ndim == 1:  # a decision function of two classes: the score of the second
            scores = np.stack([np.zeros_like(scores), scores], axis=1)
        return scores

    def _columns(self, scores: np.ndarray) -> np.ndarray:
        return scores if self._order is None else scores[:, self._order]


def _classes_of(estimator: Any, place: object) -> list[Any]:
    """The labels of a fitted classifier. Raises LoadError for anything else."""
    import numpy as np

    classes = getattr(estimator, "classes_", None)
    if not hasattr(estimator, "predict") or classes is None:
        kind = type(estimator).__name__
        fitted = hasattr(estimator, "predict") and hasattr(estimator, "predict_proba")
        raise refusal(
            place, expected="a fitted classifier (with classes_)",
            got=f"{kind}, which was not fitted" if fitted else f"{kind}, which has no classes",
        )  # fmt: skip
    if not isinstance(classes, np.ndarray) or classes.ndim != 1 or len(classes) < 2:
        raise refusal(
            place, "classes_", expected="one list of at least two classes",
            got="several outputs" if isinstance(classes, list) else f"{np.size(classes)}",
        )  # fmt: skip
    return list(classes.tolist())


def _method(estimator: Any, classes: int) -> str:
    """How to ask for scores, or nothing where there is no score per class."""
    if hasattr(estimator, "predict_proba"):
        return "predict_proba"
    one_against_one = getattr(estimator, "decision_function_shape", "ovr") == "ovo" and classes > 2
    return (
        "decision_function"
        if hasattr(estimator, "decision_function") and not one_against_one
        else ""
    )


def _kind(estimator: Any) -> str:
    steps = getattr(estimator, "steps", None)
    return (
        " → ".join(type(step).__name__ for _, step in steps) if steps else type(estimator).__name__
    )


def _version() -> str:
    import sklearn

    return str(sklearn.__version__)
