"""Files that somebody else may have written: every reader refuses in one line what it cannot read, and asks for no
memory that the file does not hold."""

import errno
import fcntl
import io
import json
import os
import platform
import struct
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image

from scoresde.data import load
from scoresde.errors import ConfigError, DataError, ResourceError
from scoresde.runs.folder import lock
from scoresde.runs.metrics_log import MetricsLog
from scoresde.runtime.arrays import Npz, read_npz
from scoresde.runtime.files import (
    MissingError,
    UnreadableError,
    creating,
    open_regular,
    read_bytes,
    replacing,
    write_text,
)
from scoresde.runtime.locks import acquire_lock
from scoresde.runtime.reading import DEEPEST, is_whole_number, json_lines, parse_json, read_json, read_object
from scoresde.runtime.versions import MISSING, PACKAGES, versions

BRACKETS = "[" * 100_000 + "]" * 100_000


# Regular files only


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for name, word in (("fifo", "a FIFO"), ("zero", "a device"), ("", "a folder")):
        with pytest.raises(
            UnreadableError, match=f"{word}, not a regular file"
        ):  # at once: a FIFO would wait for a writer
            open_regular(tmp_path / name)
    with pytest.raises(MissingError, match="no such file"):
        open_regular(tmp_path / "none")
    assert read_bytes(tmp_path / "link") == b"abc" == read_bytes(tmp_path / "file", most=3)
    with pytest.raises(UnreadableError, match="3 bytes, expected at most 2"):
        read_bytes(tmp_path / "file", most=2)


def test_a_fifo_or_a_device_among_images_is_left_out_and_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "images"
    folder.mkdir()
    for k in range(6):
        Image.fromarray(np.full((4, 4, 3), 10 * k, np.uint8)).save(folder / f"{k}.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    data = load(f"folder:{folder}", shape=(4, 4, 3), levels=256, centered=True)
    assert len(data.train) + len(data.test) == 6
    notes = capsys.readouterr().err
    assert (
        "pipe.png: cannot be read: a FIFO, not a regular file" in notes
        and "zero.png: cannot be read: a device, not a regular file" in notes
    )
    os.mkfifo(folder / "labels.csv")
    with pytest.raises(DataError, match=r"labels.csv cannot be read: a FIFO, not a regular file"):
        load(f"folder:{folder}", shape=(4, 4, 3), levels=256, centered=True)


# Writing


def test_a_file_is_replaced_at_once_or_not_at_all(tmp_path):
    file = tmp_path / "a.json"
    write_text(file, "old")
    with pytest.raises(OSError) as raised, replacing(file) as scratch:
        scratch.write_text("half")
        assert file.read_text() == "old"
        raise OSError(28, "No space left on device")
    assert file.read_text() == "old" and raised.value.filename == str(file)  # a write that fails does not know its file
    assert sorted(tmp_path.iterdir()) == [file]
    write_text(file, "new")
    assert file.read_text() == "new" and sorted(tmp_path.iterdir()) == [file]


def test_a_scratch_path_of_the_callers_own_is_removed_too(tmp_path):
    (tmp_path / "part").mkdir()
    with pytest.raises(ValueError), replacing(tmp_path / "a", scratch=tmp_path / "part" / "a") as scratch:
        scratch.write_text("half")
        raise ValueError
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "part"]
    with replacing(tmp_path / "a", scratch=tmp_path / "part" / "a") as scratch:
        scratch.write_text("whole")
    assert (tmp_path / "a").read_text() == "whole" and not list((tmp_path / "part").iterdir())


@pytest.mark.parametrize("links", [True, False])
def test_of_two_files_created_at_once_the_first_one_stays(links, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(1, "Operation not permitted")

    if not links:  # then the later one replaces it, whole
        monkeypatch.setattr(os, "link", refuse)
    with creating(tmp_path / "a") as scratch:
        scratch.write_text("later")
        (tmp_path / "a").write_text("first")  # by another process
    assert (tmp_path / "a").read_text() == ("first" if links else "later")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_lock_is_held_until_its_file_is_closed(tmp_path):
    path = tmp_path / "lock"
    path.write_text("of the holder")
    held = acquire_lock(path, "another process is at work")
    with pytest.raises(ConfigError, match="another process is at work"):
        acquire_lock(path, "another process is at work")
    assert path.read_text() == "of the holder"
    held.close()
    acquire_lock(path, "nobody is").close()


def test_a_file_system_without_locks_is_not_another_process(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError) as raised:
        acquire_lock(tmp_path / "lock", "another process is at work")
    assert raised.value.errno == errno.ENOLCK and raised.value.filename == str(tmp_path / "lock")
    with pytest.raises(ResourceError, match="No locks available"):
        lock(tmp_path)


# Versions


def test_versions_are_those_of_the_packages_imported():
    found = versions("numpy", "no-such-package")
    assert found["jax"] == jax.__version__ and found["numpy"] == np.__version__
    assert found["python"] == platform.python_version() and found["no-such-package"] == MISSING
    assert {"python", *PACKAGES} == set(versions())


# JSON


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    "content, word",
    [
        (BRACKETS.encode(), "nested more than"),
        (
            nested(DEEPEST + 2).encode(),
            "nested more than",
        ),  # shallow enough for the parser: whoever walks it would fail
        (b'{"a": ' * 500 + b"1" + b"}" * 500, "nested more than"),
        (b"{", "not JSON"),
        (b"\xff{}", "not UTF-8"),
        (b"9" * 10_000, "not JSON"),
        (b"[1]", "a list, expected an object"),
    ],
)
def test_json_is_read_within_bounds(content, word, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UnreadableError, match=word) as raised:
        read_object(tmp_path / "a.json")
    assert "\n" not in str(raised.value)


