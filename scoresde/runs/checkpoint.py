"""Checkpoints, which Orbax writes atomically and in the background; a CRC per leaf detects damage.

Orbax restores flipped bits without an error. The CRC-32 of every leaf is therefore stored with the checkpoint (see
manifest.py) and checked on restore, and the newest checkpoint that passes is used. A checkpoint that is damaged or has
values that are not finite is reported and set aside. If none passes, the run stops and never restarts from zero.

    FOLDER/<step>/state   the arrays
    FOLDER/<step>/meta    JSON: manifest, its CRC, and the fields that the caller adds
    FOLDER/damaged/       checkpoints that were set aside
"""

import errno
import functools
import os
import pathlib
import re
import shutil
from collections.abc import Callable

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from scoresde.errors import CheckpointError, NumericError, ResourceError
from scoresde.runs.manifest import check_fit, check_manifest, crc_of_json, manifest
from scoresde.runs.quiet import leave_out_late_reports
from scoresde.runtime.files import UnreadableError, open_regular
from scoresde.runtime.reading import is_whole_number, read_object

_KEEP = 3  # number of newest checkpoints that are kept; older ones are deleted


class AllDamagedError(CheckpointError):
    """Error raised if none of the checkpoints of `steps` is valid."""

    def __init__(self, folder: pathlib.Path, steps: list[int]):
        self.steps = steps
        super().__init__(
            f"no good checkpoint in {folder}: steps {steps} are all damaged; restore the folder from a copy, "
            "or choose another --workdir to start anew"
        )


class Checkpoints:
    """Checkpoints of one run.

    Args:
      folder: folder that is created when the first checkpoint is saved.
      report: function called with one line of text about each damaged checkpoint.
      keep: number of newest checkpoints that are kept; None keeps all.
    """

    def __init__(self, folder: pathlib.Path, report: Callable[[str], None] = print, keep: int | None = _KEEP):
        self.folder = pathlib.Path(folder).resolve()
        self._report, self._keep = report, keep
        self._manager = None
        leave_out_late_reports()

    def steps(self) -> list[int]:
        """Return the steps found on disk, newest first; their checkpoints may be damaged."""
        if not self.folder.is_dir():
            return []
        return sorted((int(path.name) for path in self.folder.iterdir() if _is_step(path.name)), reverse=True)

    def save(self, step: int, state: PyTree, meta: dict) -> None:
        """Start writing the state and return; the arrays may be donated afterwards.

        Raises:
          NumericError: a value is not finite.
          ResourceError: this or an earlier write failed (disk full, no permission).
        """
        meta = meta | {"step": step, "manifest": manifest(state)}
        meta["crc32"] = crc_of_json(meta)
        try:
            manager = self._open()
            manager.check_for_errors()
            arguments = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
            manager.save(step, args=arguments, force=True)
        except Exception as error:
            raise _write_error(self.folder, error) from error

    def wait(self) -> None:
        """Wait until all checkpoints are on disk, and raise a ResourceError if one could not be written."""
        if self._manager is not None:
            try:
                self._manager.wait_until_finished()
                self._manager.check_for_errors()
            except Exception as error:
                raise _write_error(self.folder, error) from error

    def close(self) -> None:
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def metas(self, check: Callable[[dict], None] = lambda meta: None) -> dict[int, dict]:
        """Return the meta of each step whose meta is intact, newest first; the arrays are not read.

        Args:
          check: function that raises if a meta does not have the expected form; the meta then counts as damaged.
        """
        found = {}
        for step in self.steps():
            try:
                meta = self._read_meta(step)
                check(meta)
                found[step] = meta
            except (UnreadableError, ValueError) as error:
                self._report(f"checkpoint at step {step} is damaged ({_first_line(error)})")
        return found

    def remove(self, steps: list[int]) -> None:
        """Delete checkpoints. Call this on every process."""
        self.close()
        if jax.process_index() == 0:
            for step in steps:
                shutil.rmtree(self.folder / str(step))
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("checkpoints removed")

    def restore(
        self, target: PyTree, *, accept: Callable[[dict], None], set_aside: bool, step: int | None = None
    ) -> tuple[PyTree, dict] | None:
        """Return the newest valid (state, meta), or None if there is no checkpoint at all.

        Args:
          target: arrays or ShapeDtypeStructs with the wanted shardings, on any number of devices.
          accept: function that raises if the stored meta does not belong to this run; called before arrays are read.
          set_aside: whether to move damaged checkpoints to FOLDER/damaged, so that their steps can be written again.
          step: only step to restore, which must exist; None: any.

        Raises:
          CheckpointError: no checkpoint is valid, or a valid one does not fit the target.
        """
        return self._newest_valid(functools.partial(_read_whole, target), accept, set_aside=set_aside, step=step)

    def restore_part(
        self, wanted: PyTree, *, accept: Callable[[dict], None], step: int | None = None
    ) -> tuple[PyTree, dict] | None:
        """Return the newest valid (part of a state, meta), or None if there is no checkpoint at all.

        Only the leaves of `wanted` are read, and memory is used for them alone. Each is checked by its CRC-32; other
        leaves are not, so a checkpoint that is damaged elsewhere is used. Nothing is set aside.

        Args:
          wanted: state with arrays or ShapeDtypeStructs, and None in place of every leaf that is not wanted.
          accept: function that raises, as in `restore`.
          step: as in `restore`.

        Raises:
          CheckpointError: no checkpoint is valid, or a valid one lacks these leaves.
        """
        return self._newest_valid(functools.partial(_read_part, wanted), accept, set_aside=False, step=step)

    def _newest_valid(self, read: Callable, accept, *, set_aside: bool, step: int | None):
        damaged = []
        for step in self.steps() if step is None else [step]:
            found = self._read_if_good(step, read, accept)
            if found is None:
                damaged.append(step)
                continue
            if damaged:
                self._report(f"using the checkpoint at step {step}")
                if set_aside:
                    self._set_aside(damaged)
            return found
        if damaged:
            raise AllDamagedError(self.folder, damaged)
        return None

    def _read_if_good(self, step: int, read: Callable, accept) -> tuple[PyTree, dict] | None:
        """Return (state, meta), or report and return None if the checkpoint is damaged on this or another process."""
        found = problem = None
        try:
            found = self._read(step, read, accept)
        except CheckpointError:
            raise
        except Exception as error:  # any exception that Orbax raises for a damaged file
            problem = _first_line(error)
        if not _any_process(problem is not None):  # all have read their parts and can exchange CRCs
            try:
                check_manifest(found[0], found[1]["manifest"])
            except (NumericError, ValueError) as error:
                problem = _first_line(error)
        if _any_process(problem is not None):
            self._report(f"checkpoint at step {step} is damaged ({problem or 'on another process'})")
            return None
        return found

    def _read_meta(self, step: int) -> dict:
        """Return the meta of one checkpoint, and raise an UnreadableError or ValueError if it is damaged."""
        try:
            meta = read_object(self.folder / str(step) / "meta" / "metadata")  # written here by Orbax's JsonSave
        except UnreadableError as error:
            raise UnreadableError(f"meta: {error}") from None
        if meta.pop("crc32", None) != crc_of_json(meta) or meta.get("step") != step:
            raise ValueError("CRC-32 or step differs in meta")
        return meta

    def _read(self, step: int, read: Callable, accept) -> tuple[PyTree, dict]:
        meta = self._read_meta(step)
        _refuse_irregular(self.folder / str(step))
        accept(meta)
        # A CheckpointManager is not used here, because it would read files of all other steps as well.
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
            return read(reader, self.folder / str(step), step, meta["manifest"]), meta

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            self._set_irregular_aside()
            options = ocp.CheckpointManagerOptions(max_to_keep=self._keep, cleanup_tmp_directories=True, create=True)
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        return self._manager

    def _set_irregular_aside(self) -> None:
        """Set aside the steps with a FIFO or a device, because a manager reads files of every step and would hang."""
        irregular = []
        for step in self.steps():
            try:
                _refuse_irregular(self.folder / str(step))
            except UnreadableError as error:
                self._report(f"checkpoint at step {step} is damaged ({error})")
                irregular.append(step)
        if _any_process(bool(irregular)):
            self._set_aside(irregular)

    def _set_aside(self, steps: list[int]) -> None:
        self.close()
        if jax.process_index() == 0:
            for step in steps:
                place = self.folder / "damaged" / str(step)
                place.parent.mkdir(exist_ok=True)
                shutil.rmtree(place, ignore_errors=True)
                (self.folder / str(step)).rename(place)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged checkpoints set aside")


