"""Our side of train_step.py and sample.py, run by speed.py: the training step and the samplers as a configuration
builds them."""

import dataclasses

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import speed
from network_weights import from_dit, placed
from speed_count import least_work

import scoresde.sample as s
from scoresde.convert.diffusers import from_diffusers
from scoresde.experiment import Experiment
from scoresde.experiment.config import default
from scoresde.runtime.sharding import data_mesh
from scoresde.train.program import return_heap
from scoresde.train.step import init_state, make_step, with_params

CPU = jax.default_backend() == "cpu"
SAMPLERS = {
    "ddim": s.DDIM,
    "dpmpp_2m": s.DPMSolverPP,
    "euler": lambda n: s.ProbabilityFlow(dfx.Euler(), s.FixedGrid(n)),
}


def configuration(told: dict, dtype: str):
    c = default()
    c.sde.name = told["process"]
    c.model.update({name: tuple(v) if isinstance(v, list) else v for name, v in told["ours"].items()})
    c.model.preconditioning, c.model.dtype = {"vp": "eps", "ve": "score"}[told["process"]], dtype
    c.data.image_size, c.data.channels = tuple(told["shape"][:2]), told["shape"][2]
    return c


def copied(theirs: dict, told: dict) -> dict:
    """Their parameters under our names."""
    if "DiT" in told["network"]:
        return from_dit(theirs, told["options"])
    last = told["options"][
        "layers_per_block"
    ]  # the attention that speed_torch.as_score_sde leaves in a level of the decoder
    if told["as_score_sde"]:
        theirs = {
            n.replace(f"attentions.{last}.", "attentions.0.") if n.startswith("up_blocks") else n: p
            for n, p in theirs.items()
        }
    return from_diffusers(theirs, len(told["options"]["block_out_channels"])).ours


def make(score, config, shape, batch: int):
    """The step of training, and functions for its state and a batch of random bytes: the one place that knows how."""
    optimizer = Experiment.from_config(config).optimizer

    def prepare(value, condition, *, key):
        del key
        return 2 * ((value.astype(jnp.float32) + 0.5) / 256) - 1, condition

    classes = Experiment.from_config(config).num_classes

    def state():
        return init_state(score.network.params, optimizer, Experiment.from_config(config).averages, jax.random.key(0))

    def data():  # of one step in a dispatch
        value = jax.random.randint(jax.random.key(1), (1, batch, *shape), 0, 256).astype(jnp.uint8)
        return {"value": value, "condition": {"class": jnp.arange(batch)[None] % classes} if classes else {}}

    like = jax.eval_shape(state)
    step = make_step(
        score, Experiment.from_config(config).objective, optimizer, prepare=prepare, state=like, mesh=data_mesh()
    )

    return step, state, data


