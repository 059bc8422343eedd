"""An experiment all of whose parts come from a package outside."""

from scoresde.config import component, default

PARTS = "scoresde_outside"


def get_config():
    c = default()
    c.sde = component("linear_log_snr", log_snr_max=9.0)  # an entry point of the package
    c.model = component(f"{PARTS}.networks:OneLayer", width=24)
    c.preconditioning = component("edm", sigma_data=0.7)
    c.data.source = component(f"{PARTS}.data:Ring", radius=1.0)
    c.data.image_size, c.data.channels, c.data.levels = 0, 2, 0
    c.training.weighting = component(f"{PARTS}.training:Truncated", least=0.5)
    c.training.time_law = component(f"{PARTS}.training:Power")
    c.training.objective = component(f"{PARTS}.training:Scaled", factor=2.0)
    c.training.watch = ("moments", component(f"{PARTS}.training:radius", power=1.0))
    c.training.keep_best = "radius"
    c.training.steps, c.training.batch_size, c.training.ema = 40, 64, (0.9,)
    c.training.log_every, c.training.checkpoint_every, c.training.sample_every = 10, 10, 20
    c.optim = component("optax:adamw", weight_decay=1e-3)
    c.optim.learning_rate, c.optim.warmup = 1e-2, 5
    c.sampling = component(f"{PARTS}.samplers:Ancestral", steps=30)
    c.sampling.num = 32
    c.likelihood.probes, c.evaluate.num = 0, 20
    return c
