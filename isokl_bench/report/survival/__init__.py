"""How long steered rollouts stay able to answer: tables and figures."""
