"""Kinds of components and their short names, one line per name."""

from scoresde.data.sources import SOURCES
from scoresde.experiment.component import Kind

_PROCESSES, _SAMPLERS = "scoresde.experiment.parts.processes", "scoresde.experiment.parts.samplers"
_TRAINING = "scoresde.experiment.parts.training"

BASIS = Kind(
    "basis",
    "scoresde.sde:AbstractBasis",
    {name: f"{_PROCESSES}:{name}" for name in ("dct", "fourier", "haar", "kernel")},
    given=("grid",),
)
CODEC = Kind(
    "codec",
    "scoresde.data.codec:Codec",
    {"standard": "scoresde.experiment.parts.records:standard_codec"},
    given=("shape", "levels", "centered"),
)
COVARIANCE = Kind(
    "covariance",
    "scoresde.sde:AbstractCovariance",
    {"power_law": f"{_PROCESSES}:power_law", "gram": "scoresde.sde:Gram"},
    given=("basis",),
)
PROCESS = Kind(
    "process",
    "scoresde.sde:AbstractSDE",
    {
        "vp": "scoresde.sde:VP",
        "subvp": "scoresde.sde:SubVP",
        "ve": "scoresde.sde:VE",
        "cosine": "scoresde.sde:Cosine",
        "ddpm_cosine": f"{_PROCESSES}:ddpm_cosine",
        "karras": "scoresde.sde:Karras",
        "coloured_vp": f"{_PROCESSES}:coloured_vp",
        "coloured_ve": f"{_PROCESSES}:coloured_ve",
        "coloured_cosine": f"{_PROCESSES}:coloured_cosine",
        "heat": f"{_PROCESSES}:heat",
        "blur": f"{_PROCESSES}:blur",
        "inverse_heat": f"{_PROCESSES}:inverse_heat",
        "pixelate": f"{_PROCESSES}:pixelate",
        "fade": f"{_PROCESSES}:fade",
    },
    given=("grid",),
    nested={"basis": BASIS, "covariance": COVARIANCE},
)
NETWORK = Kind(
    "network",
    "flax.nnx:Module",
    {
        "unet": "scoresde.nets:UNet",
        "edm2": "scoresde.nets:EDM2UNet",
        "dit": "scoresde.nets:DiT",
        "fno": "scoresde.nets:FNO",
        "ufno": "scoresde.nets:UFNO",
        "mlp": "scoresde.nets:MLP",
    },
    given=("shape", "conditions", "param_dtype"),
    also=("equinox:Module",),
    returns=("builtins:tuple",),
)
CONDITION = Kind(
    "condition",
    "scoresde.nets:AbstractCondition",
    {
        "class": "scoresde.nets:ClassCondition",
        "vector": "scoresde.nets:VectorCondition",
        "image": "scoresde.nets:ImageCondition",
        "encoded_image": "scoresde.nets:EncodedImageCondition",
        "sequence": "scoresde.nets:SequenceCondition",
    },
    given=("grid",),
)
PRECONDITIONING = Kind(
    "preconditioning",
    "scoresde.score:AbstractPreconditioning",
    {
        "edm": f"{_TRAINING}:edm_preconditioning",
        "eps": "scoresde.score:EpsPreconditioning",
        "score": "scoresde.score:ScorePreconditioning",
        "v": "scoresde.score:VPreconditioning",
    },
    given=("sde",),
)
AUGMENTATION = Kind(
    "augmentation",
    "scoresde.train:AbstractAugmentation",
    {"edm": "scoresde.train:EDMAugmentation"},
    number=("edm", "probability"),
)
OBJECTIVE = Kind(
    "objective",
    "scoresde.train:Objective",
    {"denoising": "scoresde.train:Objective"},
    given=("weighting", "time_law", "reduce", "sde", "preconditioning"),
)
WEIGHTING = Kind(
    "weighting",
    "scoresde.train:AbstractWeighting",
    {
        "sigma2": "scoresde.train:SigmaSquared",
        "noise_field": "scoresde.train:NoiseField",
        "likelihood": "scoresde.train:LikelihoodWeighting",
        "edm": f"{_TRAINING}:edm_weighting",
    },
    given=("sde", "preconditioning"),
)
TIME_LAW = Kind(
    "law of t",
    "scoresde.train:AbstractTimeLaw",
    {
        "uniform": "scoresde.train:UniformTime",
        "low_discrepancy": "scoresde.train:StratifiedTime",
        "log_snr": "scoresde.train:UniformLogSNR",
        "log_sigma": "scoresde.train:UniformLogSigma",
        "log_normal": "scoresde.train:LogNormalSigma",
    },
    given=("sde",),
    key="time_law",
)
OPTIMIZER = Kind(
    "optimizer",
    "optax:GradientTransformation",
    {"adam": f"{_TRAINING}:adam", "adamw": f"{_TRAINING}:adamw"},
    given=("learning_rate",),
    trusted=("optax",),
)
SCHEDULE = Kind(
    "schedule",
    "",
    {"warmup_cosine": f"{_TRAINING}:warmup_cosine"},
    given=("learning_rate", "warmup", "decay_steps"),
    trusted=("optax",),
)
GRID = Kind(
    "time grid",
    "",
    {
        "uniform": "scoresde.sample:uniform",
        "quadratic": "scoresde.sample:quadratic",
        "geometric": "scoresde.sample:geometric",
        "log_snr": "scoresde.sample:uniform_log_snr",
        "karras": "scoresde.sample:karras",
        "optimised": f"{_SAMPLERS}:optimised",
    },
    given=("sde", "steps", "score", "shape"),
    partial=True,
    key="grid",
)
SOLVER = Kind(
    "solver",
    "diffrax:AbstractSolver",
    {
        "euler": "diffrax:Euler",
        "heun": "diffrax:Heun",
        "sea": "diffrax:SEA",
        "shark": "diffrax:ShARK",
        "sra1": "diffrax:SRA1",
        "slowrk": "diffrax:SlowRK",
        "bosh3": "diffrax:Bosh3",
        "tsit5": "diffrax:Tsit5",
        "dopri5": "diffrax:Dopri5",
        "dopri8": "diffrax:Dopri8",
        "kvaerno3": "diffrax:Kvaerno3",
        "kvaerno5": "diffrax:Kvaerno5",
    },
    given=("scan_kind", "root_find_max_steps"),  # internal arguments of diffrax
)
PREDICTOR = Kind(
    "predictor",
    "scoresde.sample:AbstractPredictor",
    {
        "ancestral": "scoresde.sample:Ancestral",
        "ancestral_transition": f"{_SAMPLERS}:ancestral_transition",
        "reverse_diffusion": "scoresde.sample:ReverseDiffusion",
        "none": f"{_SAMPLERS}:no_predictor",
    },
)
CORRECTOR = Kind(
    "corrector",
    "scoresde.sample:AbstractCorrector",
    {
        "annealed_langevin": "scoresde.sample:AnnealedLangevin",
        "langevin": "scoresde.sample:Langevin",
        "none": f"{_SAMPLERS}:no_corrector",
    },
)
SAMPLER = Kind(
    "sampler",
    "scoresde.sample:AbstractSampler",
    {
        "reverse_sde": f"{_SAMPLERS}:reverse_sde",
        "adaptive_sde": f"{_SAMPLERS}:adaptive_sde",
        "gotta_go_fast": f"{_SAMPLERS}:gotta_go_fast",
        "probability_flow": f"{_SAMPLERS}:probability_flow",
        "predictor_corrector": f"{_SAMPLERS}:predictor_corrector",
        "langevin_dynamics": f"{_SAMPLERS}:langevin_dynamics",
        "euler_edm": "scoresde.sample:EulerEDM",
        "heun_edm": "scoresde.sample:HeunEDM",
        "ddim": "scoresde.sample:DDIM",
        "dpmpp_2s": "scoresde.sample:DPMSolverPPSinglestep",
        "dpmpp": "scoresde.sample:DPMSolverPP",
        "sde_dpmpp": "scoresde.sample:SDEDPMSolverPP",
        "unipc": "scoresde.sample:UniPC",
        "deis": "scoresde.sample:DEIS",
        "ipndm": f"{_SAMPLERS}:ipndm",
        "sa_solver": "scoresde.sample:SASolver",
        "seeds": "scoresde.sample:SEEDS",
    },
    given=("sde", "score", "shape"),
    nested={"grid": GRID, "solver": SOLVER, "predictor": PREDICTOR, "corrector": CORRECTOR},
)
TRACE = Kind(
    "trace estimator",
    "scoresde.likelihood:AbstractTrace",
    {
        "rademacher": "scoresde.likelihood:Rademacher",
        "gaussian": "scoresde.likelihood:GaussianProbes",
        "hutchpp": "scoresde.likelihood:HutchPlusPlus",
        "exact": "scoresde.likelihood:ExactTrace",
    },
    given=("probes",),
    key="trace",
)
DEQUANTIZATION = Kind(
    "dequantization",
    "scoresde.likelihood:AbstractDequantization",
    {
        "uniform": "scoresde.likelihood:UniformDequantization",
        "truncated_normal": "scoresde.likelihood:TruncatedNormalDequantization",
        "variational": "scoresde.train.dequantizer:TrainedDequantization",
        "none": "scoresde.likelihood:NoDequantization",
    },
)
METRIC = Kind("metric", "", {}, given=("samples", "records"), partial=True)
TRACKER = Kind(
    "tracker",
    "scoresde.runs.trackers:AbstractTracker",
    {
        "wandb": "scoresde.runs.trackers:WandB",
        "mlflow": "scoresde.runs.trackers:MLflow",
        "trackio": "scoresde.runs.trackers:Trackio",
    },
    given=("name", "run_id", "config", "folder"),
    partial=True,
)
SOURCE = Kind(
    "data source",
    "",
    {},
    given=("shape",),
    texts=tuple(SOURCES),
    key="source",
)
