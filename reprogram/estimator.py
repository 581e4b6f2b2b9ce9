"""Reprogramming as scikit-learn knows it: ``ReprogrammedClassifier().fit(images, labels).predict_proba(more_images)``.

Works with ``clone``, ``cross_val_score``, ``Pipeline`` and ``GridSearchCV``. Inputs are

- images: arrays [N, H, W], [N, H, W, C] or [N, C, H, W] (uint8, or floats in [0, 1]), PIL images, or paths of files;
- strings, where the source reads text;
- rows of features [N, F], scaled to [0, 1] by their training range and laid out as a grey image (``image_shape`` says of
  which shape; the default is the smallest square).
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from reprogram.errors import DataError, ReprogramError
from reprogram.interfaces import Examples, InputTransformation, Method, OutputMapping, SourceModel, TargetInfo
from reprogram.model import ReprogrammedModel
from reprogram.registry import find


class _Reprogrammed(BaseEstimator):
    """What classifier and regressor share: reading X, building the program, training it."""

    def __init__(
        self,
        source: Any = "efficientnet_lite0",
        input: Any = "none",
        output: Any = "ridge_taps",
        training: Any = None,
        image_shape: tuple[int, int, int] | None = None,
        device: str = "cpu",
        batch_size: int = 32,
        random_state: int = 0,
    ) -> None:
        self.source = source
        self.input = input
        self.output = output
        self.training = training
        self.image_shape = image_shape
        self.device = device
        self.batch_size = batch_size
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags

    def _train(self, X: Any, labels: np.ndarray, problem: str, classes: Sequence[str]) -> None:
        from reprogram.sources import load_source
        from reprogram.training.loop import Training, fit

        try:
            source = load_source(self.source).to(self.device)
            examples = self._examples(X, labels, source.spec.kind, fitting=True)
            shape = tuple(examples.batch([0]).shape[1:]) if source.spec.kind == "image" else None
            info = TargetInfo("arrays", source.spec.kind, problem, tuple(classes), shape)
            model = _build(source, self.input, self.output, info).to(self.device)
            training = copy.deepcopy(self.training) if self.training is not None else Training()
            self.history_ = fit(model, examples, training, int(self.random_state or 0))
            for note in self.history_.notes:
                warnings.warn(note, UserWarning, stacklevel=3)
        except ReprogramError as error:
            raise ValueError(str(error)) from error
        self.model_ = model

    def _scores(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "model_")
        try:
            size = _length(X)
            examples = self._examples(X, np.zeros(size), self.model_.target.kind, fitting=False)
            return self.model_.predict_proba(examples, self.batch_size)
        except ReprogramError as error:
            raise ValueError(str(error)) from error

    def _examples(self, X: Any, labels: np.ndarray, kind: str, fitting: bool) -> Examples:
        """X as the source's kind of examples. Raises DataError or ValueError."""
        from reprogram.targets.arrays import as_images
        from reprogram.targets.base import ArrayExamples, StringExamples

        if kind == "text":
            strings = [str(text) for text in (X.tolist() if hasattr(X, "tolist") else X)]
            return StringExamples(strings, labels)
        if _is_files(X):
            return ArrayExamples(self._read(list(X), fitting), labels)
        if _dimensions(X) in (3, 4):
            return ArrayExamples(as_images(np.asarray(X)), labels)
        rows = validate_data(self, X, reset=fitting, dtype=np.float64)
        return ArrayExamples(self._as_images(rows, fitting), labels)

    def _read(self, files: list[Any], fitting: bool) -> np.ndarray:
        """PIL images or paths -> uint8 [N, C, H, W] of one shape, which is that of the training images."""
        from reprogram.targets.images import common_shape, read_header, read_image

        if fitting:
            self.file_shape_ = common_shape([_each(read_header, i, file) for i, file in enumerate(files)], None)
        return np.stack([_each(read_image, i, file, self.file_shape_) for i, file in enumerate(files)])

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
    device : ``cpu`` or ``cuda``.
    batch_size : examples read at a time in prediction.
    random_state : seed of everything random.

    Attributes
    ----------
    classes_ : the labels, sorted. model_ : the :class:`~reprogram.model.ReprogrammedModel`; ``save_pretrained(model_,
    folder)`` keeps its program. history_ : what training did.
    """

    def fit(self, X: Any, y: Any) -> ReprogrammedClassifier:
        """X: see the module; y: labels of any kind [N]. ValueError in one sentence for what cannot be learned from."""
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None.")
        X, y = _together(self, X, y)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class only ({self.classes_[0]}); at least two classes are needed.")
        self._train(X, labels.astype(np.int64), "classification", [str(c) for c in self.classes_])
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities [N, T], columns in the order of ``classes_``."""
        return self._scores(X).astype(np.float64)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each input [N]."""
        answers = self._scores(X).argmax(1)
        return self.classes_[answers]


class ReprogrammedRegressor(RegressorMixin, _Reprogrammed):
    """As :class:`ReprogrammedClassifier`, for one value an example (output mappings that can: ``ridge_taps``, …)."""

    def fit(self, X: Any, y: Any) -> ReprogrammedRegressor:
        """X: see the module; y: numbers [N]. Training sees them centred and scaled."""
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None.")
        X, y = _together(self, X, y)
        y = y.astype(np.float64)
        if not np.isfinite(y).all():
            raise ValueError("Input y contains NaN or infinity.")
        self.middle_, self.scale_ = float(y.mean()), float(y.std()) or 1.0
        self._train(X, ((y - self.middle_) / self.scale_).astype(np.float32)[:, None], "regression", ["y"])
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Values [N]."""
        return self._scores(X)[:, 0].astype(np.float64) * self.scale_ + self.middle_


