"""Files of strangers: regular ones only, never more bytes than said, and never a wait."""

import os
import socket
import sys

import pytest

from reprogram.errors import ArtifactError, DataError
from reprogram.files import check_regular, read_bytes, read_json, read_text

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")


def test_what_is_read(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"\xef\xbb\xbf[1,\r\n2]")
    assert read_bytes(path, 100) == path.read_bytes() and read_text(path, 100) == "[1,\n2]"
    path.write_text("[1, 2]")
    assert read_json(path, 6) == [1, 2] and check_regular(path, limit=6) == path
    link = tmp_path / "link"
    link.symlink_to(path)  # as in the cache of the Hugging Face Hub
    assert read_bytes(link, 6) == b"[1, 2]"


def special_files(folder):
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "endless").symlink_to("/dev/zero")
    (folder / "terminal").symlink_to("/dev/tty")
    (folder / "nowhere").symlink_to(folder / "absent")
    (folder / "loop").symlink_to(folder / "loop")
    listening = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(folder)  # the path of a socket is short
    try:
        listening.bind("socket")
    finally:
        os.chdir(here)
    return listening


@posix
@pytest.mark.timeout(20)
@pytest.mark.parametrize("read", [lambda p: read_bytes(p, 1000), lambda p: read_json(p, 1000), check_regular])
def test_special_files_are_refused_in_a_sentence_and_at_once(tmp_path, read):
    listening = special_files(tmp_path)
    sentences = {
        "folder": "is a folder; a file is needed",
        "pipe": "is a named pipe; a file is needed",
        "endless": "is a device; a file is needed",
        "socket": "is a socket; a file is needed",
        "terminal": "is a device; a file is needed",
        "nowhere": "cannot be read: No such file",
        "loop": "cannot be read: Too many levels",
        "a\0b": "cannot be read: embedded null",
    }
    for name, sentence in sentences.items():
        with pytest.raises(ArtifactError, match=sentence):
            read(tmp_path / name)
    listening.close()


@posix
@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs /proc")
def test_a_file_that_does_not_say_its_size_is_still_bounded():
    with pytest.raises(DataError, match="has more than 10 bytes"):
        read_bytes("/proc/self/maps", 10, DataError)


def test_a_file_that_is_swapped_for_a_pipe_after_it_was_looked_at(tmp_path, monkeypatch):
    if not hasattr(os, "mkfifo"):
        pytest.skip("needs named pipes")
    path = tmp_path / "a"
    path.write_bytes(b"1")
    seen = os.stat(path)
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr("reprogram.files.os.stat", lambda _: seen)
    with pytest.raises(ArtifactError, match="is a named pipe"):
        read_bytes(path, 10)


def test_sentences(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 11)
    with pytest.raises(ArtifactError, match="has 11 bytes; at most 10 are read"):
        read_bytes(path, 10)
    with pytest.raises(ArtifactError, match="has 11 bytes; at most 10 are read"):
        check_regular(path, limit=10)
    path.write_bytes(b"a\xff")
    with pytest.raises(ArtifactError, match="not UTF-8 text: byte 1 is 0xff"):
        read_text(path, 10)
    for text in ("", "[" * 100_000, "NaN", "1" * 5000, '{"a": -Infinity}'):
        path.write_text(text)
        with pytest.raises(ArtifactError, match="is not valid JSON"):
            read_json(path, 1 << 20)
