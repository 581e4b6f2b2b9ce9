"""Reprogramming as scikit-learn knows it: ``ReprogrammedClassifier().fit(images, labels).predict_proba(more_images)``.

Works with ``clone``, ``cross_val_score``, ``Pipeline``, ``GridSearchCV`` (``input__size``, ``output__layers``,
``training__epochs``), ``pickle`` and ``joblib``. Inputs, the same for ``fit`` and ``predict`` and freely mixed, are

- images: arrays [N, H, W], [N, H, W, C] or [N, C, H, W] (uint8, or floats in [0, 1]), lists of arrays, PIL images, paths
  of files, or encoded bytes;
- strings, where the source reads text, and whatever else the input transformation reads as one;
- signals, where the input transformation reads them (``input="signal_views"``): arrays [N, L] or [N, C, L], or lists of [l]
  or [C, l] of any lengths, NaN where a value is missing;
- a column (pandas or polars Series, a frame of one column) of either;
- rows of features [N, F], scaled to [0, 1] by their training range and laid out as a grey image (``image_shape`` says of
  which shape; the default is the smallest square).

One image or string that is not in a list is refused. ``predict(X, errors="nan")`` answers NaN for inputs that cannot be
read, each in its place, and keeps the reasons in ``problems_``.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from reprogram.applicability.base import Applicability, measure_for
from reprogram.errors import DataError, ReprogramError
from reprogram.estimator_inputs import GivenInputs, ReadInputs, given, read_images, read_strings
from reprogram.estimator_parts import KeptProgram, changed, fresh, options, sentence
from reprogram.estimator_signals import given_signals, read_signals, signal_examples
from reprogram.interfaces import Examples, InputTransformation, TargetInfo
from reprogram.modalities import modality
from reprogram.modalities.batches import is_strings
from reprogram.model import ReprogrammedModel
from reprogram.prediction.conformal import keep
from reprogram.prediction.frames import column_of, in_chunks, with_columns


class _Reprogrammed(BaseEstimator):
    """What classifier and regressor share: reading X, building the program, training it."""

    def __init__(
        self,
        source: Any = "efficientnet_lite0",
        input: Any = "none",
        output: Any = "ridge_taps",
        training: Any = None,
        image_shape: tuple[int, int, int] | None = None,
        rate: float | None = None,
        device: str = "cpu",
        batch_size: int = 32,
        random_state: int = 0,
    ) -> None:
        self.source = source
        self.input = input
        self.output = output
        self.training = training
        self.image_shape = image_shape
        self.rate = rate
        self.device = device
        self.batch_size = batch_size
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """``deep``: also the hyper-parameters of input, output and training, as ``input__size``."""
        params = super().get_params(deep=False)
        if deep:
            for part in ("input", "output", "training"):
                params |= {f"{part}__{name}": value for name, value in options(part, params[part]).items()}
        return params

    def set_params(self, **params: Any) -> Any:
        """As scikit-learn does it; ``input__size=96`` takes a new input of that kind and changes nobody's object."""
        inner = {name: value for name, value in params.items() if "__" in name}
        super().set_params(**{name: value for name, value in params.items() if name not in inner})
        for part in dict.fromkeys(name.partition("__")[0] for name in inner):
            changes = {k.partition("__")[2]: v for k, v in inner.items() if k.partition("__")[0] == part}
            setattr(self, part, changed(self, part, changes))
        return self

    def __getstate__(self) -> Any:
        """The program as its tensors; a source that was given by name is named, any other is carried along."""
        state = dict(super().__getstate__())
        if "model_" in state:
            state["_kept"] = KeptProgram.of(state.pop("model_"), carry_source=not isinstance(self.source, str))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        kept: KeptProgram | None = state.pop("_kept", None)
        super().__setstate__(state)
        if kept is not None:
            if kept.target.problem == "regression" and kept.target.units is None:  # of an earlier version
                kept.target = replace(kept.target, units=(self.middle_, self.scale_))
            self.model_ = kept.model(self.source, self.device)

    def _train(
        self,
        X: GivenInputs,
        labels: np.ndarray,
        problem: str,
        classes: Sequence[str],
        unlabelled: Any = None,
        units: tuple[float, float] | None = None,
    ) -> None:
        """units: (middle, scale) by which ``labels`` were centred and scaled; the program answers in those before."""
        from reprogram.selection.pool import choose_with_pool
        from reprogram.sources import load_source
        from reprogram.training.loop import History, Training, fit

        for earlier in ("problems_", "model_"):  # where this fit fails, the program of another one must not answer for it
            self.__dict__.pop(earlier, None)
        try:
            source = load_source(self.source).to(self.device)
            before = fresh("input", self.input)
            found = self._read(X, source.spec.kind, before, fitting=True)
            if found.problems:
                raise DataError(_first(found))
            examples = _examples(found, labels)
            shape = self._shape(examples, source.spec.kind, before)
            info = TargetInfo("arrays", before.reads or source.spec.kind, problem, tuple(classes), shape)
            model = ReprogrammedModel(source, before, fresh("output", self.output), info).to(self.device)
            pool = None if unlabelled is None else self._pool(unlabelled, source.spec.kind, before, shape)
            chosen = None if pool is None else choose_with_pool(model, examples, pool, int(self.random_state or 0))
            self.reads_pool_ = chosen is not None
            if chosen is None:
                training = copy.deepcopy(self.training) if self.training is not None else Training()
                self.history_ = fit(model, examples, training, int(self.random_state or 0))
            else:
                model, self.history_ = chosen, History(ended="closed form, with inputs without labels")
            for note in self.history_.notes:
                warnings.warn(note, UserWarning, stacklevel=3)
            if not measure_for(info.kind).reads_outputs:  # costs no further pass of the source
                model.applicability = Applicability.of(model, examples)
            if units is not None:
                model.target = replace(info, units=units)
                labels = labels.astype(np.float64) * units[1] + units[0]
            keep(model, None if model.left_out is None else model.in_units(model.left_out), labels)
        except ReprogramError as error:
            raise ValueError(sentence(error)) from error
        self.model_ = model

    def _shape(self, examples: Examples, kind: str, before: InputTransformation) -> tuple[int, ...] | None:
        """Of the inputs of the target: of images [C, H, W], of signals (channels, samples a second, samples)."""
        if _reads_signals(before):
            size = examples.batch(np.arange(len(examples))).shape
            return int(size[1]), max(1, round(self.rate or 1)), int(size[2])
        return tuple(examples.batch([0]).shape[1:]) if modality(kind).pixels else None

    def predict_table(self, frame: Any, column: str | None = None, confidence: float = 0.9) -> Any:
        """``frame`` (pandas or polars) with the columns of ``predictions.csv`` behind its own: every row, in order.

        column: of the strings, paths, pictures or other objects; None where only one can be meant, and for a program that was
        fitted on rows of features. A row that cannot be read has its reason in ``problem``.
        """
        check_is_fitted(self, "model_")
        try:
            if getattr(self, "fitted_on_", "") == "table":
                names = getattr(self, "feature_names_in_", None)
                x = given(frame if names is None else frame[list(names)])
            else:
                items = list(frame[column_of(frame, column)])
                x = given_signals(items) if _reads_signals(self.model_.input) else given(items)
            found = self._read(x, self.model_.source.spec.kind, self.model_.input, fitting=False, errors="nan")
            return with_columns(frame, self._as_labels(in_chunks(self.model_, found, confidence)))
        except ReprogramError as error:
            raise ValueError(sentence(error)) from error

    def _as_labels(self, cells: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Columns of answers, those that are labels as the fit was given them."""
        return cells

    def _scores(self, X: Any, errors: str = "raise") -> np.ndarray:
        """[N, T]; NaN rows with ``errors="nan"``. ValueError in one sentence that names the first bad row otherwise."""
        check_is_fitted(self, "model_")
        if errors not in ("raise", "nan"):
            raise ValueError(f"errors='{errors}' is not known; allowed: raise, nan")
        try:
            shape = self.model_.target.input_shape
            signals = _reads_signals(self.model_.input)
            x = given_signals(X) if signals else given(X, colour=shape is not None and shape[0] == 3)
            found = self._read(x, self.model_.source.spec.kind, self.model_.input, fitting=False, errors=errors)
            if found.problems and errors == "raise":
                raise DataError(_first(found))
            scores = np.full((found.size, len(self.model_.target.classes)), np.nan)
            if len(found.rows):
                examples = _examples(found, np.zeros(len(found.rows)))
                scores[found.rows] = self.model_.predict_proba(examples, self.batch_size)
        except ReprogramError as error:
            raise ValueError(sentence(error)) from error
        if errors == "nan":
            self.problems_ = found.problems
        return scores

    def _read(
        self, x: GivenInputs, kind: str, input: InputTransformation, fitting: bool, errors: str = "raise"
    ) -> ReadInputs:
        """X as the source's kind of inputs. Raises DataError or ValueError."""
        if modality(kind).batch == "strings":
            return read_strings(x, input)
        form = x.form if x.form in ("table", "signals") else "images"
        if fitting:
            self.fitted_on_ = form
        elif form != self.fitted_on_:
            raise DataError(f"X is {_FORMS[form]}, but the program was fitted on {_FORMS[self.fitted_on_]}")
        if form == "table":
            return self._read_table(x, fitting, errors)
        shape = None if fitting else self.model_.target.input_shape
        if form == "signals":
            return read_signals(x, shape)
        try:
            return read_images(x, shape)
        except DataError:
            if errors == "raise" or x.form != "images" or np.ndim(x.values) not in (3, 4):
                raise
            return read_images(GivenInputs("items", list(x.values)), shape)  # one by one: which of them is it?

    def _pool(
        self, X: Any, kind: str, before: InputTransformation, shape: tuple[int, ...] | None
    ) -> Examples:
        """Inputs without labels; those that cannot be read are left out."""
        if _reads_signals(before):
            raise DataError("unlabelled is read for images and strings, not for signals; leave it out")
        x = given(X, colour=shape is not None and shape[0] == 3)
        if not modality(kind).pixels:
            found = read_strings(x, before)
        elif x.form == "table":
            found = self._read_table(x, fitting=False, errors="nan")
        else:
            found = read_images(x, shape)
        if not len(found.rows):
            raise DataError("unlabelled has no input that can be read")
        return _examples(found, np.zeros(len(found.rows)))

    def _read_table(self, x: GivenInputs, fitting: bool, errors: str) -> ReadInputs:
        finite = errors != "nan"
        rows = validate_data(self, x.values, reset=fitting, dtype=np.float64, ensure_all_finite=finite)
        good = np.isfinite(rows).all(1)
        problems = {int(i): "it has a NaN or infinite feature" for i in np.flatnonzero(~good)}
        return ReadInputs(self._as_images(rows[good], fitting), np.flatnonzero(good), len(rows), problems)

    def _as_images(self, rows: np.ndarray, fitting: bool) -> np.ndarray:
        """[N, F] -> float [N, C, H, W] in [0, 1]; places without a feature are 0."""
        if fitting:
            self.low_, self.high_ = rows.min(0), rows.max(0)
        side = math.isqrt(rows.shape[1] - 1) + 1
        shape = tuple(self.image_shape or (1, side, side))
        if math.prod(shape) < rows.shape[1]:
            raise ValueError(f"image_shape={shape} has no room for the {rows.shape[1]} features of a row.")
        spread = np.where(self.high_ > self.low_, self.high_ - self.low_, 1.0)
        pixels = np.zeros((len(rows), math.prod(shape)), dtype=np.float32)
        pixels[:, : rows.shape[1]] = np.clip((rows - self.low_) / spread, 0.0, 1.0)
        return pixels.reshape(len(rows), *shape)


class ReprogrammedClassifier(ClassifierMixin, _Reprogrammed):
    """A frozen source model, a program around it, few labels.

    Parameters
    ----------
    source : name of ``conf/source``, hub name or folder of an image model, ``torch.nn.Module`` or ``SourceModel``.
    input, output : names of files in ``reprogram/inputs`` and ``reprogram/outputs``, or unbuilt instances of their classes
        with the hyper-parameters you want (``Pad(size=128)``). They are copied, never changed.
    training : ``reprogram.training.loop.Training``, or None for its default.
    image_shape : (channels, height, width) that rows of features are laid out in.
    rate : samples a second of signals, for inputs that read sounds.
    device : ``cpu`` or ``cuda``.
    batch_size : examples read at a time in prediction.
    random_state : seed of everything random.

    Attributes
    ----------
    classes_ : the labels, sorted. model_ : the :class:`~reprogram.model.ReprogrammedModel`; ``save_pretrained(model_,
    folder)`` keeps its program. history_ : what training did. problems_ : {row: reason} of the inputs that the last call
    with ``errors="nan"`` could not read.
    """

    def fit(self, X: Any, y: Any, unlabelled: Any = None) -> ReprogrammedClassifier:
        """X: see the module; y: labels of any kind [N]. ValueError in one sentence for what cannot be learned from.

        unlabelled: further inputs like X whose labels nobody knows. A blend that learns from them too is compared with
        ``output`` by cross-validation on the labels, and kept where it does no worse (``reads_pool_``).
        """
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None.")
        X, y = _together(self, X, y)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class only ({self.classes_[0]}); at least two classes are needed.")
        self._train(X, labels.astype(np.int64), "classification", [str(c) for c in self.classes_], unlabelled)
        return self

    def predict_proba(self, X: Any, errors: str = "raise") -> np.ndarray:
        """Probabilities [N, T], columns in the order of ``classes_``.

        errors: ``raise`` a ValueError for an input that cannot be read, or answer ``nan`` in its place.
        """
        return self._scores(X, errors)

    def predict(self, X: Any, errors: str = "raise") -> np.ndarray:
        """The most probable label of each input [N]; NaN (in an array of objects) for what ``errors="nan"`` forgives."""
        scores = self._scores(X, errors)
        bad = np.isnan(scores).any(1)
        answers = self.classes_[np.where(bad[:, None], 0.0, scores).argmax(1)]
        if bad.any():
            answers = answers.astype(object)
            answers[bad] = np.nan
        return answers

    def _as_labels(self, cells: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """The label itself, 1 or True, not its name, so that it can be compared with the labels that are known."""
        named = dict(zip(self.model_.target.classes, self.classes_.tolist(), strict=True))
        return cells | {"prediction": [None if name is None else named[name] for name in cells["prediction"]]}


class ReprogrammedRegressor(RegressorMixin, _Reprogrammed):
    """As :class:`ReprogrammedClassifier`, for one value an example (output mappings that can: ``ridge_taps``, …)."""

    def fit(self, X: Any, y: Any, unlabelled: Any = None) -> ReprogrammedRegressor:
        """X: see the module; y: numbers [N]. Training sees them centred and scaled. unlabelled: as for the classifier."""
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None.")
        X, y = _together(self, X, y)
        y = y.astype(np.float64)
        if not np.isfinite(y).all():
            raise ValueError("Input y contains NaN or infinity.")
        self.middle_, self.scale_ = float(y.mean()), float(y.std()) or 1.0
        scaled = ((y - self.middle_) / self.scale_).astype(np.float32)[:, None]
        self._train(X, scaled, "regression", ["y"], unlabelled, (self.middle_, self.scale_))
        return self

    def predict(self, X: Any, errors: str = "raise") -> np.ndarray:
        """Values [N]; ``errors="nan"`` answers NaN for an input that cannot be read."""
        return self._scores(X, errors)[:, 0]


_FORMS = {"table": "a table of numbers", "images": "images", "signals": "signals"}


def _reads_signals(input: InputTransformation) -> bool:
    return input.reads is not None and modality(input.reads).batch == "series"


def _first(found: ReadInputs) -> str:
    """The first input that cannot be read, and how many there are."""
    place = min(found.problems)
    more = len(found.problems) - 1
    others = f" (and {more} more inputs cannot be read)" if more else ""
    return f"Input {place}: {found.problems[place]}{others}"


def _examples(found: ReadInputs, labels: np.ndarray) -> Examples:
    from reprogram.targets.base import ArrayExamples, StringExamples

    if isinstance(found.inputs, list) and any(isinstance(signal, np.ndarray) for signal in found.inputs):
        return signal_examples(found.inputs, labels)
    if is_strings(found.inputs):
        return StringExamples(found.inputs, labels)
    return ArrayExamples(found.inputs, labels)


def _together(estimator: _Reprogrammed, X: Any, y: Any) -> tuple[GivenInputs, np.ndarray]:
    """X and y of one length; rows of features are checked as scikit-learn checks them."""
    try:
        x = given_signals(X) if _reads_signals(fresh("input", estimator.input)) else given(X)
    except ReprogramError as error:
        raise ValueError(sentence(error)) from error
    if x.form == "table":
        X, y = validate_data(estimator, x.values, y, dtype=np.float64, y_numeric=isinstance(estimator, RegressorMixin))
        return x, np.asarray(y)
    y = column_or_1d(y, warn=True)
    if len(x) != len(y):
        raise ValueError(f"Found {len(x)} inputs and {len(y)} labels; there must be one label for each input.")
    if len(x) == 0:
        raise ValueError("Found no inputs; at least one is needed.")
    return x, y
