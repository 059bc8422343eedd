"""Experiments, in which every part of a configuration is built once.

A configuration becomes parts by `Experiment.from_config`; the commands, the monitor and `load_run` use these parts.
"""

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from scoresde import train
from scoresde.data import Dataset
from scoresde.data.codec import Codec
from scoresde.errors import ConfigError, DataError
from scoresde.experiment.building import make_sampler, parts
from scoresde.experiment.config import change, to_json
from scoresde.experiment.inference_settings import Evaluate, Likelihood, Sampling
from scoresde.experiment.networks import make_network, network_constructor
from scoresde.experiment.parts.training import LAST_RATE
from scoresde.experiment.records import read_dataset
from scoresde.experiment.settings import Data, Optim, Training
from scoresde.experiment.values import with_tuples
from scoresde.likelihood import AbstractDequantization, AbstractTrace, BetaTildeVariance, BetaVariance, Discretization
from scoresde.nets import Network
from scoresde.sample import AbstractSampler, uniform_log_snr
from scoresde.score import AbstractPreconditioning, AbstractScore, NetworkScore
from scoresde.sde import AbstractSDE
from scoresde.train import AbstractAugmentation, Objective, Parallelism

# Number of records among which a prior of degraded data samples.
NUM_PRIOR_RECORDS = 4096


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Parts of a configuration.

    Attributes:
      config: complete configuration, in JSON types.
      seed: seed of the data order, the initial parameters and all noise of training.
      data: plain fields of the section `data`.
      training: plain fields of the section `training`.
      optim: plain fields of the section `optim`.
      sampling: plain fields of the section `sampling`.
      likelihood: plain fields of the section `likelihood`.
      evaluate: plain fields of the section `evaluate`.
      codec: codec that `data.codec` names for plain records; None: that of the source.
      sde: process; if its prior is degraded data, the prior is not set yet, see `with_prior_data`.
      network: network with only the shapes of its parameters.
      augmentation: augmentation whose label the network receives; None if there is none.
      preconditioning: preconditioning of the network, in the form for `scoresde.train.fit`.
      objective: objective of training, in the form for `scoresde.train.fit`.
      optimizer: optimizer, in the form for `scoresde.train.fit`.
      learning_rate: function from the number of updates to the learning rate.
      trace: estimator of the trace for the likelihood by the probability flow.
      dequantization: dequantization of integers for the likelihood.
      metrics: functions (samples, test records) -> number or {name: number} that `training.watch` names, by name.
      trackers: constructors of the services that receive metrics, by name.
    """

    config: dict
    seed: int
    data: Data
    training: Training
    optim: Optim
    sampling: Sampling
    likelihood: Likelihood
    evaluate: Evaluate
    codec: Codec | None
    sde: AbstractSDE
    network: Network
    augmentation: AbstractAugmentation | None
    preconditioning: AbstractPreconditioning
    objective: Objective
    learning_rate: optax.Schedule
    optimizer: optax.GradientTransformation
    trace: AbstractTrace
    dequantization: AbstractDequantization
    metrics: dict[str, Callable]
    trackers: dict[str, Callable]

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Experiment":
        """Build every part.

        Args:
          config: configuration, which is completed in place.

        Raises:
          ConfigError: all problems of all parts, one line each.
        """
        if problems := change(config, []):
            raise ConfigError(*problems)
        found, problems = parts(config.to_dict())
        if problems:
            raise ConfigError(*problems)
        return cls(config=to_json(config), **found)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of a record: [H, W, C] of an image or field, [D, H, W, C] of a volume, [points, C] of a
        curve, [D] of a vector."""
        return self.data.shape

    @property
    def process_name(self) -> str:
        """Return the name of the process, for messages."""
        return self.config["sde"]["name"]

    @property
    def sampler_name(self) -> str:
        """Return the name of the sampler, for messages and names of files."""
        return self.config["sampling"]["name"]

    @property
    def source_name(self) -> str:
        """Return the source of the data, for messages."""
        source = self.data.source
        return source["name"] if isinstance(source, dict) else source

    @property
    def model(self) -> SimpleNamespace:
        """Return the arguments of the network."""
        return SimpleNamespace(**with_tuples(self.config["model"]))

    @property
    def num_classes(self) -> int:
        """Return the number of classes of the network, or 0 if it has no classes."""
        return self.config["model"].get("num_classes", 0)

    @property
    def averages(self) -> tuple[str, ...]:
        """Return the names of the averages of the parameters; the first one is the default."""
        return (*map(train.average_name, self.training.ema), *map(train.power_name, self.training.power_ema))

    @property
    def parallelism(self) -> Parallelism:
        """Return the division of the work over devices, micro-batches and dispatches."""
        fields = dataclasses.fields(Parallelism)
        return Parallelism(**{field.name: getattr(self.training, field.name) for field in fields})

    @property
    def takes_other_grids(self) -> bool:
        """Return whether the network is the same function on every grid."""
        return bool(getattr(network_constructor(self.config["model"]), "any_grid", False))

    def dataset(self) -> Dataset:
        """Read the data set.

        Raises:
          DataError: the data set is missing or not as declared.
        """
        return read_dataset(self.data, self.codec)

    def init_network(self) -> Network:
        """Return the network with newly initialised parameters."""
        return make_network(
            self.config["model"], self.shape, self.augmentation.entries if self.augmentation else 0, self.seed
        )

    def score(self, network: Network | None = None) -> NetworkScore:
        """Return the score of `network`, by default of `init_network()`."""
        network = self.init_network() if network is None else network
        # -1 is the null class; training replaces it by the label of each example.
        label = jnp.asarray(-1) if self.num_classes else None
        return NetworkScore(self.sde, network, self.preconditioning, label)

    def with_prior_data(self, model: NetworkScore, read: Callable[[], Dataset]) -> NetworkScore:
        """Give the first training records to a score whose process has degraded data as its prior; return any other
        score unchanged.

        Args:
          model: score of the network.
          read: function that returns the data set; it is called only if records are needed.

        Raises:
          DataError: records are needed and missing.
        """
        if not model.sde.needs_data:
            return model
        try:
            dataset = read()
            x0 = dataset.encode(dataset.train.rows(np.arange(min(NUM_PRIOR_RECORDS, len(dataset.train))))[0])
        except DataError as error:
            raise DataError(f"sde.name = '{self.process_name}' starts from training records: {error}") from error
        return dataclasses.replace(model, sde=model.sde.started_from(jnp.asarray(np.asarray(x0))))

    def prepare(self, dataset: Dataset) -> Callable:
        """Return the function (value, key=key) -> x0, which maps one record to the coordinates of the process, with the
        augmentation of training."""
        basis, c = self.sde.basis, self.data

        def prepare(value, *, key):
            level_key, flip_key = jax.random.split(key)
            u = jax.random.uniform(level_key, value.shape) if c.uniform_dequantization else 0.5
            x0 = dataset.encode(value, u)
            if c.random_flip:
                x0 = jnp.where(jax.random.bernoulli(flip_key), jnp.flip(x0, axis=1), x0)
            return basis.to_modes(x0)

        return prepare

    def augment(self) -> Callable | None:
        """Return the function (x0, key=key) -> (x0, label), which applies the augmentation whose label the network
        receives, in the coordinates of the process; return None if there is none."""
        if self.augmentation is None:
            return None
        basis, change = self.sde.basis, self.augmentation

        def augment(x0, *, key):
            image, label = change(basis.from_modes(x0), key=key)
            return basis.to_modes(image), label

        return augment

    def sampler(self, model: AbstractScore | None = None, shape: tuple[int, ...] = ()) -> AbstractSampler:
        """Build the sampler for a score and the shape of an example.

        Without a score and shape, a grid that is fitted to the score is replaced by a grid that is uniform in log-SNR.

        Raises:
          ConfigError: the sampler refuses its arguments.
        """
        return make_sampler(self.config["sampling"], self.sde if model is None else model.sde, model, shape)

    def with_sampler(self, name: str) -> "Experiment":
        """Return the experiment with another sampler and its default arguments."""
        if name == self.sampler_name:
            return self
        return self.changed(f"sampling.name={name}")

    def changed(self, *texts: str) -> "Experiment":
        """Return the experiment with fields changed by `SECTION.FIELD=value` texts.

        Raises:
          ConfigError: all problems, one line each.
        """
        config = ConfigDict(self.config, type_safe=False, convert_dict=True)
        if problems := change(config, list(texts)):
            raise ConfigError(*problems)
        return Experiment.from_config(config)

    def chain(self, process: AbstractSDE) -> Discretization:
        """Return the chain of the discrete-time bound, with equal steps in log-SNR and a fixed variance."""
        variances = {"beta": BetaVariance, "beta_tilde": BetaTildeVariance}
        times = uniform_log_snr(process, self.likelihood.vlb_steps)[::-1]
        return Discretization(process, times, variances[self.likelihood.vlb_variance]())

    def beyond_decay(self) -> str:
        """Return a note if the run has steps after the end of its cosine decay, otherwise ""."""
        steps, end = self.training.steps, self.optim.decay_steps
        if not 0 < end < steps:
            return ""
        return (
            f"training.steps = {steps} goes beyond optim.decay_steps = {end}: steps {end + 1} to {steps} have the "
            f"learning rate {LAST_RATE * self.optim.learning_rate:g}, a hundredth of optim.learning_rate; to spread "
            f"the decay over all steps set optim.decay_steps = {steps}"
        )
