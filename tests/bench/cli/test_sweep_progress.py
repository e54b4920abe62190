"""What a terminal shows of a sweep."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from isokl_bench.cli.sweep_progress import Live
from isokl_bench.pipeline.config import RunConfig
from isokl_bench.sweep.plan import plan_cells
from isokl_bench.sweep.worker import Outcome, Progress


@pytest.fixture
def screen(registry):
    """Three cells, two workers; past runs say a minute for all."""
    configs = [RunConfig(model="tiny-qwen", method="pca", seed=seed) for seed in range(3)]
    cells = plan_cells(configs, None, registry)
    return Live(cells, cells, jobs=2, seconds=60.0)


def shown(screen: Live, width: int = 80) -> list[str]:
    """The lines of the bars, each with its runs of spaces and bar made one."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(screen.bars.get_renderable())
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return [" ".join(line.replace("━", "").replace("╸", "").replace("╺", "").split()) for line in lines]


def test_a_line_for_the_sweep_and_one_for_each_worker(screen):
    assert shown(screen) == ["0% 0/3 cells, 60 s left"]
    first, second, _ = screen.cells
    screen.tell(Progress(worker=11, cell=0, share=0.5, text="calibrating [+]"))
    screen.tell(Progress(worker=12, cell=1, share=0.25, text="fitting"))
    assert shown(screen) == [
        "25% 0/3 cells, 60 s left",
        f"50% {first.label}: calibrating [+]",
        f"25% {second.label}: fitting",
    ]
    screen.ended(first, Outcome("done", seconds=40.0))
    screen.tell(Progress(worker=11, cell=0, share=1.0, text="done"))  # late
    assert shown(screen) == ["42% 1/3 cells, 40 s left", f"25% {second.label}: fitting"]
    screen.tell(Progress(worker=11, cell=2, share=0.0, text="loading"))
    assert len(shown(screen)) == 3


def test_a_line_is_cut_where_the_terminal_ends(screen):
    screen.tell(Progress(worker=11, cell=0, share=0.5, text="very " * 40))
    assert len(shown(screen, width=60)) == 2
    assert shown(screen, width=60)[1].endswith("…")