def _each(read: Any, position: int, file: Any, *more: Any) -> Any:
    """Read one image; an error names it."""
    try:
        return read(file, *more)
    except DataError as error:
        name = file if isinstance(file, str | Path) else "a PIL image"
        raise DataError(f"Input {position} ({name}) cannot be read: {error}.") from error


def _build(source: SourceModel, input: Any, output: Any, info: TargetInfo) -> ReprogrammedModel:
    given: InputTransformation = _fresh(input, "reprogram.inputs", InputTransformation)
    mapped: OutputMapping = _fresh(output, "reprogram.outputs", OutputMapping)
    return ReprogrammedModel(source, given, mapped, info)


def _fresh(method: Any, package: str, base: type) -> Any:
    """A new method of that name, or a new one with the same hyper-parameters, so that fitting changes nobody's object."""
    if isinstance(method, Method):
        return type(method)(**method.config())
    return find(package, str(method), base)()


def _together(estimator: _Reprogrammed, X: Any, y: Any) -> tuple[Any, np.ndarray]:
    """X and y of one length; rows of features are checked as scikit-learn checks them."""
    if not _is_files(X) and _dimensions(X) not in (3, 4) and not _is_strings(X):
        X, y = validate_data(estimator, X, y, dtype=np.float64, y_numeric=isinstance(estimator, RegressorMixin))
        return X, np.asarray(y)
    y = column_or_1d(y, warn=True)
    if _length(X) != len(y):
        raise ValueError(f"Found {_length(X)} inputs and {len(y)} labels; there must be one label for each input.")
    if _length(X) == 0:
        raise ValueError("Found no inputs; at least one is needed.")
    return X, y


def _length(X: Any) -> int:
    if hasattr(X, "shape"):
        return X.shape[0]
    return len(X) if hasattr(X, "__len__") else len(np.asarray(X))


def _dimensions(X: Any) -> int:
    """Of arrays, and of lists of arrays; whatever else there is, is a table."""
    return np.ndim(X) if isinstance(X, list | tuple) else getattr(X, "ndim", 2)


def _is_strings(X: Any) -> bool:
    return _is_list(X) and isinstance(X[0], str)


def _is_files(X: Any) -> bool:
    """PIL images, paths, or strings (which are paths where the source reads images)."""
    return _is_list(X) and (isinstance(X[0], str | Path) or hasattr(X[0], "getbands"))


def _is_list(X: Any) -> bool:
    return (isinstance(X, list | tuple) or (isinstance(X, np.ndarray) and X.ndim == 1)) and len(X) > 0
