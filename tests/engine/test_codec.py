"""Values to text and back: nothing changes on the way, and what cannot travel is named."""

import datetime as dt
import enum
import json
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from django.utils.functional import lazystr
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from django_durable.engine.codec import UndecodableError, decode_text, encode_text, find_references
from django_durable.exceptions import NotSerializableError, PayloadTooLargeError


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class Rank(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


@dataclass
class Line:
    name: str
    price: Decimal
    colours: tuple[Colour, ...] = ()


@dataclass(frozen=True)
class Basket:
    lines: list[Line]
    best: Line | None = None
    by_name: dict[str, Line] = field(default_factory=dict)
    total: int = field(init=False, default=7)


class Stranger:
    """Stands for a model instance."""

    def __init__(self, model: str, pk: Any) -> None:
        self.model, self.pk = model, pk

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stranger) and (self.model, self.pk) == (other.model, other.pk)

    def __hash__(self) -> int:
        return hash((self.model, self.pk))


Point = namedtuple("Point", "x y")


def model_key(value: Any) -> tuple[str, Any] | None:
    if not isinstance(value, Stranger):
        return None
    if value.pk is None:
        raise ValueError("the Stranger is not saved.")
    return value.model, value.pk


def encoded(value: Any, hint: Any = Any, limit: int | None = None) -> str:
    return encode_text(value, hint=hint, path="value", model_key=model_key, limit=limit)


def decoded(text: str, hint: Any = Any) -> Any:
    return decode_text(text, hint=hint, resolve=Stranger)


def there_and_back(value: Any, hint: Any = Any) -> Any:
    return decoded(encoded(value, hint), hint)


