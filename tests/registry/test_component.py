"""Parameters as people write them: name[key=value,…]."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isokl_registry import Component, IsoklError, parse_spec


@dataclass(frozen=True)
class Example(Component):
    """First line.

    More.
    """

    kind: ClassVar[str] = "method"
    name: ClassVar[str] = "example"
    rate: float = 0.5
    count: int = 3
    flag: bool = True
    word: str = "fast"
    bound: float | None = None
    side: Literal["left", "right"] = "left"
    weights: list[int] = field(default_factory=lambda: [1])
    rates: tuple[float, ...] = ()
    names: list[str] | None = None

    def __post_init__(self) -> None:
        if self.count > 10**9:
            raise ValueError("count is out of this world")


@dataclass(frozen=True)
class Needy(Component):
    kind: ClassVar[str] = "stat"
    name: ClassVar[str] = "needy"
    rank: int


FIELDS = "bound, count, flag, names, rate, rates, side, weights, word"
FINITE = st.floats(allow_nan=False, allow_infinity=False)
EXAMPLES = st.builds(
    Example,
    rate=FINITE,
    count=st.integers(max_value=10**9),
    flag=st.booleans(),
    word=st.text()
    | st.sampled_from(["true", "None", "3", "1e5", "a,b", "it's", '"', "a-b/c.d", "x]y[", " ", "\\"]),
    bound=st.none() | FINITE,
    side=st.sampled_from(["left", "right"]),
    weights=st.lists(st.integers()),
    rates=st.lists(FINITE).map(tuple),
    names=st.none() | st.lists(st.text()),
)


@pytest.mark.parametrize(
    ("text", "name", "params"),
    [
        ("pca", "pca", {}),
        ("  pca ", "pca", {}),
        ("pca[]", "pca", {}),
        ("pca[k=3]", "pca", {"k": 3}),
        ("pca[ k = 3 , normalize=false, ]", "pca", {"k": 3, "normalize": False}),
        ("a[b=0.5,c=-2,d=1e-3]", "a", {"b": 0.5, "c": -2, "d": 0.001}),
        ("a[b=True,c=NONE]", "a", {"b": True, "c": None}),
        ("a[b=mlp.down_proj,c=60%]", "a", {"b": "mlp.down_proj", "c": "60%"}),
        ("a[b='x,y',c=\"=\"]", "a", {"b": "x,y", "c": "="}),
        ("a[b='3']", "a", {"b": "3"}),
        ("a[b=c=d]", "a", {"b": "c=d"}),
        ("a[b={[]}]", "a", {"b": "{[]}"}),
        ("a[b=[1,2],c=3]", "a", {"b": [1, 2], "c": 3}),
        ("a[b=[ 1.5, -2 ],c=[]]", "a", {"b": [1.5, -2], "c": []}),
        ("a[b=['x,]',\"y\"]]", "a", {"b": ["x,]", "y"]}),
    ],
)
def test_parse_spec(text, name, params):
    assert parse_spec(text) == (name, params)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pca[k=3", "'pca[k=3' does not end with ']': write it as name[key=value,key=value]"),
        ("pca[k=3]x", "'pca[k=3]x' does not end with ']': write it as name[key=value,key=value]"),
        ("pca[k]", "'k' in 'pca[k]' is not key=value: write it as name[key=value,key=value]"),
        ("pca[=3]", "'=3' in 'pca[=3]' is not key=value: write it as name[key=value,key=value]"),
        ("pca[k=]", "'k=' in 'pca[k=]' is not key=value: write it as name[key=value,key=value]"),
        ("pca[k=1,2]", "'2' in 'pca[k=1,2]' is not key=value: write it as name[key=value,key=value]"),
        ("pca[k=1,k=2]", "'k' is given twice in 'pca[k=1,k=2]': keep one"),
    ],
)
def test_parse_spec_says_what_is_wrong(text, message):
    with pytest.raises(IsoklError) as error:
        parse_spec(text)
    assert str(error.value) == message


@given(EXAMPLES)
def test_label_is_read_back(example):
    name, params = parse_spec(example.label())
    assert name == "example"
    assert Example.create(params) == example


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.integers() | st.booleans() | FINITE | st.none()
    )
)
def test_parse_spec_reads_any_value(params):
    written = ",".join(f"{key}={value}" for key, value in params.items())
    assert parse_spec(f"name[{written}]") == ("name", params)


@given(st.text(alphabet="ab=,[]()'\"{}0.-é \n"))
def test_any_text_is_read_or_refused_in_one_line(text):
    said = ""
    try:
        parse_spec(text)
    except IsoklError as error:
        said = str(error)
    assert "\n" not in said


def test_label_shows_what_is_not_the_default():
    assert Example().label() == "example"
    assert Example(flag=False, rate=2.0).label() == "example[rate=2.0,flag=false]"
    assert Example(word="true", bound=1.5).label() == "example[word='true',bound=1.5]"
    assert Needy(rank=4).label() == "needy[rank=4]"
    assert Example(weights=[2, 3], rates=(0.5,)).label() == "example[weights=[2,3],rates=[0.5]]"


def test_create_leaves_what_it_was_given_alone():
    given_params = {"rate": 2}
    made = Example.create(given_params)
    assert given_params == {"rate": 2}
    assert type(given_params["rate"]) is int
    assert made == Example(rate=2.0)


@pytest.mark.parametrize(
    ("params", "value"),
    [
        ({"rate": 2}, 2.0),
        ({"bound": 7}, 7.0),
        ({"bound": None}, None),
        ({"count": 2}, 2),
        ({"side": "right"}, "right"),
        ({"weights": [4, 5]}, [4, 5]),
        ({"rates": [1, 2.5]}, (1.0, 2.5)),
        ({"names": None}, None),
        ({"names": ["a"]}, ["a"]),
    ],
)
def test_create_takes_an_int_for_a_float(params, value):
    (key,) = params
    made = getattr(Example.create(params), key)
    assert made == value
    assert type(made) is type(value)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"rat": 1},
            f"unknown parameter of method 'example' 'rat': did you mean 'rate'? available: {FIELDS}",
        ),
        ({"rate": "high"}, "method 'example': rate=high is not float"),
        ({"rate": True}, "method 'example': rate=true is not float"),
        ({"count": 2.0}, "method 'example': count=2.0 is not int"),
        ({"count": None}, "method 'example': count=none is not int"),
        ({"flag": 1}, "method 'example': flag=1 is not bool"),
        ({"word": 3}, "method 'example': word=3 is not str"),
        ({"bound": "wide"}, "method 'example': bound=wide is not float or none"),
        (
            {"side": "rigt"},
            "unknown side of method 'example' 'rigt': did you mean 'right'? available: left, right",
        ),
        ({"count": 10**10}, "method 'example': count is out of this world"),
        ({"weights": 1}, "method 'example': weights=1 is not a list of int"),
        ({"weights": [1, True]}, "method 'example': weights=[1,True] is not a list of int"),
        ({"names": [1]}, "method 'example': names=[1] is not a list of str or none"),
        ({"rate": 10**400}, f"method 'example': rate={10**400} is not float"),
    ],
)
def test_create_says_what_is_wrong(params, message):
    with pytest.raises(IsoklError) as error:
        Example.create(params)
    assert str(error.value) == message


def test_a_parameter_without_default_is_asked_for():
    with pytest.raises(IsoklError, match=r"^stat 'needy' needs rank: write needy\[rank=…\]$"):
        Needy.create({})


def test_params_and_summary():
    assert Needy(rank=2).params() == {"rank": 2}
    assert Example().params()["weights"] == [1]
    assert Example.summary() == "First line."
