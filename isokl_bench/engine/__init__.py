"""The engine: lockstep rollouts, calibration, forks and activations."""
