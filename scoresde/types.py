"""The shapes used everywhere. They describe one example: no batch axis."""

from jaxtyping import Array, Float, PRNGKeyArray

Scalar = Float[Array, ""]
State = Float[Array, "*x"]  # one example: a vector, an image [H, W, C]
Coef = Float[Array, "*#x"]  # broadcasts against a State: one number, or one number per mode
Key = PRNGKeyArray
