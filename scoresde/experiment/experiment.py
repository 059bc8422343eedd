"""Experiments, in which every part of a configuration is built once.

A configuration becomes parts by `Experiment.from_config`; the commands, the monitor and `load_run` use these parts.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType, SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from scoresde import train
from scoresde.data import Dataset
from scoresde.data.codec import Codec
from scoresde.data.conditions import LABEL, with_conditions
from scoresde.errors import ConfigError, DataError
from scoresde.experiment.building import AUGMENTATION, make_sampler, parts
from scoresde.experiment.config import change, to_json
from scoresde.experiment.inference_settings import Evaluate, Likelihood, Sampling
from scoresde.experiment.networks import make_network, network_constructor
from scoresde.experiment.parts.training import LAST_RATE
from scoresde.experiment.records import read_dataset
from scoresde.experiment.settings import Data, Optim, Training
from scoresde.experiment.values import with_tuples
from scoresde.likelihood import AbstractDequantization, AbstractTrace, BetaTildeVariance, BetaVariance, Discretization
from scoresde.nets import AbstractCondition, Network
from scoresde.runtime.streams import branch
from scoresde.sample import AbstractSampler, uniform_log_snr
from scoresde.score import AbstractPreconditioning, AbstractScore, NetworkScore
from scoresde.sde import AbstractSDE
from scoresde.train import AbstractAugmentation, Objective, Parallelism

Scales = Mapping[str, tuple]  # mean and deviation of conditions by name
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
      conditions: kind of each entry of the condition that the network takes, by name.
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
    conditions: dict[str, AbstractCondition]
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
        """Return the number of classes of the entry "class" of the condition, or 0 if there is none."""
        return self.config["conditions"].get(LABEL, {}).get("num_classes", 0)

    def trains_null(self, name: str, nulls: frozenset[str]) -> bool:
        """Return whether training sees the null of a condition.

        Args:
          name: name of the entry.
          nulls: entries that some training records lack.
        """
        dropout = self.training.condition_dropout
        probability = dropout.get(name, 0) if isinstance(dropout, dict) else dropout
        return probability > 0 or name in nulls

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
        return with_conditions(read_dataset(self.data, self.codec), self.conditions)

    def init_network(self) -> Network:
        """Return the network with newly initialised parameters."""
        return make_network(self.config["model"], self.shape, self.conditions, self.seed)

    def score(self, network: Network | None = None, scales: Scales = MappingProxyType({})) -> NetworkScore:
        """Return the score of `network`, by default of `init_network()`.

        Args:
          network: network of the experiment.
          scales: mean and deviation of the conditions that are standardised, by name.
        """
        network = self.init_network() if network is None else network
        scales = {name: tuple(jnp.asarray(part) for part in pair) for name, pair in scales.items()}
        return NetworkScore(self.sde, network, self.preconditioning, scales=scales)

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
        """Return the function (value, condition, key=key) -> (x0, condition), which maps one record to the coordinates
        of the process, mirrored at random if training mirrors records."""
        basis, c, kinds = self.sde.basis, self.data, self.conditions

        def prepare(value, condition, *, key):
            level_key, flip_key = jax.random.split(key)
            u = jax.random.uniform(level_key, value.shape) if c.uniform_dequantization else 0.5
            x0 = dataset.encode(value, u)
            if c.random_flip:
                flips = jax.random.bernoulli(flip_key)
                x0 = jnp.where(flips, jnp.flip(x0, axis=1), x0)
                condition = {
                    name: jnp.where(flips, kinds[name].flip(y), y) if name in kinds else y
                    for name, y in condition.items()
                }
            return basis.to_modes(x0), condition

        return prepare

    def prepare_augmented(self, dataset: Dataset) -> Callable:
        """Return the function like `prepare`, with the augmentation of training, whose label is an entry of the
        condition."""
        prepare, basis, change = self.prepare(dataset), self.sde.basis, self.augmentation

        def augmented(value, condition, *, key):
            x0, condition = prepare(value, condition, key=key)
            image, label = change(basis.from_modes(x0), key=branch(key, "augmentation"))
            return basis.to_modes(image), condition | {AUGMENTATION: label}

        return prepare if change is None else augmented

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
