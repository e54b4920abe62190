"""What a terminal shows of a sweep."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from isokl_bench.cli.sweep_progress import Live
from isokl_bench.pipeline.config import RunConfig
from isokl_bench.sweep.plan import plan_cells
from isokl_bench.sweep.worker import CellResult, Progress


@pytest.fixture
def screen(registry):
    """Three cells, two workers; past runs say a minute for all."""
    configs = [RunConfig(model="tiny-qwen", method="pca", seed=seed) for seed in range(3)]
    cells = plan_cells(configs, None, registry)
    return Live(cells, cells, jobs=2, seconds=60.0)


def drawn(screen: Live, width: int = 80) -> list[str]:
    """The lines as a terminal of this width shows them."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(screen.bars.get_renderable())
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def shown(screen: Live) -> list[str]:
    """The same without the bars."""
    return [" ".join(line.strip("━╸╺ ").split()) for line in drawn(screen)]


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
    screen.ended(first, CellResult("done", seconds=40.0))
    screen.tell(Progress(worker=11, cell=0, share=1.0, text="done"))  # late
    assert shown(screen) == ["42% 1/3 cells, 40 s left", f"25% {second.label}: fitting"]
    screen.tell(Progress(worker=11, cell=2, share=0.0, text="loading"))
    assert len(shown(screen)) == 3


def test_a_long_text_is_cut_and_leaves_the_bars(screen):
    screen.tell(Progress(worker=11, cell=0, share=0.5, text="very " * 40))
    whole, worker = drawn(screen, width=60)
    assert whole.startswith("━" * 4)
    assert worker.startswith("━" * 11)
    assert worker.rstrip().endswith("…")
