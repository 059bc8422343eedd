"""CIFAR-10 through tfds: and through npz: the same batches, and the same test records.

python benchmarks/cifar10_sources.py --npz cifar10.npz --data-dir PREPARED
About a minute on two cores. The NPZ holds x_train, y_train, x_test, y_test; the set is prepared as docs/data.md says.
"""

import argparse
import itertools
import time

import jax
import numpy as np
from record import record

from scoresde.data import ImageOptions, load

SEED, BATCH, STEPS = 42, 128, 800  # two epochs and a bit
DECLARED = dict(shape=(32, 32, 3), levels=256, centered=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--npz", required=True)
    parser.add_argument("--data-dir", required=True)
    found = parser.parse_args()
    arrays = load(f"npz:{found.npz}", **DECLARED)
    figures = {"fingerprint_npz": arrays.fingerprint, "seed": SEED, "batch_size": BATCH, "batches": STEPS}
    for kind, memory in (("kept", 2.0), ("streamed", 0.0)):
        began = time.perf_counter()
        prepared = load("tfds:cifar10", data_dir=found.data_dir, images=ImageOptions(memory=memory), **DECLARED)
        same = all(
            all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))
            for a, b in itertools.islice(zip(arrays.stream(SEED, BATCH), prepared.stream(SEED, BATCH)), STEPS)
        )
        every = np.arange(len(arrays.test))
        pairs = zip(*(jax.tree.leaves(part.test.rows(every)) for part in (arrays, prepared)), strict=True)
        figures[kind] = {
            "batches_equal": bool(same),
            "test_records_equal": bool(all((a == b).all() for a, b in pairs)),
            "seconds": round(time.perf_counter() - began, 1),
        }
        figures["fingerprint_tfds"] = prepared.fingerprint
        print(kind, figures[kind])
    record("cifar10_sources", figures)
    assert all(figures[kind][part] for kind in ("kept", "streamed") for part in ("batches_equal", "test_records_equal"))


if __name__ == "__main__":
    main()
