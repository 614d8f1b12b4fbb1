"""Choose trials: rungs, sampler, journal and job sources. Optuna, without Ray."""
