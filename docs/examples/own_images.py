"""Your own images: learn from a few labelled ones, measure on others, save the program, load it, answer for new images.

    python docs/examples/own_images.py --folder DIR      # DIR/CLASS/*.jpg, or DIR/train/CLASS and DIR/test/CLASS
    python docs/examples/own_images.py                   # without a folder: 300 handwritten digits as PNG files

Half a minute on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import mkdtemp

from PIL import Image

from reprogram import ReprogrammedModel, from_pretrained, load_source, load_target, save_pretrained
from reprogram.inputs import NoPrompt
from reprogram.interfaces import to_tensor_labels
from reprogram.outputs import RidgeTaps


def digits_as_files(folder: Path, count: int) -> Path:
    """``folder/CLASS/NUMBER.png``: scans of digits that scikit-learn contains."""
    from sklearn.datasets import load_digits

    data = load_digits()
    for number in range(count):
        place = folder / str(data.target[number])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((data.images[number] * 15.9).astype("uint8")).resize((32, 32)).save(place / f"{number}.png")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--source", default="efficientnet_lite0", help="a name of conf/source, or a Hugging Face model")
    parser.add_argument("--shots", type=int, default=8, help="labelled images per class to learn from")
    parser.add_argument("--size", type=int, default=96, help="side in pixels that the frozen model reads")
    args = parser.parse_args()
    folder = args.folder or digits_as_files(Path(mkdtemp()), 300)

    # The data: so many labels per class to learn from; the test images are held out before any label is drawn.
    target = load_target("image_folder", root=str(folder), shots=args.shots)
    print(f"{len(target.train)} labelled images, {len(target.test)} test images, classes {', '.join(target.info.classes)}")

    # The program: a resized image in front of the frozen model, ridge regression on several of its layers behind it.
    source = load_source(args.source)
    model = ReprogrammedModel(source, NoPrompt(size=args.size), RidgeTaps(), target.info)
    model.output.fit(model.collect(target.train), to_tensor_labels(target.train.labels))

    # Test labels are read once, at the end.
    accuracy = float((model.predict_proba(target.test).argmax(1) == target.test.labels).mean())
    print(f"test accuracy {accuracy:.3f}")

    # Only the program is saved, some kilobytes; the frozen model is referenced.
    saved = save_pretrained(model, Path(mkdtemp()) / "program", metrics={"accuracy": {"value": accuracy}})
    size = sum(file.stat().st_size for file in saved.iterdir())
    again = from_pretrained(saved)
    answers = again.predict_proba(target.test.subset(range(5))).argmax(1)
    print(f"saved {size / 1000:.0f} KB in {saved}; loaded again: {[target.info.classes[a] for a in answers]}")


if __name__ == "__main__":
    main()
