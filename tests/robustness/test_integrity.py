"""Files are looked at before they are opened: pickles are named and refused, and nothing runs."""

import collections
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from reprogram.backdoor.detection.integrity import called, check_file, check_files
from reprogram.errors import SourceError


class Payload:
    def __reduce__(self):
        return os.system, ("touch /tmp/this_must_not_exist",)


def test_a_pickle_payload_is_named_and_not_run(tmp_path):
    path = tmp_path / "model.bin"
    torch.save({"weight": torch.zeros(3), "hook": Payload()}, path)
    with pytest.raises(SourceError, match=r"model.bin is a pickle that would call 'posix system'.*refused"):
        check_files({"weights": str(path)})
    assert not os.path.exists("/tmp/this_must_not_exist")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_every_protocol_is_read(protocol):
    assert "posix system" in called(pickle.dumps(Payload(), protocol=protocol))
    assert called(b"\x80\x04broken") != []


def test_a_checkpoint_of_tensors_in_pickle_format_is_refused_too(tmp_path):
    path = tmp_path / "net.pth"
    torch.save(collections.OrderedDict(weight=torch.zeros(3)), path)
    assert check_file(path).kind == "pickle" and not check_file(path).calls
    with pytest.raises(SourceError, match=r"net.pth is a checkpoint in pickle format.*safetensors"):
        check_files({"weights": str(path)})


def test_a_folder_with_both_is_loaded_from_safetensors_unless_the_pickle_has_a_payload(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "pytorch_model.bin")
    assert {f.kind for f in check_files({"name": str(tmp_path)})} == {"safetensors", "pickle"}
    torch.save({"hook": Payload()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(SourceError, match="posix system"):
        check_files({"name": str(tmp_path)})


def test_safetensors_are_checked_byte_by_byte(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.arange(6.0), "b": torch.zeros(2, 2)}, path)
    whole = path.read_bytes()
    assert len(check_file(path).sha256) == 64 and check_files({"weights": str(path), "size": 28})[0].path == path
    for broken in (whole[:-1], whole + b"x", whole[:20], b"", b"\xff" * 40, pickle.dumps({"a": 1})):
        path.write_bytes(broken)
        with pytest.raises(SourceError, match="is not a whole safetensors file"):
            check_files({"weights": str(path)})


def test_options_that_are_no_files_are_left_alone():
    assert check_files({"name": "microsoft/resnet-18", "weights": None, "size": 3}) == []


def test_a_pickle_that_unpacks_to_any_size_is_read_to_a_limit(tmp_path, monkeypatch):
    import zipfile

    from reprogram.backdoor.detection import integrity

    monkeypatch.setattr(integrity, "LARGEST_PICKLE", 1 << 16)
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", pickle.dumps("a" * (1 << 20)))
    assert check_file(path).calls[0].startswith("something unreadable")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(SourceError, match="begins as a zip archive and cannot be read as one"):
        check_file(path)
