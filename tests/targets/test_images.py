"""Image files as pixels: modes, 16 bits, orientation, extreme sizes, damage."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reprogram.errors import DataError
from reprogram.targets.images import ImageFiles, Shape, common_shape, read_header, read_image

ORANGE = (250, 130, 10)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(mode, colour, size=(6, 4)):
    return Image.new(mode, size, colour)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(plain("RGB", ORANGE)), ORANGE),
        (encoded(plain("L", 77)), (77, 77, 77)),
        (encoded(plain("1", 1)), (255, 255, 255)),
        (encoded(plain("RGB", ORANGE).quantize(4)), ORANGE),
        (encoded(plain("RGB", ORANGE).quantize(4), "GIF"), ORANGE),
        (encoded(plain("RGBA", (*ORANGE, 255))), ORANGE),
        (encoded(plain("RGBA", (*ORANGE, 0))), (255, 255, 255)),
        (encoded(plain("LA", (0, 0))), (255, 255, 255)),
        (encoded(plain("RGB", ORANGE).convert("CMYK"), "JPEG", quality=100), ORANGE),
        (encoded(plain("RGB", ORANGE).convert("CMYK"), "TIFF"), ORANGE),
        (encoded(Image.fromarray(np.full((4, 6), 0x8000, np.uint16))), (128, 128, 128)),
        (encoded(Image.fromarray(np.full((4, 6), 300, np.uint16))), (1, 1, 1)),
        (encoded(Image.fromarray(np.full((4, 6), 0x8000, np.int32)), "TIFF"), (128, 128, 128)),
        (encoded(Image.fromarray(np.full((4, 6), 0.5, np.float32)), "TIFF"), (128, 128, 128)),
        (encoded(Image.fromarray(np.full((4, 6), 51.0, np.float32)), "TIFF"), (51, 51, 51)),
    ],
    ids=lambda value: None if isinstance(value, bytes) else "-".join(map(str, value)),
)
def test_every_mode_reads_right(data, expected):
    pixels = read_image(data, Shape(3, 4, 6))
    assert pixels.shape == (3, 4, 6) and pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels[:, 2, 3], expected, atol=3)


def test_a_transparent_palette_colour_lies_on_white():
    image = plain("RGB", ORANGE).quantize(4)
    data = encoded(image, transparency=image.getpixel((0, 0)))
    np.testing.assert_array_equal(read_image(data, Shape(3, 4, 6))[:, 0, 0], [255] * 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(orientation):
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[:2, :2] = 255  # a white corner at the top left
    turn = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a.transpose(1, 0, 2), 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(turn(upright))), exif=exif)
    assert read_header(data)[1:] == (4, 6)
    np.testing.assert_array_equal(read_image(data, Shape(3, 4, 6)), upright.transpose(2, 0, 1))


def test_orientation_survives_the_reduction_of_a_giant_photo():
    tall = np.zeros((400, 800, 3), np.uint8)
    tall[:, :400] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: the left half comes to lie on top
    pixels = read_image(encoded(Image.fromarray(tall), exif=exif), Shape(3, 16, 8))
    assert pixels[:, :7].min() > 250 and pixels[:, 9:].max() < 5


def test_one_by_one_and_ten_thousand_by_ten_thousand(tmp_path):
    assert read_image(encoded(plain("RGB", ORANGE, (1, 1))), Shape(3, 32, 32)).std(axis=(1, 2)).max() == 0
    plain("L", 200, (10_000, 10_000)).save(tmp_path / "giant.png")
    np.testing.assert_array_equal(read_image(tmp_path / "giant.png", Shape(3, 8, 8)), np.full((3, 8, 8), 200))


def test_a_decompression_bomb_is_refused_by_its_header():
    data = bytearray(encoded(plain("L", 0)))
    data[16:24] = (100_000).to_bytes(4, "big") * 2  # the sides in the PNG header
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    with pytest.raises(DataError, match="claims"):
        read_image(bytes(data), Shape(3, 8, 8))


def test_a_wide_image_is_cut_in_the_middle():
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 255
    assert read_image(encoded(Image.fromarray(wide)), Shape(1, 10, 10)).min() == 255


def test_numbers_that_are_no_grey_values_are_refused():
    data = encoded(Image.fromarray(np.full((2, 2), -7, np.int32)), "TIFF")
    with pytest.raises(DataError, match="grey values run from -7"):
        read_image(data, Shape(1, 2, 2))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_fuzz_damaged_files_are_pixels_or_a_sentence(data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
    noise = np.random.default_rng(0).integers(0, 255, (9, 11, 3), dtype=np.uint8)
    content = bytearray(encoded(Image.fromarray(noise), kind))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    for _ in range(data.draw(st.integers(0, 6))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert read_image(bytes(content), Shape(3, 8, 8)).shape == (3, 8, 8)
    except DataError as error:
        assert "\n" not in str(error)


def test_the_shape_that_images_become():
    small = [read_header(encoded(plain("L", 0, (28, 20))))] * 3
    colour = read_header(encoded(plain("RGB", 0, (28, 20))))
    large = read_header(encoded(plain("RGB", 0, (300, 300))))
    assert common_shape(small, None) == (1, 20, 28)
    assert common_shape([*small, colour], None) == (3, 20, 28)
    assert common_shape([*small, large], None) == common_shape([large], None) == (3, 224, 224)
    assert common_shape(small, 64) == (1, 64, 64)


def test_lazy_files_read_like_arrays():
    files = [encoded(plain("L", grey)) for grey in (0, 51, 255)]
    examples = ImageFiles(files, np.array([0, 1, 1]), Shape(1, 4, 6)).subset([2, 1])
    torch.testing.assert_close(examples.batch([0, 1])[:, 0, 0, 0], torch.tensor([1.0, 0.2]))
    assert examples.labels.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("labels", "options", "sentence"),
    [
        (np.arange(8) % 2 / 2, {}, "The labels are float64"),
        (np.array(["a", "b"] * 4), {}, "numpy.unique"),
        (np.array([np.nan, 1] * 4), {}, "such as nan"),
        (np.arange(8) % 2, {"test": (np.ones((3, 6, 6)), [0, 5, 1])}, "has the label 5"),
        (np.arange(8) % 2, {"test": (np.ones((3, 6, 6)), [0, 1])}, "3 test images but test labels"),
        (np.arange(8) % 2, {"test": (np.ones((3, 5, 6)), [0, 1, 1])}, r"Test images have the shape \(1, 5, 6\)"),
        (np.arange(8) % 2, {"classes": ["a", "a"]}, "a name twice"),
    ],
)
def test_labels_of_arrays_are_whole_and_of_a_class(labels, options, sentence):
    from reprogram.targets.arrays import from_arrays

    images = np.random.default_rng(0).random((8, 6, 6))
    with pytest.raises(DataError, match=sentence):
        from_arrays(images, labels, **options)
