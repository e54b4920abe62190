"""What a run is asked for: one validated model for Python, the command line, files and sweeps."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from isokl_registry import IsoklError
from isokl_registry.mistake import mistake

PROTOCOLS = {"stable": (32, 32), "published": (4, 4)}  # calibration and holdout prompts
METRICS = ("target_logit", "base_nll", "branch_pmass", "kl_trajectory")
ALPHAS = (0.0, 0.5, 1.0, 2.0, 4.0)
MOST = 1_000_000  # tokens of a rollout, and prompts: more than any model reads
LONGEST = 1000  # characters of a name or path

Protocol = Literal["stable", "published"]
Position = Literal["answer", "prompt"]  # where contrast pairs are read
Dtype = Literal["float32", "bfloat16", "float16"]
POSITIONS, DTYPES = get_args(Position), get_args(Dtype)
IDENTITY, RUNTIME = {"identity": True}, {"identity": False}


def _writable(text: str) -> str:
    """Half a character and NUL are in no name and no path, and no database takes them."""
    if not text.strip():
        raise ValueError("a text that is not empty")
    if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("a text of whole characters, without NUL")
    if len(text) > LONGEST:
        raise ValueError(f"a text of at most {LONGEST} characters")
    return text


Text = Annotated[str, AfterValidator(_writable)]
Count = Annotated[int, Field(ge=1, le=MOST)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Alpha = Annotated[float, Field(ge=0, allow_inf_nan=False)]  # a multiple of the calibrated dose
T = TypeVar("T")
Several = Annotated[
    tuple[T, ...],
    BeforeValidator(lambda value: tuple(value) if type(value) is list else value),
    Field(min_length=1),
]


def _identity(default: Any = dataclasses.MISSING) -> Any:
    return field(default=default, metadata=IDENTITY)


def _runtime(default: Any) -> Any:
    return field(default=default, metadata=RUNTIME)


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class RunConfig:
    """Everything a person may ask of one run.

    Fields marked identity change the numbers of the calibration and so the config hash; runtime fields do not
    (metrics and alphas are measured on top of a stored calibration).

    Args:
        model: a name, a hub id, a folder or a GGUF file.
        method: a name, or name[key=value,…]; so are `stat` and `metrics`.
        behavior: a name or a TOML file.
        layers: 60%, 3, 3,5, 2-5, 30%-60%, all, -1.
        stat: what calibration drives to its target.
        target: in the stat's unit; None is the stat's own target.
        tolerance: how close to the target is close enough, in the stat's unit.
        protocol: stable (32 calibration and holdout prompts) or published (4).
        window: tokens per calibration rollout.
        seed: of the prompt sets, the sampling and the bootstrap.
        position: the token at which contrast pairs are read, the last before the answer word (its prefill behind the
            prompt) or the last of the prompt.
        fit_prompts: size of one of three disjoint prompt sets, as are `calibration_prompts` and `holdout_prompts`;
            None is the protocol's.
        dtype: of weights and activations.
        chat_template: a Jinja file, or plain; None is the model's own.
        revision: branch, tag or commit of a hub model; the commit that it leads to is what the hash holds.
        metrics: what is measured.
        alphas: the multiples of the calibrated dose at which it is.
        bidirectional: both signs, not + alone.
        device: auto, cpu, cuda, cuda:1 …

    Raises:
        IsoklError: one line that names the field, what it was given and what it takes, whatever that was.
    """

    model: Text = _identity()
    method: Text = _identity()
    behavior: Text = _identity("sentiment")
    layers: Text = _identity("60%")
    stat: Text = _identity("kl_p95")
    target: Positive | None = _identity(None)
    tolerance: Positive = _identity(0.05)
    protocol: Protocol = _identity("stable")
    window: Count = _identity(20)
    seed: Annotated[int, Field(ge=0, lt=2**63)] = _identity(0)
    position: Position = _identity("answer")
    fit_prompts: Count = _identity(64)
    calibration_prompts: Count | None = _identity(None)
    holdout_prompts: Count | None = _identity(None)
    dtype: Dtype = _identity("float32")
    chat_template: Text | None = _identity(None)
    revision: Text | None = _identity(None)
    metrics: Several[Text] = _runtime(METRICS)
    alphas: Several[Alpha] = _runtime(ALPHAS)
    bidirectional: bool = _runtime(False)
    device: Text = _runtime("auto")

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_line(cls, given: Any, validate: Any) -> Any:
        try:
            return validate(given)
        except ValidationError as error:
            raise IsoklError(mistake(_by_name(error.errors(include_url=False)[0]), FIELDS)) from None


def _by_name(error: ErrorDetails) -> ErrorDetails:
    """The error of an argument that was given by its place, as if it had been given by name."""
    match error["loc"]:
        case (int(place), *inside) if place < len(FIELDS):
            error["loc"] = (list(FIELDS)[place], *inside)
    return error


FIELDS = {found.name: found for found in dataclasses.fields(RunConfig)}
DEFAULTS = {name: found.default for name, found in FIELDS.items()}