class Worker:
    def start(self, told: dict, batch: int, dtype: str, file: str) -> dict:
        """The network with the parameters in `file`, those of the other side."""
        self.told, self.batch, self.config = told, batch, configuration(told, dtype)
        self.score = Experiment.from_config(self.config).score()
        with np.load(file) as saved:
            theirs = {name.removeprefix("p/"): saved[name] for name in saved if name.startswith("p/")}
            self.saved = {name: saved[name] for name in saved if not name.startswith("p/")}
        self.score = with_params(self.score, placed(self.score.network, copied(theirs, told)).params)
        self.classes = Experiment.from_config(self.config).num_classes
        device = {"device": jax.devices()[0].device_kind, "platform": jax.default_backend(), "cores": speed.cores()}
        return {"jax": jax.__version__} | device

    def check(self) -> dict:
        """Largest relative differences of output, loss and norm of the gradient, both sides in full float32 and without
        dropout."""
        fine = Experiment.from_config(configuration(self.told, "float32")).score()
        x0, z, y = (jnp.asarray(self.saved[name].transpose(0, 2, 3, 1)) for name in ("x0", "z", "y"))
        t, given = jnp.asarray(self.saved["t"]), {"class": jnp.array([1, 4])} if self.classes else {}
        sign = {"vp": -1.0, "ve": 1.0}[self.told["process"]]

        def loss(params):
            def output(x0, z, t, given):
                score = with_params(fine, params).given(given)
                return sign * score.sde.sigma(t) * score(score.sde.alpha(t) * x0 + score.sde.sigma(t) * z, t)

            out = jax.vmap(output)(x0, z, t, given)
            return jnp.mean((out + sign * z) ** 2), out

        with jax.default_matmul_precision("highest"):
            (value, out), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(self.score.network.params)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))
        error = jnp.sqrt(jnp.sum((out - y) ** 2, axis=(1, 2, 3)) / jnp.sum(y**2, axis=(1, 2, 3)))
        return {
            "output": float(error.max()),
            "loss": abs(float(value) / float(self.saved["loss"]) - 1),
            "gradient_norm": abs(float(norm) / float(self.saved["norm"]) - 1),
        }

    def compile(self, what: str) -> dict:
        """The program of "train" or "forward", with what it must do and, of the first, what the compiler says."""
        if what == "forward":
            x, self.t = jnp.zeros((self.batch, *self.told["shape"])), jnp.full(self.batch, 0.5)
            self.x = jax.random.normal(jax.random.key(2), x.shape)
            called = jax.jit(lambda params, x, t: jax.vmap(with_params(self.score, params))(x, t))
            traced = called.trace(self.state.params, self.x, self.t)
            self.forward = traced.lower().compile()
            return {"forward": least_work(traced)}
        step, state, data = make(self.score, self.config, self.told["shape"], self.batch)
        self.state, self.data = state(), data()
        self.score = dataclasses.replace(
            self.score, network=jax.eval_shape(lambda: self.score.network)
        )  # training has one copy, the state's
        trained = step.trace(self.state, self.data)
        lowered = trained.lower()
        self.step = lowered.compile()
        memory = self.step.memory_analysis()
        told = {
            "train": least_work(trained) | {"xla_flops": (lowered.cost_analysis() or {}).get("flops")},
            "program_bytes": {n: getattr(memory, f"{n}_size_in_bytes") for n in ("argument", "temp")}
            if memory
            else None,
            "parameters": self.score.network.num_params,
        }
        del trained, lowered
        return_heap()  # as `scoresde.train.program.compile_step`
        return told

    def time(self, what: str, repeats: int, inner: int) -> dict:
        """What: "train" or "forward"."""
        if what == "forward":
            self.params = self.state.params
            return speed.timed(self._forward, lambda: jax.block_until_ready(self.out), repeats, inner)
        answer = speed.timed(self._train, lambda: jax.block_until_ready(self.out), repeats, inner)
        if skipped := int(self.out["skipped"]):
            raise FloatingPointError(f"{skipped} steps were not finite: they did less work")
        return answer

    def _train(self) -> None:
        self.state, self.out = self.step(self.state, self.data)

    def _forward(self) -> None:
        self.out = self.forward(self.params, self.x, self.t)

    def grid(self, what: str, steps: int, file: str) -> None:
        """x_T and the times of a sampler, for both sides."""
        self.sampler = SAMPLERS[what](steps)
        grid = getattr(self.sampler, "grid", None) or self.sampler.stepping.grid
        x_T = np.asarray(jax.random.normal(jax.random.key(4), (self.batch, *self.told["shape"])))
        self.x = jnp.asarray(x_T)
        np.savez(file, x_T=x_T.transpose(0, 3, 1, 2), times=np.asarray(grid(self.score.sde, steps), np.float64))

    def draw(self, save: str, repeats: int, inner: int) -> dict:
        """Samples from x_T by the sampler of the last `grid`. The result goes to `save`."""

        @jax.jit
        def draw(score, x, keys):
            return jax.vmap(lambda x, key: self.sampler(score, x, key=key).x)(x, keys)

        if not inner:
            with jax.default_matmul_precision("highest" if save else None):
                self.drawing = draw.lower(self.score, self.x, jax.random.split(jax.random.key(5), self.batch)).compile()
        keys = jax.random.split(jax.random.key(5), self.batch)

        def call():
            self.out = self.drawing(self.score, self.x, keys)

        answer = speed.timed(call, lambda: jax.block_until_ready(self.out), repeats, inner)
        if save:
            np.save(save, np.asarray(self.out).transpose(0, 3, 1, 2))
        return answer

    def peak(self, size: int, dtype: str) -> dict:
        a, b = jax.random.normal(jax.random.key(6), (2, size, size)).astype(dtype)
        product = jax.jit(jnp.matmul)

        def call():
            self.out = product(a, b)

        found = speed.timed(call, lambda: jax.block_until_ready(self.out), 5, 0)
        return {"flops_per_s": 2 * size**3 / min(found["cpu_seconds" if CPU else "seconds"])}

    def memory(self) -> dict:
        statistics = None if CPU else jax.devices()[0].memory_stats()
        return {"peak_bytes": statistics["peak_bytes_in_use"] if statistics else speed.peak_memory()}


if __name__ == "__main__":
    speed.serve(Worker())
