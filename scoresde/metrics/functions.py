"""Metrics of distributions of functions, as pure functions of arrays [N, *grid, channels], in float64.

| question | metrics |
|---|---|
| do two sets have the same distribution? | `mmd2`, `permutation_test`, `power`, `calibration`, `sliced_wasserstein` |
| which wavenumbers are wrong? | `energy_spectrum`, `spectrum_error`, `autocorrelation_error` |
| which points are wrong? | `moments`, `moment_errors` |
| is the model valid on a finer grid? | `project`, `transfer_curve`, `commutation` |
| is the conditional distribution right? | `gaussian_posterior`, `gaussian_nll`, `crps_gaussian`, `crps_samples`, `coverage` |
"""

from scoresde.metrics.posterior import coverage, crps_gaussian, crps_samples, gaussian_nll, gaussian_posterior
from scoresde.metrics.spectra import (
    autocorrelation,
    autocorrelation_error,
    cosine_coefficients,
    energy_spectrum,
    from_cosine_coefficients,
    moment_errors,
    moments,
    project,
    spectrum_error,
)
from scoresde.metrics.transfer import commutation, distances, transfer_curve
from scoresde.metrics.twosample import (
    calibration,
    median_bandwidth,
    mmd2,
    permutation_test,
    power,
    sliced_wasserstein,
)

__all__ = [
    "autocorrelation",
    "autocorrelation_error",
    "calibration",
    "commutation",
    "cosine_coefficients",
    "coverage",
    "crps_gaussian",
    "crps_samples",
    "distances",
    "energy_spectrum",
    "from_cosine_coefficients",
    "gaussian_nll",
    "gaussian_posterior",
    "median_bandwidth",
    "mmd2",
    "moment_errors",
    "moments",
    "permutation_test",
    "power",
    "project",
    "sliced_wasserstein",
    "spectrum_error",
    "transfer_curve",
]
