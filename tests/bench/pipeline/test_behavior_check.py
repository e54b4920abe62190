"""`isokl behaviors check`: what it says of a behavior that works, and of one that does not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from isokl_bench.bootstrap import Interval
from isokl_bench.cli import invoke
from isokl_bench.engine.steering import Steering
from isokl_bench.engine.system_prompt import Nothing
from isokl_bench.pipeline.behavior_check import BehaviorCheck, check_behavior
from isokl_registry import Answer, Site
from tests import oracle

FINE = BehaviorCheck(
    n=10,
    pool=190,
    possible=200,
    points=[0, 5, 10],
    mass=np.array([0.95, 0.93, 0.97]),
    reached=np.array([10, 10, 8]),
    first=(0.5, 0.4),
    positive=(0.5, 0.4),
    personas=Interval(0.3, 0.1, 0.5, 10),
)


def test_problems():
    assert list(FINE.problems()) == []
    (problem,) = replace(FINE, pool=179).problems()
    assert "179 of 200 tokens" in problem
    (problem,) = replace(FINE, mass=np.array([0.95, 0.89, 0.97])).problems()
    assert "mass 0.89 at fork 5" in problem
    (problem,) = replace(FINE, reached=np.array([10, 10, 7])).problems()
    assert "7 of 10 replies reach fork 10" in problem


@pytest.fixture(scope="module")
def authority(registry):
    return registry.behavior("authority").load("town")


def test_masses_and_personas_equal_the_oracle(tiny, authority):
    asked = authority.prompts[:3]
    found = check_behavior(tiny, authority, asked, [0, 5])
    nothing = Steering(Nothing(), {Site(len(tiny.blocks) - 1): {}})

    def logs(ids):
        words = [tiny.chat.encode(" true"), tiny.chat.encode(" false")]
        return oracle.answer_log_probs(tiny.model, tiny.blocks, nothing, 0.0, ids, words)

    prefill = tiny.chat.encode(authority.answer.prefill)
    start = [logs([*tiny.chat.ids(prompt.text), *prefill]) for prompt in asked]
    assert found.mass[0] == pytest.approx(np.mean([np.exp(pair).sum() for pair in start]), abs=1e-4)
    assert found.first[0] == np.mean([pair[0] > pair[1] for pair in start])
    moves = []
    for i, prompt in enumerate(asked):
        sides = [
            logs([*tiny.chat.ids(prompt.text, system=persona), *prefill]) for persona in authority.personas[i]
        ]
        moves.append((sides[0][0] - sides[0][1]) - (sides[1][0] - sides[1][1]))
    assert found.personas.mean == pytest.approx(np.mean(moves), abs=1e-3)
    assert (found.n, found.possible, found.reached.tolist()) == (3, 60, [3, 3])


def test_short_replies_and_a_form_that_fails_are_said(tiny, authority):
    form = replace(authority, answer=Answer("Weather:", (" zinc",), (" oak",)))
    problems = list(check_behavior(tiny, form, form.prompts[:4], [0, 200]).problems())
    assert any("does not make the model answer" in problem for problem in problems)
    assert any("reach fork 200: ask for longer ones" in problem for problem in problems)


def test_command(capsys):
    assert (
        invoke(["behaviors", "check", "authority", "--model", "tiny-qwen", "--prompts", "4", "--json"]) == 0
    )
    found = json.loads(capsys.readouterr().out)["authority"]
    assert (found["n"], found["problems"], found["forks"][-1]) == (4, [], 50)
    assert invoke(["behaviors", "check", "authority", "--model", "tiny-qwen", "--prompts", "4"]) == 0
    assert "4/4" in capsys.readouterr().out
    assert invoke(["behaviors", "check", "autority", "--model", "tiny-qwen"]) == 1
    assert "did you mean 'authority'" in capsys.readouterr().err
