"""Images from Python arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reprogram.errors import DataError
from reprogram.interfaces import TargetInfo, TargetTask
from reprogram.targets.base import ArrayExamples, ImageTask, check_classes, check_labels
from reprogram.targets.leaks import contents, not_tested
from reprogram.targets.splits import draw, fewer_than_asked, hold_out, what_the_split_did


def as_images(images: np.ndarray) -> np.ndarray:
    """[N, H, W], [N, H, W, C] or [N, C, H, W], uint8 or float in [0, 1] -> [N, C, H, W] of the same type (C 1 or 3)."""
    array = np.asarray(images)
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4:
        raise DataError(f"Images must have the shape [N, H, W], [N, H, W, C] or [N, C, H, W]; found {array.shape}.")
    if array.shape[1] not in (1, 3) and array.shape[-1] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.shape[1] not in (1, 3):
        raise DataError(f"Images must have 1 or 3 channels; found the shape {array.shape}.")
    if len(array) and not array.size:
        raise DataError(f"Images of the shape {array.shape[1:]} have no pixels.")
    if array.dtype == np.uint8 or not array.size:
        return array
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise DataError(
            f"Image {int(np.flatnonzero(~np.isfinite(array).all((1, 2, 3)))[0])} has a NaN or infinite pixel."
        )
    if array.min() < 0 or array.max() > 1:
        kind = np.asarray(images).dtype
        raise DataError(
            f"Pixels must lie in [0, 1] where they are not uint8; found {kind} from {array.min():.3g} to {array.max():.3g}: "
            "divide by what white is."
        )
    return array


def _pairs(images: np.ndarray, labels: np.ndarray, where: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Images [N, C, H, W] and whole labels [N]. Raises DataError."""
    images, labels = as_images(images), np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or len(images) != len(labels):
        raise DataError(f"There are {len(images)} {where}images but {where}labels of the shape {list(labels.shape)}.")
    if not len(labels):
        raise DataError(f"There are no {where}images; at least one is needed.")
    whole = labels.dtype.kind in "biuf" and np.isfinite(labels).all() and (labels == labels.astype(np.int64)).all()
    if not whole:
        raise DataError(
            f"The {where}labels are {labels.dtype}, such as {labels.tolist()[0]!r}; labels are places in classes, from 0 on: "
            "classes, labels = numpy.unique(labels, return_inverse=True) makes them."
        )
    return images, labels.astype(np.int64)


def from_arrays(
    images: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str] | None = None,
    test: tuple[np.ndarray, np.ndarray] | None = None,
    test_size: int | float = 0.2,
    split_seed: int = 0,
    shots: int | None = None,
    total: int | None = None,
    seed: int = 0,
    name: str = "arrays",
) -> TargetTask:
    """A target from arrays; without ``test`` a stratified part (``test_size``, fixed by ``split_seed``) is held out.

    The few labels are drawn by ``seed`` from what is left, so that every seed meets the same test set. An image that is in
    the test too is not learned from.
    """
    images, labels = _pairs(images, labels)
    names = tuple(classes) if classes is not None else tuple(str(c) for c in range(int(labels.max()) + 1))
    if len(set(names)) < len(names):
        raise DataError(f"classes={list(names)} has a name twice.")
    check_classes(labels, names, f"target {name}")
    rows, notes = np.arange(len(labels)), list[str]()
    if test is None:
        train_rows, test_rows = hold_out(labels, test_size, split_seed)
        held_out = ArrayExamples(images[test_rows], labels[test_rows])
        split = {"kind": "stratified", "test_size": len(test_rows), "seed": split_seed}
        notes += what_the_split_did(labels, test_rows, names)
    else:
        train_rows, test_rows = rows, np.arange(len(test[1]))
        held_out = ArrayExamples(*_pairs(*test, where="test "))
        if held_out.images.shape[1:] != images.shape[1:]:
            raise DataError(f"Test images have the shape {held_out.images.shape[1:]}, training images {images.shape[1:]}.")
        check_labels(held_out.labels, names, f"the test of target {name}")
        split = {"kind": "given", "test_size": len(test_rows)}
    new = not_tested(contents(ArrayExamples(images[train_rows], labels[train_rows])), contents(held_out))
    if not new.all():
        notes.append(f"{int((~new).sum())} training images are also test images: not used for training.")
        train_rows = train_rows[new]
        check_classes(labels[train_rows], names, f"target {name} without its test images")
    notes += fewer_than_asked(labels[train_rows], shots, total, names)
    chosen = train_rows[draw(labels[train_rows], seed, shots, total)]
    return ImageTask(
        TargetInfo(name, "image", "classification", names, tuple(images.shape[1:])),
        ArrayExamples(images[chosen], labels[chosen]),
        held_out,
        train_rows=chosen.tolist(),
        test_rows=test_rows.tolist(),
        split=split,
        notes=notes,
    )
