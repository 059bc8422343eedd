"""Compiled programs of the commands, kept in the user's cache, so that the same command compiles them once.

JAX keeps them (its persistent compilation cache) and calls them by all that they depend on. This module says where, and
bounds how much. Programs are code: a folder that other users may write to is not taken.
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

MOST = 2**30  # bytes; above it, programs go in the order of their last use, until three quarters of it are left
_FREE = 2**26  # bytes that the disk must have left
_PROBE = 2**16  # bytes that are written to see whether more can be: a quota does not show in the free space
_TROUBLE = ("Error reading persistent compilation cache", "Error writing persistent compilation cache")


def keep_programs() -> None:
    """Have JAX keep its programs; to be called before JAX is imported. Where it cannot be done, a note says why.

    Nothing is changed where JAX is imported already, or where the user has set JAX_COMPILATION_CACHE_DIR.

    A program that may call Python cannot be kept, and the checks that Equinox and diffrax make while a program runs
    call Python to raise their error. So EQX_ON_ERROR becomes "nan", unless the user has set it: the result of a failed
    check is NaN, which the commands report.
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
    # By default those that took less than a second are not kept, and a command has tens of them.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("EQX_ON_ERROR", "nan")
    _report_trouble_once(folder)


def shrink(folder: pathlib.Path, most: int) -> None:
    """If the files below the folder have more than `most` bytes, remove those that were not used for longest."""
    files = []
    for path in folder.rglob("*"):
        try:
            found = path.stat(follow_symlinks=False)
        except OSError:  # another process has just removed it
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
    """Why programs cannot be kept in a folder, "" if they can."""
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
    """A name for what a program for this processor depends on: JAX does not tell processors of one kind apart, and a
    home directory may serve several machines."""
    try:
        lines = read_bytes("/proc/cpuinfo").decode(errors="replace").splitlines()
        found = sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    except UnreadableError:  # another system than Linux
        found = [platform.processor()]
    return hashlib.sha256("\n".join([platform.machine(), *found]).encode()).hexdigest()[:16]


def _report_trouble_once(folder: pathlib.Path) -> None:
    """JAX warns of each program that it cannot read or write, and compiles it: one note for all of them."""
    show, said = warnings.showwarning, []

    def show_once(message, category, *rest, **options):
        if not str(message).startswith(_TROUBLE):
            show(message, category, *rest, **options)
        elif not said:
            said.append(True)
            reason = str(message).partition(": ")[2][:160]
            print(f"note: compiled programs in {folder} are not all kept: {reason}", file=sys.stderr)

    warnings.showwarning = show_once
