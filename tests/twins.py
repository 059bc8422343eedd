"""Tests that run over many samplers or processes: which of their twins belong to the fast suite.

{file::test: ids}; the other ids, and tests with (), run with `pytest -m slow`. Twins go through the same code with other coefficients;
those kept are the ones that differ most.
"""

GRIDS = ("uniform", "quadratic", "geometric", "uniform_log_snr", "karras")

FAST = {
    "test_fixed_grid.py::test_order_of_the_flow": ("DDIM", "DPM++ 3M", "UniPC-3", "Heun EDM"),
    "test_fixed_grid.py::test_order_of_the_variance": ("DDIM, eta 1", "SDE-DPM++ 2M", "ancestral"),
    "test_fixed_grid.py::test_nfe_is_the_number_of_calls": ("DDIM", "Heun EDM", "DPM++ 2S", "UniPC-3", "SEEDS", "corrected", "Langevin dynamics"),
    "test_fixed_grid.py::test_samples_follow_the_density": ("churn",),
    "test_fixed_grid.py::test_implicit_solvers_do_not_tell_their_calls": (),
    "test_sample.py::test_samples_follow_the_density_at_t_min": ("Euler-Maruyama", "probability flow", "predictor-corrector"),
    "test_sample.py::test_ode_order": ("Euler-VP", "Heun-VP", "Heun-Karras", "Bosh3-SubVP", "Bosh3-VE", "Bosh3-Cosine"),
    "test_sample.py::test_a_failure_stays_in_its_row": ("Euler-Maruyama", "probability flow", "UniPC"),
    "test_sample.py::test_an_example_depends_on_its_own_key_alone": ("Euler-Maruyama", "gotta go fast"),
    "test_sample.py::test_sde_weak_order_of_the_mean": ("Euler", "ShARK", "SlowRK"),
    "test_sample.py::test_sde_weak_order_of_the_variance": ("ShARK",),
    "test_sample.py::test_a_thousand_steps_in_float32": ("geometric", "uniform_log_snr"),
    "test_sample.py::test_a_second_call_compiles_nothing": ("Euler-Maruyama", "probability flow"),
    "test_sample.py::test_the_spread_after_64_steps": ("Euler", "ShARK", "SRA1"),
    "test_sample.py::test_nfe_of_a_stochastic_solver_is_the_number_of_calls": ("Euler", "ShARK"),
    "test_sample.py::test_nfe_of_adaptive_steps_is_the_number_of_calls": ("Tsit5", "Bosh3"),
    "test_sample.py::test_float32_states_under_a_float64_score": ("sampler0",),
    "test_sample.py::test_probability_flow_keeps_quantiles": ("VP", "VE", "Karras"),
    "test_sample.py::test_grids_fall_from_end_to_end": tuple(f"{grid}-{process}" for grid in GRIDS for process in ("VP", "Karras")),
    "test_likelihood.py::test_log_likelihood_of_a_mixture_is_exact": ("0-VP", "0-Karras", "1-SubVP", "1-VE", "1-Cosine"),
    "test_likelihood.py::test_log_likelihood_in_3072_dimensions": ("VP", "Karras"),
    "test_likelihood.py::test_value_and_divergence_cost_little_more_than_two_calls": (),
    "test_guide.py::test_flows_reach_the_posterior_with_their_order": ("VP-DDIM", "ColouredVP-DPM++ 2M", "Blur-DDIM", "Heat-DPM++ 2M"),
    "test_guide.py::test_stochastic_samplers_draw_from_the_posterior": ("VP-SDE-DPM++", "Heat-DDIM, eta 1"),
    "test_spectral.py::test_the_flow_reaches_the_law_in_every_mode": ("DPM++ 2M", "UniPC"),
    "test_spectral.py::test_noise_reaches_the_law_in_every_mode": ("DDIM, eta 1",),
    "test_latent.py::test_other_samplers_take_their_own_steps": ("unipc", "heun_edm"),
    "test_latent.py::test_an_implicit_solver_on_a_fixed_grid": (),
    "test_sde.py::test_process_is_an_argument_of_jit": ("VP", "Cosine", "Karras"),
}