def test_good_json_is_what_it_was(tmp_path):
    value = {"a": [1, 2.5, None, True, "ü"], "b": {"c": {}}}
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "a.json") == value
    assert parse_json(nested(DEEPEST)) == json.loads(nested(DEEPEST))


def test_lines_that_are_damaged_are_left_out_and_named(tmp_path, capsys):
    lines = [
        b'{"step": 1, "loss": 0.5}',
        b'{"step": 2, "loss": "\xff"}',
        BRACKETS.encode(),
        b'{"step": 3, "loss": 0.25}',
        b'{"step": 4, "lo',
    ]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines))
    found, damaged = json_lines(tmp_path / "metrics.jsonl")
    assert [line.value["step"] for line in found] == [1, 3] and damaged == [2, 3, 5]
    MetricsLog(tmp_path, 3).close()
    assert (tmp_path / "metrics.jsonl").read_bytes() == lines[0] + b"\n" + lines[3] + b"\n"
    assert (
        "left out line 2, which is damaged, and 1 more" in capsys.readouterr().err
    )  # the last one of a killed run says nothing


def test_tensorboard_says_nothing_of_nan(tmp_path, caplog):
    log = MetricsLog(tmp_path, 0)
    log.write(1, {"loss": float("nan"), "rate": 1.0})
    log.close()
    assert not caplog.records and json.loads((tmp_path / "metrics.jsonl").read_text()) == {
        "step": 1,
        "loss": None,
        "rate": 1.0,
    }


def test_whole_numbers_are_of_ascii_digits():
    assert is_whole_number("0") and is_whole_number("40")
    assert not any(map(is_whole_number, ("", "²", "٤", "-1", "1.0", "9" * 5000)))


# NPZ


def npz_of(header: str, values: bytes, **options) -> bytes:
    """An NPZ file whose array `samples`, also x_train and x_test, has that header."""
    head = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header.encode().ljust(117) + b"\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name in ("samples", "x_train", "x_test"):
            archive.writestr(f"{name}.npy", head + values)
    return buffer.getvalue()


def described(shape: str, kind: str = "<f4") -> str:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"


PROMISES = {
    "too much": (described("(2000000000000,)"), "promises 8,000,000,000,000 bytes of values.*and 64 are there"),
    "too little": (described("(8,)"), "promises 32 bytes.*and 64 are there"),
    "beyond int64": (described("(9999999999999999999999,)"), "promises"),
    "negative": (described("(-16,)"), r"shape \(-16,\), expected sizes of 0 or more"),
    "an object": (described("(8,)", "|O"), "object array"),
    "brackets": ("(" * 100, "not a NumPy array"),
    "signs": (described("(" + "-" * 60 + "1,)"), "expected sizes of 0 or more|not a NumPy array|promises"),
}


@pytest.mark.parametrize("case", PROMISES)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_header_is_compared_with_the_bytes_that_are_there(case, compression, tmp_path):
    header, word = PROMISES[case]
    file = tmp_path / "d.npz"
    file.write_bytes(npz_of(header, bytes(64), compression=compression))
    with Npz(file) as archive:
        for read in (archive.array, archive.header) + ((archive.mapped,) if compression == zipfile.ZIP_STORED else ()):
            with pytest.raises(UnreadableError, match=word) as raised:
                read("samples")
            assert "\n" not in str(raised.value)
    with pytest.raises(DataError, match=word):
        load(f"npz:{file}", shape=(2,), levels=0, centered=True)


def test_a_zip_that_promises_more_than_it_holds(tmp_path):
    """Sizes in the directory of the zip: a terabyte in a file of a kilobyte."""
    content = bytearray(npz_of(described("(16,)"), bytes(64), compression=zipfile.ZIP_DEFLATED))
    place = content.index(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", 2**32 - 2)  # the uncompressed size of the first member
    (tmp_path / "d.npz").write_bytes(content)
    with (
        Npz(tmp_path / "d.npz") as archive,
        pytest.raises(UnreadableError, match="promises 4,294,967,294 bytes, more than the file can hold"),
    ):
        archive.array("samples")


def test_arrays_of_every_kind_come_back(tmp_path):
    arrays = {
        "c": np.arange(24.0).reshape(2, 3, 4), "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "none": np.zeros((0, 5)),
        "number": np.float32(2.5), "text": np.array(["a", "bc"]), "bits": np.array([True, False]),
        "wide": np.ones(10**5, np.uint16),
    }  # fmt: skip
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        found = read_npz(tmp_path / "a.npz")
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype and np.array_equal(found[name], array)
