"""The views: plain SQL over the tables, for reports and for people with any SQLite tool.

Views hold nothing of their own, so every migration drops them before and creates them after itself. A change
here reaches existing databases with the next revision; write an empty one where the tables stay as they are.
"""

from sqlalchemy import Connection

_CONFIG = 'c.hash, c.model, c.behavior, c.method, c.seed, c."window", c.protocol'
_LATEST = "latest l JOIN configs c ON c.hash = l.hash"

VIEWS = {
    "latest": """
        SELECT config_hash AS hash, MAX(id) AS attempt_id
        FROM attempts
        WHERE state = 'done'
        GROUP BY config_hash
    """,
    "runs": f"""
        SELECT a.id AS attempt_id, a.state, {_CONFIG}, c.stat, c.target, a.started_at, a.finished_at,
               (SELECT SUM(p.seconds) FROM phases p WHERE p.attempt_id = a.id) AS seconds,
               a.error, a.host, a.pid
        FROM attempts a JOIN configs c ON c.hash = a.config_hash
    """,
    "results": f"""
        SELECT l.attempt_id, {_CONFIG}, k.stat, k.target, k.sign, k.outcome, k.coefficient, k.low, k.high,
               k.value, k.tolerance, k.dose_above, k.value_above, k.n_prompts, k.rounds, k.pool, k.slope,
               (SELECT SUM(p.seconds) FROM phases p WHERE p.attempt_id = l.attempt_id) AS seconds,
               a.finished_at
        FROM {_LATEST}
        JOIN attempts a ON a.id = l.attempt_id
        JOIN calibrations k ON k.attempt_id = l.attempt_id
    """,
    "result_summaries": f"""
        SELECT l.attempt_id, {_CONFIG}, s.sign, s.metric, s.quantity, s.alpha, s.position,
               s.n, s.mean, s.low, s.high, s.reason
        FROM {_LATEST} JOIN summaries s ON s.attempt_id = l.attempt_id
    """,
    "result_measurements": f"""
        SELECT l.attempt_id, {_CONFIG}, m.sign, m.metric, m.quantity, m.alpha, m.prompt, m.position,
               m.value, m.reason
        FROM {_LATEST} JOIN measurements m ON m.attempt_id = l.attempt_id
    """,
    "result_traces": f"""
        SELECT l.attempt_id, {_CONFIG}, t.sign, t.alpha, t.prompt, q.text AS prompt_text, t.sampled,
               t.text, t.tokens, t.kl
        FROM {_LATEST} JOIN traces t ON t.attempt_id = l.attempt_id
        LEFT JOIN prompts q ON q.config_hash = l.hash AND q.split = 'holdout' AND q.position = t.prompt
    """,
}
"""Name and SELECT of each view, in the order in which they build on one another."""


def drop_views(connection: Connection) -> None:
    """Drop every view that is there."""
    for name in reversed(VIEWS):
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")


def create_views(connection: Connection) -> None:
    """Create every view, quoting names as the database at hand quotes them."""
    quote = connection.dialect.identifier_preparer.initial_quote
    for name, select in VIEWS.items():
        lines = "\n".join(line.removeprefix(" " * 8) for line in select.strip().splitlines())
        connection.exec_driver_sql(f"CREATE VIEW {name} AS\n{lines}".replace('"', quote))
