r"""Inception Score, exp E KL(p(y | x) || p(y)) with p(y) the mean over images (Salimans et al. 2016, section 4).

The logits have no bias, as in the published code. The score uses no reference and does not depend on the data.
"""

import numpy as np
from jaxtyping import Float

from scoresde.errors import DataError

SPLITS = 10


def inception_score(logits: Float[np.ndarray, "N classes"], *, splits: int = SPLITS) -> tuple[float, float | None]:
    """Return the mean over `splits` consecutive parts and its standard error, in float64 on the host.

    Raises:
        DataError: there are fewer images than splits, or logits that are NaN or +infinity; -infinity is a probability
            of 0.
    """
    if not 1 <= splits <= len(logits):
        raise DataError(f"is: expected at least {splits} images, got {len(logits)}; draw more")
    if np.isnan(logits).any() or not np.isfinite(np.max(logits, axis=1)).all():
        raise DataError(
            "is: expected logits that are finite, or -infinity for some classes of an image, got others; "
            "look at the images"
        )
    scores = []
    for k in range(splits):
        part = np.asarray(logits[k * len(logits) // splits : (k + 1) * len(logits) // splits], np.float64)
        log_p = part - np.logaddexp.reduce(part, axis=1, keepdims=True)
        log_mean = np.logaddexp.reduce(log_p, axis=0) - np.log(len(part))
        # p log p is 0 where p(y | x) is 0. p(y) may also be 0, for classes that no image has.
        seen = np.isfinite(log_p)
        ratio = np.where(seen, log_p, 0) - np.where(seen, log_mean, 0)
        scores.append(np.exp(np.mean(np.sum(np.exp(log_p) * ratio, axis=1))))
    return float(np.mean(scores)), float(np.std(scores, ddof=1) / np.sqrt(splits)) if splits > 1 else None
