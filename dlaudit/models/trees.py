"""Loads boosted trees from the files that XGBoost, LightGBM and CatBoost write themselves.

Knows these libraries, and how their raw scores stand for classes; refuses pickles of their models. The
files are data: their readers run no code of the file's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dlaudit.audit.files import identity, named_file, refusal, said
from dlaudit.audit.parts import Model
from dlaudit.audit.record import Card
from dlaudit.datasets.cells import plain
from dlaudit.models import airlock
from dlaudit.models.declared import checked_batch, checked_bounds, checked_classes

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.parts import Dataset

BATCH = 4096
FORMS = {
    "binary:logistic": "logit", "binary:logitraw": "logit", "multi:softprob": "logits",
    "multi:softmax": "logits", "binary": "logit", "multiclass": "logits",
    "Logloss": "logit", "CrossEntropy": "logit", "MultiClass": "logits",
}  # fmt: skip
"""Objective of training -> what its raw scores are."""

QUANTITIES = (
    "reg:",
    "count:",
    "regression",
    "poisson",
    "quantile",
    "huber",
    "fair",
    "mape",
    "gamma",
    "tweedie",
    "RMSE",
    "MAE",
    "Quantile",
    "MAPE",
    "Huber",
    "LogCosh",
)
"""Objectives whose predictions are numbers, by how they begin."""


class Opened(NamedTuple):
    """score: (B, F) -> raw scores; value: (B, F) -> predictions; width: features; met: as of ``BlackBox``."""

    score: Callable[[np.ndarray], np.ndarray]
    value: Callable[[np.ndarray], np.ndarray]
    objective: str
    width: int
    runtime: str
    met: Callable[[Dataset], None] | None = None


def load_xgboost(
    *,
    root: Path,
    path: str,
    bounds: list[Any] | None = None,
    classes: list[str] | None = None,
    batch: int = BATCH,
) -> Model:
    """A booster that XGBoost saved (``.json`` or ``.ubj``; with the extra ``xgboost``).

    Inputs are arrays, columns in the order of training; empty cells are NaN. Margins become logits; an
    objective of regression predicts values. bounds: ``[low, high]`` of valid inputs. Raises LoadError.
    """
    return _loaded(
        root, path, bounds, classes, batch, _xgboost, "a model saved by XGBoost (.json, .ubj)"
    )


def load_lightgbm(
    *,
    root: Path,
    path: str,
    bounds: list[Any] | None = None,
    classes: list[str] | None = None,
    batch: int = BATCH,
) -> Model:
    """A booster that LightGBM saved as text (with the extra ``lightgbm``).

    The arguments are those of ``xgboost``. Raises LoadError.
    """
    return _loaded(
        root, path, bounds, classes, batch, _lightgbm, "a model saved by LightGBM (text)"
    )


def load_catboost(
    *,
    root: Path,
    path: str,
    bounds: list[Any] | None = None,
    classes: list[str] | None = None,
    batch: int = BATCH,
) -> Model:
    """A model that CatBoost saved (``.cbm``; with the extra ``catboost``).

    The arguments are those of ``xgboost``. Columns of categories are those of a table in the order of
    training: their codes become the categories again. Raises LoadError, also for columns of text.
    """
    return _loaded(
        root, path, bounds, classes, batch, _catboost, "a model saved by CatBoost (.cbm)"
    )


def _loaded(  # noqa: PLR0917  (one call for both loaders)
    root: Path,
    path: str,
    bounds: list[Any] | None,
    classes: list[str] | None,
    batch: int,
    read: Callable[[Path], Opened],
    expected: str,
) -> Model:
    limits, names = checked_bounds(bounds), checked_classes(classes or [])
    size = checked_batch(batch)
    file = named_file(root, path, expected=expected)
    kind = airlock.kind_of(file)
    if kind != ("CatBoost model" if read is _catboost else "unknown"):
        raise refusal(
            file, expected=expected, got=f"a file of the kind: {kind}",
            hint="A pickle of a model runs code: save it with booster.save_model(…)."
            if kind == "pickle" else "",
        )  # fmt: skip
    opened = read(file)
    form = FORMS.get(opened.objective, "")
    quantity = opened.objective.startswith(QUANTITIES)
    if not form and not quantity:
        known = ", ".join(FORMS)
        raise refusal(
            file,
            "objective",
            expected=f"one of {known}, or of regression",
            got=repr(opened.objective),
        )
    fingerprint, facts = identity({"model": file})
    card = Card(
        name=file.name, fingerprint=fingerprint,
        facts={
            "kind": "boosted trees", "objective": opened.objective, "features": opened.width, **facts,
            "airlock": {"model": "boosted trees, read as data"}, "runtime": opened.runtime,
        },
    )  # fmt: skip

    def fitting(answer: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        def answered(x: np.ndarray) -> np.ndarray:
            if x.ndim != 2 or x.shape[1] != opened.width:
                raise refusal(
                    file, "input", expected=f"{opened.width} features per sample, as in training",
                    got=f"shape {x.shape[1:]}",
                )  # fmt: skip
            return answer(x)

        return answered

    if quantity:
        from dlaudit.models.quantities import Answering

        return Answering(
            fitting(opened.value), card=card, bounds=limits, batch=size, met=opened.met
        )

    from dlaudit.models.black_box import BlackBox

    return BlackBox(
        fitting(opened.score), card=card, bounds=limits, classes=names, batch=size, form=form,
        met=opened.met,
    )  # fmt: skip


def _xgboost(file: Path) -> Opened:
    try:
        import xgboost
    except ImportError as error:
        raise _missing(file, "xgboost") from error
    booster = xgboost.Booster({"nthread": 1})
    content = file.read_bytes()
    if content[:1] != b"{":
        raise refusal(file, expected="a model saved by XGBoost (.json, .ubj)", got="other bytes")
    try:
        booster.load_model(bytearray(content))
        objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
        width = int(booster.num_features())
    except Exception as error:
        raise _unreadable(file, "XGBoost", error) from error

    def given(x: np.ndarray) -> Any:
        return xgboost.DMatrix(x, nthread=1, feature_names=booster.feature_names)

    return Opened(
        lambda x: booster.predict(given(x), output_margin=True), lambda x: booster.predict(given(x)),
        objective, width, f"xgboost {xgboost.__version__}",
    )  # fmt: skip


def _lightgbm(file: Path) -> Opened:
    import numpy as np

    try:
        import lightgbm
    except ImportError as error:
        raise _missing(file, "lightgbm") from error
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise refusal(file, expected="a model saved by LightGBM (text)", got="no text") from error
    # Its reader ends the whole process on some files that are cut off: these never reach it.
    if not text.startswith("tree\n") or "\nend of parameters\n" not in text:
        raise refusal(
            file, expected="a whole model saved by LightGBM (text)",
            got="text without its first or last line", hint="Was the file copied to its end?",
        )  # fmt: skip
    objective = next(
        (
            line.partition("=")[2].split(" ")[0]
            for line in text.splitlines()
            if line.startswith("objective=")
        ),
        "",
    )
    try:
        booster = lightgbm.Booster(model_str=text)
        width = int(booster.num_feature())
    except Exception as error:
        raise _unreadable(file, "LightGBM", error) from error
    return Opened(
        lambda x: np.asarray(booster.predict(x, raw_score=True, num_threads=1)),
        lambda x: np.asarray(booster.predict(x, num_threads=1)),
        objective, width, f"lightgbm {lightgbm.__version__}",
    )  # fmt: skip


def _catboost(file: Path) -> Opened:
    import numpy as np

    try:
        import catboost
    except ImportError as error:
        raise _missing(file, "catboost") from error
    content = file.read_bytes()
    # Its reader trusts the length behind the magic, and reads on behind the end of a file that is cut off.
    expected = 8 + int.from_bytes(content[4:8], "little")
    if len(content) < expected:
        raise refusal(
            file, expected=f"a whole model saved by CatBoost ({expected} bytes by its header)",
            got=str(len(content)), hint="Was the file copied to its end?",
        )  # fmt: skip
    booster = catboost.CatBoost()
    try:
        booster.load_model(blob=content)
        objective = str(booster.get_all_params()["loss_function"]).partition(":")[0]
        width = len(booster.feature_names_)
        coded = Coded(file, list(booster.get_cat_feature_indices()), list(booster.feature_names_))
        odd = [*booster.get_text_feature_indices(), *booster.get_embedding_feature_indices()]
    except Exception as error:
        raise _unreadable(file, "CatBoost", error) from error
    if odd:
        raise refusal(
            file, "features", expected="columns of numbers and categories",
            got=f"text or embeddings in {odd[:5]}",
            hint='Put encoding and trees into one function: use = "callable".',
        )  # fmt: skip

    def raw(x: np.ndarray) -> np.ndarray:
        pool = catboost.Pool(coded.rows(x), cat_features=coded.places or None)
        return np.asarray(booster.predict(pool, prediction_type="RawFormulaVal", thread_count=1))

    return Opened(
        raw, raw, objective, width, f"catboost {catboost.__version__}",
        coded.meet if coded.places else None,
    )  # fmt: skip


class Coded:
    """Turns the data's codes back into the categories that trees were grown on."""

    def __init__(self, file: Path, places: list[int], names: list[str]) -> None:
        """places: of the columns of categories; names: of all columns, as in training."""
        self._file, self.places, self._names = file, places, names
        self._categories: dict[int, list[str]] = {}

    def meet(self, data: Dataset) -> None:
        """Learn what the data's codes stand for. Raises LoadError where a column is none of categories."""
        facts = data.card.facts
        given, codes = list(facts.get("features", [])), facts.get("codes", {})
        if len(given) != len(self._names):
            return  # the width is told where the first rows are asked about
        named = not all(name.isdigit() for name in self._names)
        if named and given != self._names:
            raise refusal(
                self._file, "features", expected=f"the columns of training, in their order: {self._names}",
                got=str(given), hint="Name them with features = [...].",
            )  # fmt: skip
        for place in self.places:
            name = given[place]
            if name not in codes or None in codes[name]:
                raise refusal(
                    self._file, f"column {name!r}", expected="a category in every row, as in training",
                    got="empty cells" if name in codes else "numbers",
                    hint="" if name in codes else f'Say types = {{ {name} = "category" }}.',
                )  # fmt: skip
            self._categories[place] = [plain(value) for value in codes[name]]

    def rows(self, x: np.ndarray) -> Any:
        """x (B, F) as numbers, or as a table in which codes are categories. Raises LoadError without such."""
        import numpy as np

        numbers = np.asarray(x, dtype=np.float64)
        if not self.places:
            return numbers
        if not self._categories:
            raise refusal(
                self._file, "features", expected="a table whose columns of categories are known",
                got="bare arrays", hint='Give the data as use = "csv" or "parquet".',
            )  # fmt: skip
        import pandas as pd

        columns: dict[str, Any] = {}
        for place, name in enumerate(self._names):
            held = numbers[:, place]
            if known := self._categories.get(place):
                codes = np.clip(np.rint(held), 0, len(known) - 1).astype(np.int64)
                columns[name] = pd.Series([known[code] for code in codes], dtype=object)
            else:
                columns[name] = held
        return pd.DataFrame(columns)


def _missing(file: Path, library: str) -> Exception:
    return refusal(
        file, expected=f"{library} to read it", got="an installation without it",
        hint=f"Install it: pip install 'dlaudit[{library}]'.",
    )  # fmt: skip


def _unreadable(file: Path, library: str, error: Exception) -> Exception:
    return refusal(
        file, expected=f"a whole model saved by {library}", got=said(error)[:200],
        hint="Was the file copied to its end?",
    )  # fmt: skip
