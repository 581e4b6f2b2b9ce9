"""Photos of phones and pictures of scanners: HEIC, DICOM; animated, transparent and giant files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from reprogram.errors import DataError
from reprogram.targets import image_formats
from reprogram.targets.image_folder import image_folder
from reprogram.targets.images import Shape, read_facts, read_header, read_image

ORANGE = (250, 130, 10)


def dicom(values, **fields):
    """Bytes of a DICOM file with these stored values [H, W], [F, H, W] or [H, W, 3] and these fields."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = FileDataset("x.dcm", {}, file_meta=meta, preamble=b"\0" * 128)
    colour = values.ndim == 3 and values.shape[-1] == 3
    data.Rows, data.Columns = values.shape[:2] if colour or values.ndim == 2 else values.shape[1:]
    data.SamplesPerPixel = 3 if colour else 1
    data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = values.dtype.itemsize * 8
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    if colour:
        data.PlanarConfiguration = 0
    if values.ndim == 3 and not colour:
        data.NumberOfFrames = len(values)
    for name, value in fields.items():
        setattr(data, name, value)
    data.PixelData = values.tobytes()
    file = io.BytesIO()
    pydicom.dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


RAMP = np.arange(24, dtype=np.int16).reshape(4, 6) * 100


def test_a_dicom_picture_shows_its_window():
    """Hounsfield units: stored * 2 - 1000, in the window 0 to 1000 (centre 500.5, width 1001 of PS3.3 C.11.2.1.2)."""
    data = dicom(RAMP, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=500.5, WindowWidth=1001)
    expected = np.clip((RAMP * 2.0 - 1000) / 1000, 0, 1) * 255
    pixels = read_image(data, Shape(1, 4, 6))
    np.testing.assert_allclose(pixels[0], expected, atol=1)
    assert read_header(data) == (True, 4, 6)


def test_a_dicom_picture_without_a_window_shows_its_own_range():
    np.testing.assert_allclose(read_image(dicom(RAMP), Shape(1, 4, 6))[0], RAMP / 2300 * 255, atol=1)


def test_the_first_of_several_windows_is_taken():
    data = dicom(RAMP, WindowCenter=[500.5, 9000], WindowWidth=[1001, 1])
    np.testing.assert_allclose(read_image(data, Shape(1, 4, 6))[0], np.clip(RAMP / 1000, 0, 1) * 255, atol=1)


def test_monochrome1_is_turned_over():
    upright, over = dicom(RAMP), dicom(RAMP, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_image(over, Shape(1, 4, 6)), 255 - read_image(upright, Shape(1, 4, 6)))


def test_the_middle_frame_of_several():
    frames = np.stack([np.full((4, 6), v, np.uint8) for v in (0, 10, 20)])
    frames[:, 0, 0], frames[:, 0, 1] = 0, 255
    assert read_image(dicom(frames), Shape(1, 4, 6))[0, 2, 2] == 10 and read_facts(dicom(frames)).frames


def test_colours_of_dicom():
    data = dicom(np.full((4, 6, 3), ORANGE, np.uint8))
    assert read_header(data).grey is False
    np.testing.assert_array_equal(read_image(data, Shape(3, 4, 6))[:, 1, 1], ORANGE)


def test_damaged_dicom_files_are_a_sentence():
    good = dicom(RAMP)
    for bad in (good[:200], good[:-20], b"\0" * 128 + b"DICM", good.replace(b"MONOCHROME2 ", b"XXXXXXXXXXX ")[:400]):
        with pytest.raises(DataError) as caught:
            read_image(bad, Shape(1, 4, 6))
        assert "\n" not in str(caught.value)


def test_a_dicom_bomb_is_refused_by_its_header():
    with pytest.raises(DataError, match="claims 60000 x 60000 pixels"):
        read_image(dicom(RAMP, Rows=60000, Columns=60000), Shape(1, 4, 6))


