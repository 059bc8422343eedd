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
        DataError: fewer images than splits.
    """
    if not 1 <= splits <= len(logits):
        raise DataError(f"is: expected at least {splits} images, got {len(logits)}; draw more")
    scores = []
    for k in range(splits):
        part = np.asarray(logits[k * len(logits) // splits : (k + 1) * len(logits) // splits], np.float64)
        part = part - part.max(axis=1, keepdims=True)
        log_p = part - np.log(np.sum(np.exp(part), axis=1, keepdims=True))
        p = np.exp(log_p)
        scores.append(np.exp(np.mean(np.sum(p * (log_p - np.log(p.mean(axis=0))), axis=1))))
    return float(np.mean(scores)), float(np.std(scores, ddof=1) / np.sqrt(splits)) if splits > 1 else None
