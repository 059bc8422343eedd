r"""Inception Score, exp E KL(p(y | x) || p(y)) with p(y) the mean over images (Salimans et al. 2016, section 4).

From logits without bias, as the published code takes them. It knows no reference: it says nothing of the data.
"""

import numpy as np
from jaxtyping import Float

from scoresde.errors import DataError

SPLITS = 10


def inception_score(logits: Float[np.ndarray, "N classes"], *, splits: int = SPLITS) -> tuple[float, float | None]:
    """The mean over `splits` consecutive parts and its standard error; float64 on the host.

    Raises:
        DataError: fewer images than splits, or logits that are NaN or infinite; -infinity is a probability of 0.
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
        # Where p(y | x) is 0, p log p is 0. p(y) may be 0 as well, of classes that no image has.
        seen = np.isfinite(log_p)
        ratio = np.where(seen, log_p, 0) - np.where(seen, log_mean, 0)
        scores.append(np.exp(np.mean(np.sum(np.exp(log_p) * ratio, axis=1))))
    return float(np.mean(scores)), float(np.std(scores, ddof=1) / np.sqrt(splits)) if splits > 1 else None
