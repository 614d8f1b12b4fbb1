"""The search on Ray: Optuna proposes, the rung table decides, workers train."""
