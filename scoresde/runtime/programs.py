"""Cache of the compiled programs of commands in the user's cache folder, so that the same command compiles them once.

JAX stores the programs (its persistent compilation cache) under a hash of everything that they depend on. This module
sets the folder and limits its size. Programs are code, so a folder that other users may write to is not used.
"""

import hashlib
import os
import pathlib
import platform
import shutil
import stat
import sys
import tempfile
import warnings

from scoresde.runtime.files import UnreadableError, read_bytes
from scoresde.runtime.places import user_cache

MOST = 2**30  # bytes above which the least recently used programs are removed, down to three quarters of it
_FREE = 2**26  # bytes that must be free on the disk
_PROBE = 2**16  # bytes written as a test, because the free space does not reflect a quota
_TROUBLE = ("Error reading persistent compilation cache", "Error writing persistent compilation cache")


def keep_programs() -> None:
    """Enable JAX's cache of programs, or print a note if it cannot be enabled; call this before JAX is imported.

    Nothing is changed if JAX is already imported, or if the user has set JAX_COMPILATION_CACHE_DIR.

    A program that may call Python cannot be cached, and the checks that Equinox and diffrax make while a program runs
    call Python to raise their error. Therefore EQX_ON_ERROR is set to "nan", unless the user has set it: the result of
    a failed check is NaN, which the commands report.
    """
    if "jax" in sys.modules or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    home = user_cache()
    folder = home and home / "programs"
    if folder is None or (reason := _obstacle(folder)):
        why = "no folder for caches can be written" if folder is None else f"{folder}: {reason}"
        print(f"note: compiled programs are not kept: {why}; set XDG_CACHE_HOME", file=sys.stderr)
        return
    shrink(folder, MOST)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / _machine())
    # By default programs that compile in less than a second are not cached, and a command has tens of them.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("EQX_ON_ERROR", "nan")
    _report_trouble_once(folder)


def shrink(folder: pathlib.Path, most: int) -> None:
    """Remove the least recently used files below the folder if all files have more than `most` bytes."""
    files = []
    for path in folder.rglob("*"):
        try:
            found = path.stat(follow_symlinks=False)
        except OSError:  # another process has removed it
            continue
        if stat.S_ISREG(found.st_mode):
            files.append((max(found.st_atime, found.st_mtime), max(found.st_size, 512 * found.st_blocks), path))
    total = sum(size for _, size, _ in files)
    if total <= most:
        return
    for _, size, path in sorted(files):
        if total <= 0.75 * most:
            break
        try:
            path.unlink(missing_ok=True)
        except OSError:
            continue
        total -= size


def _obstacle(folder: pathlib.Path) -> str:
    """Return why programs cannot be stored in a folder, or "" if they can."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return "another user may write to it"
        if shutil.disk_usage(folder).free < _FREE:
            return "the disk is full"
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE))
            file.flush()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _machine() -> str:
    """Return a name for the properties of this processor on which a program depends.

    JAX does not distinguish processors of one kind, and several machines may share a home directory.
    """
    try:
        lines = read_bytes("/proc/cpuinfo").decode(errors="replace").splitlines()
        found = sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    except UnreadableError:  # another system than Linux
        found = [platform.processor()]
    return hashlib.sha256("\n".join([platform.machine(), *found]).encode()).hexdigest()[:16]


def _report_trouble_once(folder: pathlib.Path) -> None:
    """Replace JAX's warnings of programs that it cannot read or write, and compiles instead, by one note."""
    show, said = warnings.showwarning, []

    def show_once(message, category, *rest, **options):
        if not str(message).startswith(_TROUBLE):
            show(message, category, *rest, **options)
        elif not said:
            said.append(True)
            reason = str(message).partition(": ")[2][:160]
            print(f"note: compiled programs in {folder} are not all kept: {reason}", file=sys.stderr)

    warnings.showwarning = show_once
