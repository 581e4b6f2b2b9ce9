"""Colours of 12 bits in 16-bit files: white is what the set shows, not 65535."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from reprogram.targets.deep_colour import colour_values, is_deep_colour
from reprogram.targets.images import Shape, read_facts, read_image, white_of

VALUES = np.random.default_rng(0).integers(0, 4096, (5, 7, 3))


def png(values):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(values, order, compression=1):
    """order: ``<`` or ``>``, how the file stores numbers. compression: 1 none, 8 deflate."""
    height, width, channels = values.shape
    data = values.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if compression == 8 else data
    bits_at = 8 + len(data) + len(data) % 2
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, bits_at), (259, 3, 1, compression), (262, 3, 1, 2)]
    entries += [(273, 4, 1, 8), (277, 3, 1, channels), (278, 3, 1, height), (279, 4, 1, len(data))]
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, bits_at + 2 * channels)
    table = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        table += struct.pack(f"{order}HHI", tag, kind, count)
        table += struct.pack(f"{order}HH", value, 0) if kind == 3 and count == 1 else struct.pack(f"{order}I", value)
    body = data + b"\0" * (len(data) % 2) + struct.pack(f"{order}{channels}H", *[16] * channels)
    return head + body + table + struct.pack(f"{order}I", 0)


FILES = {
    "png": png(VALUES),
    "tiff, little-endian": tiff(VALUES, "<"),
    "tiff, big-endian": tiff(VALUES, ">"),
    "tiff, deflated": tiff(VALUES, "<", 8),
    "tiff, big-endian and deflated": tiff(VALUES, ">", 8),
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_twelve_bits_of_colour_are_not_dark(data):
    facts = read_facts(data)
    assert facts.peak == VALUES.max() and not facts.header.grey
    white = white_of([facts])
    assert white.whole == 4095
    np.testing.assert_array_equal(colour_values(data), VALUES)
    found = read_image(data, Shape(3, 5, 7), white)
    np.testing.assert_array_equal(found, np.rint(VALUES * 255 / 4095).transpose(2, 0, 1))


def test_a_picture_that_uses_sixteen_bits_reads_as_before():
    data = png(VALUES * 16)
    assert white_of([read_facts(data)]).whole == 65535
    found = read_image(data, Shape(3, 5, 7), white_of([read_facts(data)]))
    np.testing.assert_array_equal(found, (VALUES * 16 >> 8).transpose(2, 0, 1))


def test_opacity_is_no_colour():
    seen = np.concatenate([VALUES, np.full((5, 7, 1), 65535)], 2)
    white = white_of([read_facts(png(seen))])
    assert white.whole == 4095
    np.testing.assert_array_equal(read_image(png(seen), Shape(3, 5, 7), white), read_image(png(VALUES), Shape(3, 5, 7), white))


def test_eight_bits_are_left_alone():
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (9, 8, 7)).save(buffer, "PNG")
    assert not is_deep_colour(Image.open(buffer)) and read_facts(buffer.getvalue()).peak is None
