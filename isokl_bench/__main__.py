"""`python -m isokl_bench` is `isokl`."""

from isokl_bench.cli import main

main()