def _read_whole(
    target: PyTree, reader: ocp.Checkpointer, folder: pathlib.Path, step: int, stored: dict[str, dict]
) -> PyTree:
    """Read all leaves of the checkpoint in a folder, in the structure of `target`; `stored` is its manifest."""
    target = jax.tree.map(ocp.utils.to_shape_dtype_struct, target)
    check_fit(step, target, stored, stored.keys())
    return reader.restore(folder, args=ocp.args.Composite(state=ocp.args.StandardRestore(target))).state


def _read_part(
    wanted: PyTree, reader: ocp.Checkpointer, folder: pathlib.Path, step: int, stored: dict[str, dict]
) -> PyTree:
    """Read the leaves of `wanted` from a folder; `stored` is the manifest of the checkpoint."""
    leaves, tree = jax.tree.flatten(jax.tree.map(ocp.utils.to_shape_dtype_struct, wanted))
    check_fit(step, wanted, stored)
    # Orbax reads part of a checkpoint only into nested dictionaries with sorted strings as keys. The same dictionaries
    # with numbers as values identify the leaves.
    numbers = ocp.tree.serialize_tree(tree.unflatten(range(len(leaves))), keep_empty_nodes=False)
    item = jax.tree.map(lambda number: leaves[number], numbers)
    options = dict(restore_args=ocp.checkpoint_utils.construct_restore_args(item), partial_restore=True)
    found = reader.restore(folder, args=ocp.args.Composite(state=ocp.args.PyTreeRestore(item, **options))).state
    by_number = dict(zip(jax.tree.leaves(numbers), jax.tree.leaves(found), strict=True))
    return tree.unflatten([by_number[number] for number in range(len(leaves))])


def _any_process(flag: bool) -> bool:
    """Return whether the value is true on any process, so that all of them use the same checkpoint."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def _is_step(name: str) -> bool:
    """Return whether Orbax gives this name to a step: "40" is one; "040" and digits of other scripts are not."""
    return is_whole_number(name) and str(int(name)) == name


def _refuse_irregular(step: pathlib.Path) -> None:
    """Raise an UnreadableError if `step` contains more than files and folders; tensorstore would wait for a FIFO."""
    for place, _, files in os.walk(step):
        for name in files:
            open_regular(os.path.join(place, name)).close()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:120]


def _write_error(folder: pathlib.Path, error: Exception) -> ResourceError:
    """Return a ResourceError for a failed write; tensorstore's messages contain the error number of the system."""
    number = re.search(r"os_error_code='(\d+)'", str(error))
    code = int(number[1]) if number else error.errno if isinstance(error, OSError) else None
    reason = os.strerror(code) if code in errno.errorcode else _first_line(error)
    return ResourceError(
        f"cannot write a checkpoint in {folder}: {reason}; free space or permissions, then run the same "
        "command again (earlier checkpoints are untouched)"
    )
