"""Run jobs on Ray: driver, worker, slots, signals, doctor, submission."""