def test_a_folder_of_scans(tmp_path):
    for name, level in (("ill", 1), ("well", 2)):
        (tmp_path / name).mkdir()
        for i in range(5):
            values = RAMP * level + i
            (tmp_path / name / f"{i}.dcm").write_bytes(dicom(values, WindowCenter=2500, WindowWidth=5000))
    task = image_folder(str(tmp_path), shots=2)
    assert task.info.input_shape == (1, 4, 6) and task.info.classes == ("ill", "well")


def test_heic_photos_are_read_upright(tmp_path):
    import pillow_heif  # noqa: F401

    assert image_formats._heif()
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, :64] = ORANGE
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(wide).save(tmp_path / "plain.heic", quality=95)
    turned = Image.fromarray(wide)
    turned.info["exif"] = exif.tobytes()  # written as a rotation of the container, as phones do
    turned.save(tmp_path / "turned.heic", quality=95)
    pixels = read_image(tmp_path / "plain.heic", Shape(3, 64, 128))
    np.testing.assert_allclose(pixels[:, 32, 20], ORANGE, atol=12)
    assert read_header(tmp_path / "turned.heic")[1:] == (128, 64)
    np.testing.assert_allclose(read_image(tmp_path / "turned.heic", Shape(3, 128, 64))[:, 20, 32], ORANGE, atol=12)


def test_without_the_packages_a_file_says_what_it_needs(monkeypatch, tmp_path):
    heic = b"\0\0\0\x18ftypheic" + b"\0" * 40
    monkeypatch.setattr(image_formats, "_heif", lambda: False)
    monkeypatch.setattr(image_formats, "_pydicom", lambda: None)
    for data, package in ((heic, "pillow-heif"), (b"\0" * 128 + b"DICM" + b"\0" * 9, "pydicom")):
        with pytest.raises(DataError, match=f"needs the package {package}: pip install 'reprogram\\[images\\]'"):
            read_header(data)


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_of_several_frames(kind):
    frames = [Image.new("RGB", (6, 4), c) for c in (ORANGE, (0, 0, 255))]
    extra = {"lossless": True} if kind == "WEBP" else {}
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **extra)
    np.testing.assert_allclose(read_image(data, Shape(3, 4, 6))[:, 1, 1], ORANGE, atol=2)
    assert read_facts(data).frames


def test_giant_files_of_every_mode_look_like_small_ones(monkeypatch):
    """The shortcut for giant images must not change what is seen: palettes, one bit, 16 bits, transparency."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
    grey = np.asarray(coarse.convert("L")).astype(np.uint16) * 257
    alpha = coarse.convert("RGBA")
    alpha.putalpha(coarse.convert("L"))
    files = {
        "colour": saved(large(coarse), "PNG"),
        "grey": saved(large(coarse.convert("L")), "PNG"),
        "one bit": saved(large(coarse.convert("1")), "PNG"),
        "palette": saved(large(coarse.quantize(8)), "PNG"),
        "palette with a hole": saved(large(coarse.quantize(8)), "PNG", transparency=3),
        "print": saved(large(coarse.convert("CMYK")), "TIFF"),
        "transparent": saved(large(alpha), "PNG"),
        "16 bits": saved(large(Image.fromarray(grey)), "PNG"),
    }
    short = {name: read_image(data, Shape(3, 48, 48)) for name, data in files.items()}
    monkeypatch.setattr("reprogram.targets.images.LARGEST_FACTOR", 1)
    for name, data in files.items():
        np.testing.assert_allclose(short[name].astype(int), read_image(data, Shape(3, 48, 48)), atol=3, err_msg=name)


def large(image):
    return image.resize((384, 384), Image.Resampling.NEAREST)


def test_giant_images_are_decoded_one_at_a_time(monkeypatch):
    from reprogram.targets import images

    monkeypatch.setattr(images, "LARGE", 100)
    inside, most = [], []
    decode = images._eight_bits

    def watched(*arguments):
        inside.append(1)
        most.append(len(inside))
        result = decode(*arguments)
        inside.pop()
        return result

    monkeypatch.setattr(images, "_eight_bits", watched)
    data = saved(Image.new("RGB", (64, 64), ORANGE), "PNG")
    images.read_each(lambda item: read_image(item, Shape(3, 8, 8)), [data] * 40, "reading")
    assert len(most) == 40 and max(most) == 1
