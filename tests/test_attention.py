"""Attention by the device that a program is compiled for: the same numbers, the choice, and derivatives in both
modes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scoresde.nets import attention
from scoresde.nets.attention import attend, takes_fused, training


def heads(seed: int, *shape: int, dtype=jnp.float32):
    return (3 * jax.random.normal(jax.random.key(seed), shape)).astype(dtype)


def written_out(q, k, v):
    weights = np.exp(np.einsum("bihd,bjhd->bhij", q, k, dtype=np.float64) / np.sqrt(q.shape[-1]))
    return np.einsum("bhij,bjhd->bihd", weights / weights.sum(-1, keepdims=True), v)


def test_attention_is_its_formula_and_that_of_jax():
    q, k, v = (heads(seed, 2, 5, 3, 4) for seed in range(3))
    np.testing.assert_allclose(attend(q, k, v), written_out(*map(np.asarray, (q, k, v))), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(attend(q, k, v), jax.nn.dot_product_attention(q, k, v), rtol=1e-5, atol=1e-5)


def test_both_modes_of_derivatives_under_vmap():
    """<J u, w> = <u, J^T w>, and the same Jacobian as that of JAX's attention."""
    q, k, v, u, w = (heads(seed, 3, 2, 5, 2, 4) for seed in range(5))
    f = jax.vmap(lambda q: attend(q, k[0], v[0]))
    reference = jax.vmap(lambda q: jax.nn.dot_product_attention(q, k[0], v[0]))
    forward, backward = jax.jvp(f, (q,), (u,))[1], jax.vjp(f, q)[1](w)[0]
    np.testing.assert_allclose(jnp.vdot(forward, w), jnp.vdot(u, backward), rtol=1e-4)
    np.testing.assert_allclose(backward, jax.vjp(reference, q)[1](w)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
def test_a_program_has_the_attention_of_its_platform(platform):
    """Lowered here for devices that are not here: products over [b heads, n, d] on CPUs alone, and no branch left in
    what runs."""
    q = heads(0, 2, 5, 3, 4)
    traced = jax.jit(jax.grad(lambda q: attend(q, q, q).sum())).trace(q)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert products and all(("tensor<6x5x" in line) == (platform == "cpu") for line in products)
    if platform == "cpu":
        assert " conditional(" not in traced.lower().compile().as_text()


def test_fused_attention_is_for_training_on_gpus_with_cudnn(monkeypatch):
    """With a kernel in the place of cuDNN's that can be told by its result and, like it, has no derivative in forward
    mode."""

    @jax.custom_vjp
    def kernel(q, k, v):
        return jax.lax.optimization_barrier(q + k + v)

    kernel.defvjp(lambda q, k, v: (kernel(q, k, v), None), lambda _, g: (g, g, g))
    monkeypatch.setattr(attention, "_FUSED", kernel)
    takes_fused.cache_clear()
    q = heads(0, 2, 5, 3, 4)

    def lowered(is_training: bool, platform: str) -> str:
        with training(is_training):
            return jax.jit(lambda q: attend(q, q, q)).trace(q).lower(lowering_platforms=(platform,)).as_text()

    assert "optimization_barrier" in lowered(True, "cuda")
    assert all(
        "optimization_barrier" not in lowered(*other) for other in ((False, "cuda"), (True, "cpu"), (True, "tpu"))
    )
    jax.jvp(lambda q: attend(q, q, q), (q,), (q,))  # a likelihood
    takes_fused.cache_clear()


def test_what_cudnn_refuses_falls_back(monkeypatch):
    def refuses(error):
        def kernel(q, k, v):
            if q.dtype == jnp.float32:
                raise error
            return q

        return kernel

    for error in (
        RuntimeError("cuDNN is not detected."),
        NotImplementedError("Q must be fp16/bf16"),
        ValueError("layout"),
    ):
        monkeypatch.setattr(attention, "_FUSED", refuses(error))
        takes_fused.cache_clear()
        assert takes_fused((1, 4, 2, 8), jnp.dtype(jnp.bfloat16)) and not takes_fused(
            (1, 4, 2, 8), jnp.dtype(jnp.float32)
        )
        with training(True):
            q, k, v = (heads(seed, 1, 4, 2, 8) for seed in range(3))
            np.testing.assert_allclose(attend(q, k, v), written_out(*map(np.asarray, (q, k, v))), rtol=1e-5, atol=1e-5)
    takes_fused.cache_clear()


def test_old_gpus_have_no_fused_attention(monkeypatch):
    device = functools.partial(type("Device", (), {}))
    monkeypatch.setattr(attention, "_FUSED", lambda q, k, v: q)
    for capability, expected in (("7.0", False), ("8.0", True), ("9.0", True), ("gfx90a", False)):
        gpu = device()
        gpu.platform, gpu.compute_capability = "gpu", capability
        monkeypatch.setattr(jax, "devices", lambda gpu=gpu: [gpu])
        takes_fused.cache_clear()
        assert takes_fused((1, 4, 2, 8), jnp.dtype(jnp.bfloat16)) == expected
    takes_fused.cache_clear()
