"""Batches that fit: a real shortage of memory, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from isokl_bench.engine.batching import in_batches, out_of_memory

SHORT = """
import resource
import numpy as np
from isokl_bench.engine.rollout import rollout
from tests.benchmarks.subjects import tiny

subject = tiny("tiny-qwen", 16)
doses = [0.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0, 110.0]
want = rollout(subject.lm, subject.prompts, subject.steering, doses, 40)
size = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (size + 8 * 2**20,) * 2)
subject.lm.notify = print
found = rollout(subject.lm, subject.prompts, subject.steering, doses, 40)
np.testing.assert_array_equal(found.tokens, want.tokens)
"""


BUDGET = """
import resource
import numpy as np
from isokl_bench.engine.answers import AnswerTokens
from isokl_bench.engine.fork import fork
from isokl_registry import Answer
from tests.architectures import build
from tests.steerings import steer

lm = build("gemma3")
steering, answer = steer(lm, "mean_diff"), AnswerTokens.of(Answer("?", ("t",), ("f",)), lm)
prompts, doses = [lm.chat.ids(str(i)) for i in range(24)], [0.0, 1.0]
tokens = np.random.default_rng(0).integers(0, 250, size=(len(doses), len(prompts), 400))
fork(lm, prompts[:1], tokens[:1, :1], steering, doses[:1], [0], answer)  # what torch sets up once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
lm.free_memory = lambda: 300 * 2**20
fork(lm, prompts, tokens, steering, doses, range(0, 401, 4), answer)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory as Linux counts it")
def test_forks_take_the_memory_they_may():
    """A hundred forks of long texts, under two kinds of masks."""
    done = subprocess.run([sys.executable, "-c", BUDGET], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1.5 * 300


@pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc as Linux has them")
def test_a_real_shortage_halves_the_batch_and_changes_nothing():
    done = subprocess.run([sys.executable, "-c", SHORT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("out of memory on cpu with 128 rows: going on with 64")


def test_every_row_is_worked_through_once(tiny):
    seen: list[list[int]] = []
    in_batches(tiny, range(10), 4, lambda batch: seen.append(list(batch)))
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_other_errors_pass(tiny):
    with pytest.raises(RuntimeError, match="shapes"):
        in_batches(tiny, [1], 1, lambda batch: fail())
    assert not out_of_memory(RuntimeError("shapes"))


def fail():
    raise RuntimeError("shapes")
