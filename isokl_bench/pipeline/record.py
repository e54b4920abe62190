"""A finished run as a notebook wants it: a few attributes, and data frames."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from isokl_db import Outcome
from isokl_registry import IsoklError

if TYPE_CHECKING:
    import pandas as pd

    from isokl_bench.engine.steering import Steering
    from isokl_db import Store


@dataclass
class Record:
    """Everything that is stored of one attempt. `cached` says that the answer came from the store."""

    attempt: int
    hash: str
    data: dict[str, Any]
    steering_bytes: bytes | None
    cached: bool = False

    @classmethod
    def load(cls, store: Store, attempt: int, *, cached: bool = False) -> Record:
        """Read an attempt from the store."""
        data = store.record(attempt)
        return cls(attempt, data["hash"], data, store.attempt(attempt).steering(), cached)

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration that `hash` is the hash of."""
        return dict(self.data["config"])

    @property
    def calibrations(self) -> list[dict[str, Any]]:
        """One per sign: outcome, coefficient, low, high, value, evaluations …"""
        return list(self.data["calibrations"])

    def calibration(self, sign: int = 1) -> dict[str, Any]:
        """The calibration of one sign.

        Raises:
            IsoklError: when that sign was not calibrated.
        """
        for calibration in self.calibrations:
            if calibration["sign"] == sign:
                return dict(calibration)
        raise IsoklError(
            f"run {self.hash[:12]} has no calibration of sign {sign:+d}: run it with --bidirectional"
        )

    @property
    def coefficient(self) -> float:
        """The calibrated dose of sign +; 1 for a prompt, which has none."""
        return float(self.calibration()["coefficient"])

    @cached_property
    def summaries(self) -> pd.DataFrame:
        """Means with intervals: sign, metric, quantity, alpha, position, n, mean, low, high, reason."""
        return self._frame("summaries")

    @cached_property
    def measurements(self) -> pd.DataFrame:
        """Every number: sign, metric, quantity, alpha, prompt, position, value, reason."""
        return self._frame("measurements")

    @cached_property
    def traces(self) -> pd.DataFrame:
        """Sampled texts: sign, alpha, prompt, text, tokens, kl."""
        return self._frame("traces")

    def array(self, metric: str, quantity: str, sign: int = 1) -> NDArray[np.float64]:
        """One quantity as [alpha, prompt, position] (position has length 1 where there is none); NaN is unscored.

        Args:
            metric: as its label has it, parameters included.
            quantity: one of those that the metric measures.
            sign: 1 or −1.

        Raises:
            IsoklError: when it was not measured.
        """
        rows = self.measurements.query("metric == @metric and quantity == @quantity and sign == @sign")
        if rows.empty:
            raise IsoklError(
                f"run {self.hash[:12]} has no {metric}/{quantity} of sign {sign:+d}: measure it first"
            )
        shape = [rows[axis].fillna(-1).nunique() for axis in ("alpha", "prompt", "position")]
        ordered = rows.assign(position=rows["position"].fillna(-1)).sort_values(
            ["alpha", "prompt", "position"]
        )
        found: NDArray[np.float64] = ordered["value"].to_numpy(dtype=float).reshape(shape)
        return found

    def steering(self) -> Steering:
        """The fitted steering, ready to attach or to save.

        Raises:
            IsoklError: when there is none.
        """
        from isokl_bench.engine.steering import Steering
        from isokl_registry import load_registry

        if any(calibration["outcome"] == Outcome.NO_DOSE for calibration in self.calibrations):
            raise IsoklError(
                f"run {self.hash[:12]} steers by a prompt ({self.config['method']}), so there is no steering to give: "
                "take a run of a method that fits one"
            )
        if self.steering_bytes is None:
            raise IsoklError(f"run {self.hash[:12]} has no steering stored: run it again with force=True")
        return Steering.from_bytes(self.steering_bytes, load_registry())

    def _frame(self, name: str) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(self.data[name])
