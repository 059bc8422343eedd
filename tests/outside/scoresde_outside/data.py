import os

import numpy as np

from scoresde.config import constructor


@constructor
class Ring:
    """A data set with the two methods of one of PyTorch: points on a ring, which need a file to be there.

    Args:
      radius: of the ring.
      split: train or test.
    """

    def __init__(self, radius: float = 1.0, split: str = "train"):
        if not os.path.exists(os.environ["RING"]):
            raise FileNotFoundError(os.environ["RING"])
        random = np.random.default_rng({"train": 0, "test": 1}[split])
        angle = random.uniform(0, 2 * np.pi, 600 if split == "train" else 100)
        radii = radius + 0.1 * random.normal(size=len(angle))
        self.points = np.stack([radii * np.cos(angle), radii * np.sin(angle)], -1).astype(np.float32)

    def __len__(self):
        return len(self.points)

    def __getitem__(self, index):
        return self.points[index], 0
