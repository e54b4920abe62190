"""The options of a whole run in about a second."""

SMALL = {
    "protocol": "published",
    "window": 6,
    "fit_prompts": 8,
    "alphas": (0.0, 1.0),
    "metrics": (
        "target_logit[window=5]",
        "base_nll[window=6]",
        "branch_pmass[window=6]",
        "kl_trajectory[window=6]",
    ),
}