def typed(value: Any) -> Any:
    """The value with each part's type beside it, so that 1, 1.0 and True differ."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return kind, [(typed(k), typed(v)) for k, v in value.items()]
    if isinstance(value, list | tuple):
        return kind, [typed(item) for item in value]
    if isinstance(value, set | frozenset):
        return kind, sorted(repr(typed(item)) for item in value)
    return kind, repr(value) if isinstance(value, float | Decimal) else value


text = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
zones = st.integers(-1380, 1380).map(lambda m: dt.timezone(dt.timedelta(minutes=m)))
plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    text,
    st.binary(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.uuids(),
    st.datetimes(timezones=zones).map(lambda moment: moment.replace(fold=0)),
    st.dates(),
    st.times().map(lambda time: time.replace(fold=0)),
    st.timedeltas(),
)
hashable = st.recursive(plain, lambda item: st.tuples(item, item), max_leaves=3)
values = st.recursive(
    plain,
    lambda item: st.one_of(
        st.lists(item, max_size=4),
        st.tuples(item, item),
        st.dictionaries(text | st.just("$tuple"), item, max_size=4),
        st.dictionaries(hashable, item, max_size=3),
        st.sets(hashable, max_size=4),
        st.frozensets(hashable, max_size=4),
    ),
    max_leaves=12,
)


class RoundTripTests:
    @given(values)
    def test_plain_data_comes_back_as_it_was(self, value: Any) -> None:
        assert typed(there_and_back(value)) == typed(value)

    @given(values)
    def test_a_second_trip_has_the_same_text(self, value: Any) -> None:
        first = encoded(value)

        assert encoded(decoded(first)) == first

    @given(values)
    def test_the_text_is_json_that_postgresql_takes(self, value: Any) -> None:
        written = encoded(value)

        json.loads(written)
        assert "\x00" not in written
        assert "\\u0000" not in written.replace("\\\\", "")

    def test_a_dict_keeps_the_order_of_its_keys(self) -> None:
        assert list(there_and_back({"zebra": 1, "ant": 2, "bee": 3})) == ["zebra", "ant", "bee"]

    def test_keys_that_look_like_tags_are_only_keys(self) -> None:
        tricky = {"$tuple": [1], "$model": ["a.b", 1], "$dict": None}

        assert there_and_back(tricky) == tricky

    def test_equal_sets_have_equal_texts(self) -> None:
        assert encoded({0, 8, 16, "b", "a"}) == encoded({"a", "b", 16, 8, 0})

    def test_equal_sets_of_sets_have_equal_texts(self) -> None:
        """The order rests on repr(), which for sets depends on their history and on hash seeds."""
        one = {frozenset([0, 8]), frozenset([1])}
        other = {frozenset([8, 0]), frozenset([1])}
        assert one == other

        texts = {encoded(value) for value in (one, other)}

        assert len(texts) == 1

    def test_lazy_strings_become_text(self) -> None:
        values = [gettext_lazy("Yes"), lazystr("lazy"), mark_safe("<b>"), Word.YES]

        back = there_and_back(values)

        assert back == ["Yes", "lazy", "<b>", "yes"]
        assert {type(item) for item in back} == {str}

    @given(st.lists(st.builds(Line, text, st.decimals(allow_nan=False, allow_infinity=False),
           st.lists(st.sampled_from(Colour)).map(tuple))))  # fmt: skip
    def test_dataclasses_and_enums_come_back_where_a_hint_names_them(
        self, lines: list[Line]
    ) -> None:
        basket = Basket(lines, lines[0] if lines else None, {line.name: line for line in lines})

        assert there_and_back(basket, Basket) == basket

    @pytest.mark.parametrize(
        ("hint", "value"),
        [
            (Colour | None, Colour.RED),
            (Annotated[Colour, "primary"], Colour.RED),
            (list[Colour], [Colour.RED, Colour.BLUE]),
            (set[Colour], {Colour.RED}),
            (dict[Colour, list[Line]], {Colour.RED: [Line("a", Decimal(1))]}),
            (tuple[Colour, int, Rank], (Colour.RED, 3, Rank.LOW)),
            (tuple[Colour, ...] | None, (Colour.RED,)),
            (int | Line | Colour, Line("a", Decimal("1.50"))),
        ],
    )
    def test_hints_reach_into_containers_and_unions(self, hint: Any, value: Any) -> None:
        assert typed(there_and_back(value, hint)) == typed(value)

    def test_an_enum_of_plain_values_without_a_hint_becomes_its_value(self) -> None:
        assert typed(there_and_back([Rank.LOW, Word.YES])) == typed([1, "yes"])

    def test_instances_travel_as_label_and_key(self) -> None:
        key = uuid4()

        written = encoded({"order": Stranger("shop.order", key)})

        assert find_references(written) == [("shop.order", key)]
        assert decoded(written) == {"order": Stranger("shop.order", key)}


def containing_itself() -> list[Any]:
    value: list[Any] = []
    value.append({"again": value})
    return value


class RefusalTests:
    @pytest.mark.parametrize(
        ("value", "path", "reason"),
        [
            ({"a": [1, float("nan")]}, "value['a'][1]", "nan is not a finite number"),
            ([float("inf")], "value[0]", "inf is not a finite number"),
            ((1, Decimal("NaN")), "value[1]", "not a finite number"),
            ([Decimal("sNaN")], "value[0]", "not a finite number"),
            ([Decimal("-Infinity")], "value[0]", "not a finite number"),
            ({"a": "x\x00"}, "value['a']", "it holds a NUL character"),
            ({"x\x00": 1}, "value key 'x\\x00'", "it holds a NUL character"),
            ({(1, "\x00"): 1}, "value key (1, '\\x00')[1]", "it holds a NUL character"),
            ([dt.datetime(2030, 1, 1)], "value[0]", "is naive; use django.utils.timezone.now()"),  # noqa: DTZ001
            ([lambda: None], "value[0]", "function is not a type that can be stored"),
            ({"a": object()}, "value['a']", "object is not a type that can be stored"),
            ([Point(1, 2)], "value[0]", "Point is a subclass of tuple; pass tuple(...)"),
            (OrderedDict(a=1), "value", "OrderedDict is a subclass of dict; pass dict(...)"),
            ([Colour.RED], "value[0]", "annotate it with Colour, or pass .value"),
            ([Line("a", Decimal(1))], "value[0]", "a Line is stored only where a type hint names"),
            ([Stranger("shop.order", None)], "value[0]", "the Stranger is not saved"),
            ([10**5000], "value", "digits"),
            (containing_itself(), "value", "it contains itself, or is nested too deeply"),
        ],
        ids=lambda part: part if isinstance(part, str) and part.isidentifier() else "",
    )
    def test_names_the_place_and_the_reason(self, value: Any, path: str, reason: str) -> None:
        with pytest.raises(NotSerializableError) as caught:
            encoded(value)

        assert caught.value.path == path
        assert reason in str(caught.value)

    def test_names_the_field_of_a_dataclass(self) -> None:
        basket = Basket([Line("a", Decimal("NaN"))])

        with pytest.raises(NotSerializableError, match=r"value\.lines\[0\]\.price cannot be"):
            encoded(basket, Basket)

    @pytest.mark.parametrize(
        ("value", "path"), [({"a": ["\ud800"]}, "value['a'][0]"), ([{"\udfff": 1}], "value[0] key")]
    )
    def test_half_a_surrogate_pair_is_named_by_its_place(self, value: Any, path: str) -> None:
        with pytest.raises(NotSerializableError) as caught:
            encoded(value)

        assert caught.value.path.startswith(path)

    def test_a_whole_surrogate_pair_is(self) -> None:
        assert there_and_back("\N{PILE OF POO}") == "\N{PILE OF POO}"

    def test_the_limit_is_in_bytes_not_characters(self) -> None:
        assert encoded("äöü", limit=8) == '"äöü"'
        with pytest.raises(PayloadTooLargeError, match="value takes 8 bytes, more than"):
            encoded("äöü", limit=7)


class NonsenseTests:
    @pytest.mark.parametrize(
        "stored",
        [
            "{",
            '{"$what":1}',
            '{"$datetime":"yesterday"}',
            '{"$datetime":5}',
            '{"$decimal":"ten"}',
            '{"$uuid":[]}',
            '{"$timedelta":1e99}',
            '{"$dict":[1]}',
            '{"$dict":[[[],1]]}',
            '{"$set":[[1]]}',
            '{"$model":5}',
            '{"$enum":["Colour","RED"]}',
            '{"$dataclass":["os.system",{}]}',
        ],
    )
    def test_a_text_edited_by_hand_is_undecodable(self, stored: str) -> None:
        with pytest.raises(UndecodableError):
            decoded(stored)

    @pytest.mark.parametrize(
        ("hint", "stored"),
        [
            (Colour, '{"$enum":["Colour","GREEN"]}'),
            (Colour, '{"$enum":["Rank","LOW"]}'),
            (Line, '{"$dataclass":["Line",{"name":"a"}]}'),
            (Line, '{"$dataclass":["Line",{"name":"a","price":1,"sudo":true}]}'),
            (list[Colour], '[{"$dataclass":["Line",{}]}]'),
        ],
    )
    def test_the_class_comes_from_the_hint_never_from_the_text(
        self, hint: Any, stored: str
    ) -> None:
        with pytest.raises(UndecodableError):
            decoded(stored, hint)

    def test_says_which_class_no_hint_names(self) -> None:
        with pytest.raises(UndecodableError, match="it holds a Gone, but no type hint names"):
            decoded('{"$dataclass":["Gone",{}]}', Line)


class ExactnessTests:
    """The texts of stored values are a format: rows of last year must still decode."""

    @pytest.mark.parametrize(
        ("value", "stored"),
        [
            (None, "null"),
            (1e23, "1e+23"),
            (-0.0, "-0.0"),
            ((1, 2), '{"$tuple":[1,2]}'),
            ({2, 1}, '{"$set":[1,2]}'),
            (b"\x00\xff", '{"$bytes":"AP8="}'),
            (Decimal("1.50"), '{"$decimal":"1.50"}'),
            (dt.date(2030, 1, 2), '{"$date":"2030-01-02"}'),
            (dt.timedelta(seconds=-1), '{"$timedelta":-1000000}'),
            (UUID(int=5), '{"$uuid":"00000000-0000-0000-0000-000000000005"}'),
            ({1: "a"}, '{"$dict":[[1,"a"]]}'),
            (
                dt.datetime(2030, 1, 2, 3, tzinfo=dt.UTC),
                '{"$datetime":"2030-01-02T03:00:00+00:00"}',
            ),
        ],
    )
    def test_is_written_like_this(self, value: Any, stored: str) -> None:
        assert encoded(value) == stored
        assert typed(decoded(stored)) == typed(value)

    @pytest.mark.parametrize(
        ("value", "hint", "stored"),
        [
            (Colour.RED, Colour, '{"$enum":["Colour","RED"]}'),
            (Line("a", Decimal(1)), Line,
             '{"$dataclass":["Line",{"name":"a","price":{"$decimal":"1"},"colours":{"$tuple":[]}}]}'),
        ],
    )  # fmt: skip
    def test_hinted_classes_are_written_by_name(self, value: Any, hint: Any, stored: str) -> None:
        assert encoded(value, hint) == stored
        assert decoded(stored, hint) == value

    def test_a_field_added_with_a_default_still_decodes(self) -> None:
        stored = '{"$dataclass":["Line",{"name":"a","price":1}]}'

        assert decoded(stored, Line) == Line("a", 1, ())  # type: ignore[arg-type]


def test_find_references_builds_nothing() -> None:
    built: list[Callable[..., Any]] = []

    @dataclass
    class Loud:
        order: Stranger

        def __post_init__(self) -> None:
            built.append(type(self))

    stored = '{"$dataclass":["Loud",{"order":{"$model":["shop.order",1]}}]}'

    assert find_references(stored) == [("shop.order", 1)]
    assert built == []
