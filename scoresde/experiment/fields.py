"""Every field of a configuration with its default and meaning, and which of them a resumed run may change.

A field has the type of its default. `ranges` holds the allowed values, `validation` the allowed combinations.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def default() -> ConfigDict:
    """Return a configuration of all fields at their defaults. A field has the type of its default."""
    c = ConfigDict()
    c.seed = 42  # data order, initial parameters, all noise of training
    c.sde = _sde()
    c.data = _data()
    c.model = _model()
    c.training = _training()
    c.optim = _optim()
    c.sampling = _sampling()
    c.likelihood = _likelihood()
    c.evaluate = _evaluate()
    return c.lock()


def _sde() -> ConfigDict:
    c = ConfigDict()
    # vp, subvp, ve, cosine, ddpm_cosine (its 1000 steps), karras; in function space coloured_vp, coloured_ve,
    # coloured_cosine, heat, blur, inverse_heat, pixelate, fade
    c.name = "vp"
    c.beta_min = 0.1  # vp, subvp
    c.beta_max = 20.0
    c.sigma_min = 0.01  # ve, karras
    c.sigma_max = 50.0
    c.log_snr_min = -15.0  # cosine, blur
    c.log_snr_max = 15.0
    c.t_min = 1e-5  # all processes but karras, whose t is sigma
    c.basis = "dct"  # function space: dct, fourier (periodic), haar, kernel (curves)
    c.length = 1.0  # length of the domain along each axis; 0: the number of grid points, so that blur is in pixels
    # noise of coloured_*: variance of mode k ~ (screening + lambda_k)^-index; for heat the exponent is -(index + 1)
    c.index = 1.5
    c.screening = 9.0
    c.variance = 1.0  # variance of that noise at a point of the grid
    c.kernel = "exponential"  # basis kernel: rbf, exponential, matern12, matern32, matern52
    c.length_scale = 0.2
    c.jitter = 1e-6
    c.blur_min = 0.5  # inverse_heat
    c.blur_max = 20.0  # inverse_heat, blur
    c.min_scale = 1e-3  # blur: remaining amplitude of the highest mode
    c.noise = 0.01  # inverse_heat, pixelate, fade
    return c


def _data() -> ConfigDict:
    c = ConfigDict({"image_size": placeholder(object)})  # a number or a tuple
    # digits, folder:PATH, zip:PATH, array_record:PATH, hf:NAME, npz:PATH, tfds:NAME, gaussian_mixture, two_moons,
    # checkerboard, functions:PATH, gaussian_process, gp_mixture, quadratic, none (converted networks)
    c.source = "digits"
    # height and width, or (height, width); (points,) for curves; (depth, height, width) for volumes; 0: vectors of
    # `channels` components
    c.image_size = 32
    c.channels = 3
    c.levels = 256  # grey levels; 0: continuous values
    c.centered = True  # model range [-1, 1]; False: [0, 1]
    c.uniform_dequantization = False  # train on v + u, u ~ U[0, 1), rather than on the centres of the bins
    c.random_flip = False  # mirror images left-right with probability 1/2
    # probability of each EDM augmentation (passed to the U-Net as a label; includes horizontal flips)
    c.augment = 0.0
    # npz: names of the arrays (train, labels, test, labels), () means x_train, y_train, x_test, y_test; functions:
    # name of one array
    c.arrays = ()
    c.data_dir = ""  # tfds: folder of the prepared sets; "" means TFDS_DATA_DIR
    c.labels = ""  # folder, zip, array_record, hf: file of labels; "" uses the labels found, "none" uses no labels
    # folder, zip, array_record, hf: number of damaged images that may be left out; -1: 0.1 % of the images, at least 10
    # and at most 100
    c.max_bad = -1
    c.max_pixels = 80_000_000  # folder, zip, array_record, hf: an image with more pixels is refused
    # folder, zip, array_record, hf, tfds: GiB of decoded images kept in memory; a larger set is decoded as it is read
    c.memory = 2.0
    return c


def _model() -> ConfigDict:
    c = ConfigDict()
    c.name = "unet"  # unet, edm2 and dit (images), fno and ufno (curves and fields on any grid), mlp (anything)
    c.preconditioning = "edm"  # edm, eps, score, v
    c.sigma_data = 0.5  # edm: standard deviation of the data in model range
    # edm, function space: variance of mode k of the data ~ (data_screening + lambda_k)^-data_index
    c.data_index = 0.0
    c.data_screening = 1.0
    c.embedding = "positional"  # positional, sinusoidal (ADM, DiT), fourier
    c.fourier_scale = 16.0
    c.dropout = 0.1
    c.num_classes = 0  # 0: labels are not used
    c.dtype = "float32"  # compute dtype: float32, bfloat16; parameters are float32
    c.channels = 128  # unet, edm2
    c.multipliers = (1, 2, 2, 2)  # unet, edm2, ufno: channels of each level, in units of channels or width
    c.blocks = 4  # unet, edm2, ufno: blocks per level
    c.attention = (16,)  # image heights at which attention is applied
    c.skip_rescale = True  # unet: divide sums of skip path and block by sqrt(2)
    # unet: attention in the decoder, once per level (DDPM++) or after each block: level, block
    c.decoder_attention = "level"
    c.modulation = "shift"  # unet: shift, scale_shift (adaptive group normalization, ADM)
    c.resampling = "block"  # unet, layers that halve and double the resolution: block, conv (DDPM)
    c.resample_filter = "box"  # unet: box, box_padded (diffusers' strided convolutions), fir ([1, 3, 3, 1], NCSN++)
    c.resample_skip = "conv"  # unet, skip path of blocks that resample: conv, identity (ADM)
    c.progressive_input = "none"  # unet, pyramid of the encoder: none, input_skip, residual
    c.progressive = "none"  # unet, pyramid of the decoder: none, output_skip, residual
    c.combine = "sum"  # unet, how an input_skip is joined: sum, cat
    c.center_input = False  # unet: the input of the network is 2 x - 1, for data.centered = False
    # unet: the input also includes sin and cos of 2 pi 2^n x, n from the first to below the second; (6, 8): VDM
    c.input_fourier = (0, 0)
    c.norm_epsilon = 1e-6  # unet: epsilon of the group normalization
    c.head_channels = 0  # unet, edm2, dit: channels of an attention head; 0: one head
    c.patch = 2  # dit: side of a patch in pixels
    c.positions = "sincos"  # dit: sincos, rotary
    c.width = 128  # mlp, fno, ufno, dit
    c.depth = 3  # mlp, fno, dit: blocks
    c.modes = 16  # fno, ufno: Fourier modes kept along each axis
    c.boundary = "even"  # fno, ufno: even, periodic
    return c


def _training() -> ConfigDict:
    c = ConfigDict()
    c.steps = 1_300_000
    c.batch_size = 128  # total over all devices
    c.accumulation = 1  # micro-batches per step
    # what the backward pass recomputes instead of storing: none; products (all but convolutions and matrix products);
    # block (whole blocks)
    c.remat = "none"
    c.fsdp = 1  # devices over which parameters, optimizer and averages are split; 1: a copy on each, 0: all devices
    c.steps_per_dispatch = 1  # training steps per dispatch, for networks so small that the host is slower than a step
    c.weighting = "sigma2"  # sigma2, noise_field, likelihood, edm
    c.time_law = "low_discrepancy"  # uniform, low_discrepancy, log_snr, log_sigma, log_normal
    c.log_normal_mean = -1.2  # log_normal
    c.log_normal_std = 1.2
    c.reduce_mean = True  # mean over dimensions; False: half the sum
    # averages of the parameters: a value below 1 is a decay per step, above 1 a half-life in images; pictures and
    # commands use the first one
    c.ema = (0.9999,)
    # relative widths, such as (0.05, 0.1): averages by power functions, from which python -m scoresde.average makes
    # any other
    c.power_ema = ()
    c.log_every = 50
    c.checkpoint_every = 10_000
    c.snapshot_every = 50_000  # snapshots of the averages of power_ema, all of which are kept
    c.sample_every = 50_000  # pictures, the metrics of `watch`, and the report
    # metrics of the samples in the pictures and of fixed records; () for none
    c.watch = ("sliced_wasserstein", "moments", "nearest", "loss")
    c.watch_sampler = ""  # sampler for these samples, with its default steps and grid; "": as in sampling
    # sliced_wasserstein, mean_error, deviation_error, test_loss: keep the checkpoint where this metric is lowest
    c.keep_best = ""
    c.trackers = ()  # wandb, mlflow, trackio: services that also receive the metrics
    return c


def _optim() -> ConfigDict:
    c = ConfigDict()
    c.optimizer = "adam"  # adam, adamw
    c.learning_rate = 2e-4
    c.beta1 = 0.9
    c.beta2 = 0.999
    c.eps = 1e-8
    c.weight_decay = 0.0  # adamw; matrices and kernels only
    c.warmup = 5000  # steps of linear warm-up
    c.decay_steps = 0  # 0: constant after the warm-up; otherwise a cosine decay to a hundredth at this step
    c.grad_clip = 1.0  # maximum global norm of the gradient; 0: no clipping
    return c


def _sampling() -> ConfigDict:
    c = ConfigDict()
    c.sampler = "reverse_sde"  # see docs/commands.md for the names
    c.steps = 0  # 0: the default of the sampler; probability_flow then chooses its steps
    c.grid = ""  # "": the default of the sampler; uniform, quadratic, geometric, log_snr, karras, optimised
    c.order = 0  # dpmpp, sde_dpmpp, unipc, deis, ipndm, sa_solver; 0: the default of the sampler
    c.sde_solver = "euler"  # reverse_sde: euler, heun, sea, shark, sra1, slowrk
    c.ode_solver = "tsit5"  # probability_flow: tsit5, dopri5, dopri8, bosh3, heun, euler, kvaerno3, kvaerno5
    c.tolerance = 1e-5  # adaptive probability_flow
    c.sde_tolerance = 0.02  # adaptive_sde, gotta_go_fast
    c.absolute_tolerance = 1 / 128  # gotta_go_fast: one grey level of data in [-1, 1]
    c.predictor = "ancestral"  # predictor_corrector: ancestral, ancestral_transition, reverse_diffusion, none
    c.corrector = "annealed_langevin"  # predictor_corrector: annealed_langevin, langevin (published; for images), none
    c.snr = 0.16  # signal-to-noise ratio of the corrector
    c.corrections = 1  # corrector steps per grid point; langevin_dynamics: steps per noise level
    c.norm = "image"  # langevin: norms of each image (image), or means over the batch as in the published code (batch)
    c.step_size = 0.2  # langevin_dynamics, in units of sigma^2
    # for a network with classes, the distribution from which each seed samples its class: uniform, or data (the class
    # frequencies of the training records, which evaluate uses by default); null, the null class, is refused until it
    # can be trained
    c.labels = "uniform"
    c.churn = 0.0  # euler_edm, heun_edm: amount of noise added where sigma / alpha is between s_min and s_max
    c.s_min = 0.0
    c.s_max = 1e6
    c.s_noise = 1.0
    c.eta = 0.0  # ddim: 0 for the probability flow, 1 for the reverse SDE
    c.variant = "bh2"  # unipc: bh1, bh2
    c.variable = "log_rho"  # deis: log_rho, rho, t
    c.tau = 1.0  # sa_solver: strength of the noise where sigma / alpha is between tau_low and tau_high
    c.tau_low = 0.05
    c.tau_high = 1.0
    c.num = 64  # samples in a picture
    c.batch_size = 256  # samples generated at once
    return c


def _likelihood() -> ConfigDict:
    c = ConfigDict()
    c.method = "flow"  # flow: probability flow; elbo, vlb: bounds in continuous and in discrete time
    c.tolerance = 1e-5  # flow
    c.probes = 1  # flow; 0: exact trace
    c.estimator = "rademacher"  # flow: rademacher, gaussian, hutchpp (3 probes or more)
    c.dequantization = "uniform"  # integers: uniform, variational, truncated_normal (flow), none (elbo, vlb)
    c.dequantizations = 1  # integers: dequantization samples per image
    c.samples = 128  # elbo, vlb: calls of the score per image
    c.vlb_steps = 1000  # vlb: steps of the chain, equal in log-SNR
    c.vlb_variance = "beta"  # vlb: beta, beta_tilde
    c.variational_steps = 1000  # variational: training steps of its flow
    c.variational_batch_size = 64
    c.variational_rate = 1e-3
    c.variational_width = 32
    c.variational_depth = 4
    c.batch_size = 256
    return c


def _evaluate() -> ConfigDict:
    c = ConfigDict()
    c.num = 0  # test examples whose likelihood is computed when training ends; 0: none, -1: all
    return c


# Removed fields of earlier versions, and the value that the code now assumes; a run with another value is refused.
RETIRED = {"model.param_dtype": "float32"}

# Fields that a resumed run may change. They do not enter the state, or change it only by rounding, except for the first
# four, which rescue a run that diverges or prolong one. The location of the data is free because the fingerprint
# identifies their content.
FREE_FIELDS = (
    "optim.learning_rate", "optim.decay_steps", "optim.grad_clip", "training.steps", "training.accumulation",
    "training.remat", "training.fsdp", "training.steps_per_dispatch",
    "training.log_every", "training.checkpoint_every", "training.snapshot_every", "training.sample_every",
    "training.watch", "training.keep_best", "training.trackers",
    "sampling.", "likelihood.", "evaluate.", "data.source", "data.data_dir", "data.labels",
    "data.max_bad", "data.max_pixels", "data.memory",
)  # fmt: skip
