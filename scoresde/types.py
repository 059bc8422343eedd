"""The shapes used everywhere. They describe one example: no batch axis."""

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Real, UInt32
from jaxtyping import Key as TypedKey

Scalar = Float[Array, ""]
Time = Real[Array | np.ndarray | np.number, ""] | float  # a Python number is a time as well
State = Float[Array, "*x"]  # one example: a vector, an image [H, W, C]
Coef = Float[Array, "*#x"]  # broadcasts against a State: one number, or one number per mode
Key = PRNGKeyArray
Keys = TypedKey[Array, " N"] | UInt32[Array, "N k"]  # one key per example
