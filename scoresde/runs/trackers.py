"""Trackers that receive the metrics of a run: Weights & Biases, MLflow, trackio, with one interface of three methods.

Trackers only receive data; nothing they do affects the run. If a tracker fails, it is disabled with one warning, and
training continues; metrics.jsonl contains all metrics in any case. Keys and addresses come from the environment
(WANDB_API_KEY, MLFLOW_TRACKING_URI, TRACKIO_SPACE_ID, ...) and are not stored. WORKDIR/trackers.json contains the id of
the run at each tracker, so that a resumed run continues its entry.

The packages are optional and have separate release cycles, so only documented calls are used.
"""

import abc
import importlib
import json
import os
import pathlib
import uuid
from collections.abc import Callable
from typing import ClassVar

from scoresde.errors import ConfigError
from scoresde.runtime.files import UnreadableError, write_text
from scoresde.runtime.reading import read_object

PROJECT = "scoresde"  # for W&B and trackio; WANDB_PROJECT and TRACKIO_PROJECT override it


class AbstractTracker(abc.ABC):
    """Service that receives the metrics of a run. User-defined classes are called with the arguments below.

    Args:
      name: name of the run, which is that of its folder.
      run_id: id of the run at this service, the same in all its sessions.
      config: configuration of the run, in JSON types.
      folder: run folder.
    """

    package: ClassVar[str] = ""  # the package that the tracker needs, an extra of scoresde

    @abc.abstractmethod
    def write(self, step: int, values: dict[str, float]) -> None: ...

    @abc.abstractmethod
    def image(self, step: int, path: pathlib.Path) -> None: ...

    @abc.abstractmethod
    def close(self) -> None: ...


class WandB(AbstractTracker):
    """Tracker of Weights & Biases; WANDB_MODE=offline keeps the run in WORKDIR/wandb.

    Args:
      name: name of the run.
      run_id: id of the run, under which a resumed run continues.
      config: configuration, stored with the run.
      folder: folder of the run, in which W&B keeps its files.
    """

    package = "wandb"

    def __init__(self, name: str, run_id: str, config: dict, folder: pathlib.Path):
        self._wandb = importlib.import_module(self.package)
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=name,
            id=run_id,
            config=config,
            dir=str(folder),
            resume="allow",
        )

    def write(self, step, values):
        self._run.log(values, step=step)

    def image(self, step, path):
        self._run.log({"samples": self._wandb.Image(str(path))}, step=step)

    def close(self):
        self._run.finish()


class MLflow(AbstractTracker):
    """Tracker of MLflow; without MLFLOW_TRACKING_URI it keeps the run in its default store.

    Runs are identified by a tag, because MLflow assigns their ids. Characters that MLflow does not allow in names of
    metrics become "_".

    Args:
      name: name of the run.
      run_id: id of the run, stored as the tag scoresde_id, by which a resumed run continues.
      config: configuration, stored as config.json.
      folder: folder of the run; not used.
    """

    package = "mlflow"

    def __init__(self, name: str, run_id: str, config: dict, folder: pathlib.Path):
        del folder
        self._mlflow = module = importlib.import_module(self.package)
        module.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
        known = module.search_runs(filter_string=f"tags.scoresde_id = '{run_id}'", output_format="list")
        if known:
            module.start_run(run_id=known[0].info.run_id)
        else:
            module.start_run(run_name=name, tags={"scoresde_id": run_id})
            module.log_dict(config, "config.json")

    def write(self, step, values):
        self._mlflow.log_metrics({_plain(name): value for name, value in values.items()}, step=step)

    def image(self, step, path):
        self._mlflow.log_artifact(str(path), "samples")

    def close(self):
        self._mlflow.end_run()


class Trackio(AbstractTracker):
    """Tracker of trackio, on this machine unless TRACKIO_SPACE_ID names a Space.

    Args:
      name: name of the run.
      run_id: id of the run; its first 8 characters are appended to the name.
      config: configuration, stored with the run.
      folder: folder of the run; not used.
    """

    package = "trackio"

    def __init__(self, name: str, run_id: str, config: dict, folder: pathlib.Path):
        del folder
        self._trackio = importlib.import_module(self.package)
        self._trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT), name=f"{name}-{run_id[:8]}", config=config,
            resume="allow",
            space_id=os.environ.get("TRACKIO_SPACE_ID"), embed=False,
        )  # fmt: skip

    def write(self, step, values):
        self._trackio.log(values, step=step)

    def image(self, step, path):
        self._trackio.log({"samples": self._trackio.Image(str(path))}, step=step)

    def close(self):
        self._trackio.finish()


class Trackers:
    """All trackers of a run. A tracker that raises, also when it starts (no key, no network), is disabled with a
    warning.

    Args:
      classes: classes, perhaps with some arguments bound (`functools.partial`), by the names that appear in warnings
        and in `trackers.json`.
      folder: run folder.
      config: configuration of the run, in JSON types.
      say: function called with one line of text per warning.
    """

    def __init__(
        self,
        classes: dict[str, Callable[..., AbstractTracker]],
        folder: pathlib.Path,
        config: dict,
        say: Callable[[str], None],
    ):
        self._say, self._open = say, {}
        for name, tracker in classes.items():
            self._try(name, lambda name=name, tracker=tracker: self._start(name, tracker, folder, config))

    def write(self, step: int, values: dict[str, float]) -> None:
        self._each(lambda tracker: tracker.write(step, values))

    def image(self, step: int, path: pathlib.Path) -> None:
        self._each(lambda tracker: tracker.image(step, path))

    def close(self) -> None:
        self._each(lambda tracker: tracker.close())

    def _start(self, name: str, tracker: Callable[..., AbstractTracker], folder: pathlib.Path, config: dict) -> None:
        self._open[name] = tracker(folder.resolve().name, _id(folder, name), config, folder)

    def _each(self, action: Callable[[AbstractTracker], None]) -> None:
        for name, tracker in list(self._open.items()):
            self._try(name, lambda tracker=tracker: action(tracker))

    def _try(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # training continues after any exception of a tracker
            self._open.pop(name, None)
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self._say(
                f"warning: tracker {name} failed ({first[:160]}) and is left out from here on; metrics.jsonl has all "
                "figures"
            )


def require(classes: dict[str, Callable[..., AbstractTracker]]) -> None:
    """Check that the packages are installed. Call this before the work starts.

    Raises:
      ConfigError: a package is not installed.
    """
    for tracker in classes.values():
        name = getattr(getattr(tracker, "func", tracker), "package", "")
        if not name:
            continue
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"training.trackers: {name} cannot be imported ({error}); pip install 'scoresde[{name}]', or leave it "
                "out"
            ) from error


def _id(folder: pathlib.Path, name: str) -> str:
    """Return the id of this run at a tracker: that of an earlier session, or a new one."""
    path = folder / "trackers.json"
    try:
        known = {key: value for key, value in read_object(path).items() if isinstance(value, str)}
    except UnreadableError:
        known = {}
    if name not in known:
        known[name] = uuid.uuid4().hex
        write_text(path, json.dumps(known, indent=1) + "\n")
    return known[name]


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in name)
