"""Settings of runs that are over in seconds, said once for all tests that start runs.

Runs of the same data, sizes and rates are of the same programs, which are compiled once then: a
test adds what it is about, and leaves all else as it is.
"""

DATA = {
    "dataset": "synthetic",
    "synthetic_rows": 1500,
    "synthetic_field_size": 30,
    "synthetic_signal_fields": 2,
    "synthetic_noise_fields": 1,
}
SMALL = {
    **DATA,
    "latent_dim": 4,
    "mlp_dims": "8",
    "batch_size": 256,
    "epochs": 2,
    "l2": 1e-3,
    "t_lr": 0.1,
    "alpha": 0.01,
}
SEARCHED = {**SMALL, "generations": 2, "mutation_num": 3, "crossover_num": 3, "top_k": 3}
"""Of all phases."""
