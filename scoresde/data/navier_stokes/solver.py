r"""Vorticity fields of the two-dimensional Navier-Stokes equations on the torus [0, 1]^2, solved by exponax.

    dw/dt + u . grad w = nu Lap w + A (sin 2 pi (x + y) + cos 2 pi (x + y)),
    u = (d psi/dy, -d psi/dx),   -Lap psi = w,

from a Gaussian w_0 of mean zero with covariance C ~ (-Lap + 49)^-3 up to the time T: one field per initial condition. C
is scaled to a pointwise standard deviation of 1 by default. With the factor 3^{3/2} that benchmarks of functional flow
matching use, the standard deviation is 0.007: unforced fields then stay Gaussian, and forced fields all resemble the
forcing. The forcing is that of Li et al. 2021 (Fourier neural operator), who have A = 0.1; the default here is A = 0.

In the orthonormal real Fourier functions e_k, |k_i| below half the grid, w_0 = sum_k (4 pi^2 |k|^2 + 49)^{-3/2} xi_k
e_k, scaled. Fields of another size have the same distribution, but are different samples.

    python -m scoresde.data.navier_stokes --out vorticity.npz --num 256 --size 64
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from scoresde.errors import ConfigError, NumericError

SHIFT, POWER = 49.0, 3.0
PUBLISHED = 3**1.5  # factor of C in the literature


def initial(size: int, seed: int, index: int, std: float = 1.0) -> np.ndarray:
    """Return w_0 number `index` of `seed`, with pointwise standard deviation `std`, float64 [size, size]."""
    random = np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))
    # The transform of white noise on the grid is white noise in the coefficients, with the symmetry of real fields.
    noise = np.fft.fft2(random.standard_normal((size, size)), norm="ortho")
    variances = spectrum(size)
    return std * np.fft.ifft2(size * np.sqrt(variances / variances.sum()) * noise, norm="ortho").real


def spectrum(size: int) -> np.ndarray:
    """Return the variances of the Fourier coefficients of w_0, not scaled, [size, size] in the order of the FFT."""
    k = np.fft.fftfreq(size, 1 / size)
    square = k[:, None] ** 2 + k**2
    variances = (4 * math.pi**2 * square + SHIFT) ** -POWER
    variances[0, 0] = 0
    highest = np.abs(k) == size / 2  # the Nyquist mode of an even grid has a cosine but no sine
    variances[highest] = variances[:, highest] = 0
    return variances


def solve(
    *,
    num: int,
    size: int,
    viscosity: float = 1e-3,
    time: float = 10.0,
    dt: float = 0.01,
    forcing: float = 0.0,
    initial_std: float = 1.0,
    seed: int = 0,
    batch_size: int = 32,
) -> np.ndarray:
    """Return the final vorticity, float32 [num, size, size].

    Args:
        num: number of fields, at least 1.
        size: points along each axis, at least 8.
        viscosity: nu, above 0.
        time: T, above 0.
        dt: largest time step, above 0.
        forcing: A.
        initial_std: pointwise standard deviation of w_0, at least 0; 0: that of the factor 3^{3/2} of the literature.
        seed: seed of the initial fields, at least 0.
        batch_size: fields that are solved at once, at least 1.

    Raises:
        ConfigError: exponax is not installed, or a number is out of range.
        NumericError: a solution is not finite.
    """
    for name, value, least in (("num", num, 1), ("size", size, 8), ("seed", seed, 0), ("batch_size", batch_size, 1)):
        if value < least:
            raise ConfigError(f"{name}: expected at least {least}, got {value}")
    for name, value in (("viscosity", viscosity), ("time", time), ("dt", dt)):
        if not 0 < value < math.inf:
            raise ConfigError(f"{name}: expected a finite number above 0, got {value}")
    if not math.isfinite(forcing) or not 0 <= initial_std < math.inf:
        raise ConfigError(f"expected a finite forcing and initial_std >= 0, got {forcing} and {initial_std}")
    std = initial_std or math.sqrt(PUBLISHED * spectrum(size).sum())
    steps = math.ceil(round(time / dt, 6))
    advance = _advance(size, viscosity, time / steps, steps, forcing)
    fields = []
    for start in range(0, num, batch_size):
        numbers = range(start, min(start + batch_size, num))
        fields.append(advance(jnp.asarray(np.stack([initial(size, seed, i, std) for i in numbers]), jnp.float32)))
    fields = np.concatenate(fields)
    bad = ~np.isfinite(fields).all(axis=(1, 2))
    if bad.any():
        raise NumericError(f"{bad.sum()} of {num} solutions are not finite with dt = {dt}; take a smaller dt")
    return fields


def _advance(size: int, viscosity: float, dt: float, steps: int, forcing: float):
    """Return a function of fields [N, size, size] that makes all steps.

    Raises:
        ConfigError: exponax is not installed.
    """
    try:
        import exponax
    except ImportError as error:
        raise ConfigError("Navier-Stokes fields need exponax; pip install 'scoresde[pde]'") from error
    stepper = exponax.ForcedStepper(exponax.stepper.NavierStokesVorticity(2, 1.0, size, dt, diffusivity=viscosity))
    place = jnp.arange(size) / size
    angle = 2 * jnp.pi * (place[:, None] + place)
    force = forcing * (jnp.sin(angle) + jnp.cos(angle))[None]

    @jax.jit
    def advance(fields):
        def one(field):
            return jax.lax.fori_loop(0, steps, lambda _, w: stepper(w, force), field[None])[0]

        return jax.vmap(one)(fields)

    return advance
