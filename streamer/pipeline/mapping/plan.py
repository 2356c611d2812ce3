"""A mapping, compiled: from a record's bytes to the fields of click.avsc, without a look at the file.

- What no click can be without, ids, times and consent are strict: another type there is a dead letter, whose
  reason names the field and the mapping. Any other field of another type counts as missing.
- An empty text counts as missing. A whole number where a text is expected becomes its digits.
- An event that is no click and tells how long a page was read has no event type; one that can't be read is
  filtered as any other that is no click.
- What a record comes to depends on its bytes alone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

from streamer.pipeline.bots import CALLED_A_BOT
from streamer.pipeline.decode import Rejected, says_no
from streamer.pipeline.extras import own_name
from streamer.pipeline.json_text import REPLACEMENT, with_whole_characters
from streamer.pipeline.mapping.leaves import ColumnReader, LeafReader, Leaves, Path, Place
from streamer.pipeline.mapping.path import walk
from streamer.pipeline.mapping.spec import (
    ANY,
    REQUIRED,
    TEXTS,
    EventRule,
    MappingSpec,
    Source,
    Sources,
    as_text,
    extra_sources,
)
from streamer.pipeline.normalize import FirstParameter
from streamer.schemas import codec
from streamer.schemas.extras import CAMPAIGN, PROPERTY

Convert = Callable[[Any], Any]

CLICK_FIELDS = tuple(field["name"] for field in codec.schema("click")["fields"])
_PLACE = {name: place for place, name in enumerate(CLICK_FIELDS)}
_USER_AGENT = _PLACE["user_agent"]
_PROPERTIES = _PLACE["properties"]
_IDS = [_PLACE[name] for name in ("visitor_id", "event_id", "user_id")]
_EVENT_TYPE = _PLACE["event_type"]
_OF_DWELL = {"visitor_id", "timestamp", "sent_at", "page_url", "dwell_ms"}
"""What is read of an event that tells how long a page was read."""
_RULES_KEPT = 4096
"""Combinations of what conditions can tell apart whose rule is remembered."""
_SHAPES_KEPT = 1024
"""Of a rule: which leaves hold something, so that its fields need not look at the others."""
_UNSEEN: Any = object()
_NO_TEXT = ""
_MAX_DIGITS = 32
_MOST = 2**63
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_EPOCH_DAY = _EPOCH.toordinal()
_ONE_MS = dt.timedelta(milliseconds=1)
_UTC = dt.UTC
_from_iso_format = dt.datetime.fromisoformat
_YES = {"1", "true", "yes"}
_DIVISORS = {"us": 1000, "ns": 1_000_000}
_FACTORS = {"s": 1000, "ms": 1}


class BadValueError(Exception):
    """A value that a field can't have; the text is the rule, as a dead letter's reason has it."""


class Traced(NamedTuple):
    """Where a field of one record came from."""

    field: str
    source: str | None
    """The path or constant; None: there was nothing."""
    value: Any
    """As it was in the record, or the constant."""
    result: Any
    """As the click has it."""
    problem: str | None
    """Why this field makes the record a dead letter."""


class _Place:
    """One source of a field, ready to be read."""

    def __init__(self, source: Source, field: str, leaves: LeafReader) -> None:
        self.source = source
        self.constant = source.constant
        self.number, self.leaf, self.rest = leaves.place(source.path) if source.path else (-1, -1, ())
        self.bit = leaves.bit(self.number, self.leaf) if source.path else 0
        """Of its leaf in a shape; 0: it is in none."""
        is_text = field in (*TEXTS, "event_type")
        self.is_plain = is_text and not source.parameters and source.values is None
        """Whether a text stays as it is."""
        self.parameter = FirstParameter(source.parameters) if is_text and source.values is None else None
        """What a text stands for if it isn't plain; None: see `texts`."""
        self.texts = _texts(field, source) if is_text and not source.parameters else None
        """What becomes of a text; one that isn't here stays as it is. None: ask `convert`."""
        self.convert = _conversion(field, source)

    def found(self, leaves: Leaves) -> Any:
        """What stands there, as it is; None if nothing does."""
        if self.number < 0:
            return self.constant
        value = leaves[self.number][self.leaf]
        if value is None or not self.rest:
            return value
        return walk(value, self.rest)

    def value(self, leaves: Leaves) -> Any:
        """As the field takes it; None if nothing stands there. Raises BadValueError."""
        value = self.found(leaves)
        if value is None:
            return None
        if type(value) is str:
            if not value:
                return None
            if self.is_plain:
                return value
            if self.parameter is not None:
                return self.parameter.of(value) or None
            if self.texts is not None:
                return self.texts.get(value, value)
        return self.convert(value)


class _Field:
    """What a field of a click is made from: the first source that has a value which can be read."""

    def __init__(self, name: str, sources: list[_Place]) -> None:
        self.name = name
        self.place = _PLACE.get(name, -1)
        """In click.avsc."""
        self.sources = sources
        self.required = name in REQUIRED or name == "event_type"

    def where(self, shape: int) -> _Field | None:
        """The same for records of this shape, for less; None if none of them has a value for it."""
        sources = [source for source in self.sources if not source.bit or source.bit & shape]
        return _Field(self.name, sources) if sources or self.required else None

    def first(self, leaves: Leaves) -> Any:
        """As `read`, for less, where every source can be read; else raises BadValueError."""
        for source in self.sources:
            value = source.value(leaves)
            if value is not None:
                return value
        if self.required:
            raise BadValueError("missing_field")
        return None

    def read(self, leaves: Leaves) -> Any:
        """Raises BadValueError: what was wrong with the first source, if none can be read."""
        bad: BadValueError | None = None
        for source in self.sources:
            try:
                value = source.value(leaves)
            except BadValueError as error:
                bad = bad or error
                continue
            if value is not None:
                return value
        if bad is not None:
            raise bad
        if self.required:
            raise BadValueError("missing_field")
        return None

    def trace(self, leaves: Leaves) -> Traced:
        """As `read`, with where it came from."""
        bad: Traced | None = None
        for source in self.sources:
            found = source.found(leaves)
            try:
                value = source.value(leaves)
            except BadValueError as error:
                bad = bad or Traced(self.name, source.source.text, found, None, str(error))
                continue
            if value is not None:
                return Traced(self.name, source.source.text, found, value, None)
        return bad or Traced(self.name, None, None, None, "missing_field" if self.required else None)


class _Shape:
    """What a rule reads of records that have a value at the same leaves."""

    def __init__(self, fields: list[_Field], consent: _Field | None, bot: _Field | None) -> None:
        self.fields = fields
        self.consent = consent
        self.bot = bot


class _Rule:
    """What becomes of the events that meet its conditions."""

    def __init__(self, rule: EventRule, leaves: LeafReader, extras: Sequence[str]) -> None:
        def field(name: str, sources: Sources) -> _Field:
            return _Field(name, [_Place(source, name, leaves) for source in sources])

        self.conditions = [(leaves.place(each.path), each.values) for each in rule.when]
        fields = {name: field(name, sources) for name, sources in rule.fields.items()}
        self.dropped = not rule.type
        self.tells_dwell = rule.tells_dwell
        if rule.tells_dwell:
            fields = {name: field for name, field in fields.items() if name in {*_OF_DWELL, "consent"}}
        if rule.type:
            fields["event_type"] = field("event_type", rule.type)
        self.visitor = fields["visitor_id"]
        self.consent = fields.pop("consent", None)
        self.bot = fields.pop("bot", None)
        self.fields = list(fields.values())
        kept = () if self.dropped else extras
        self.extras = [field(name, extra_sources(rule, name)) for name in kept]
        self._shapes: dict[int, _Shape] = {}

    def holds(self, leaves: Leaves) -> bool:
        """Whether an event meets all conditions."""
        for (number, leaf, rest), values in self.conditions:
            found = as_text(walk(leaves[number][leaf], rest))
            if found not in values and not (found and ANY in values):
                return False
        return True

    def shape_of(self, leaves: Leaves) -> _Shape:
        """What there is to read in a record, remembered by the leaves that hold something."""
        number = _shape_number(leaves)
        shape = self._shapes.get(number)
        if shape is None:
            if len(self._shapes) >= _SHAPES_KEPT:
                self._shapes.clear()
            fields = [field.where(number) for field in self.fields]
            consent, bot = [None if each is None else each.where(number) for each in (self.consent, self.bot)]
            shape = _Shape([field for field in fields if field is not None], consent, bot)
            self._shapes[number] = shape
        return shape


class _Asked:
    """Where conditions look, and the values that they know; of any other only counts whether it is there."""

    def __init__(self, place: Place, known: set[str]) -> None:
        self.number, self.leaf, self.rest = place
        self.known = known

    def tell(self, leaves: Leaves) -> str:
        """A known value, or ANY, or an empty text for nothing."""
        values = leaves[self.number]
        value = values[self.leaf]
        if self.rest:
            value = walk(value, self.rest)
        if value is None:
            return ""
        text: str = value if type(value) is str else as_text(value)
        return text if text in self.known else ANY if text else ""


class CompiledMapping:
    """Reads records as one mapping says."""

    def __init__(self, spec: MappingSpec, leaves: Any = None, extras: Sequence[str] = ()) -> None:
        """`leaves`: what reads its records; none: a reader of JSON, beside which one of columns stands.

        `extras`: those names of `schemas.extras` whose values are read, too; the title is a field.
        """
        self.name = spec.name
        self._rows: CompiledMapping | None = None
        """Reads records that are no JSON; None: there are none."""
        if leaves is None and spec.columns:
            self._rows = CompiledMapping(spec, ColumnReader(_paths_of(spec, extras), spec.columns), extras)
        self._leaves = leaves or LeafReader(_paths_of(spec, extras))
        self._rules = [_Rule(rule, self._leaves, extras) for rule in spec.events]
        self._visitor, self._time = [
            next(field for field in self._rules[0].fields if field.name == name) for name in REQUIRED
        ]
        self.maps_sent_at = any(field.name == "sent_at" for rule in self._rules for field in rule.fields)
        asked: dict[Any, set[str]] = {}
        for rule in self._rules:
            for place, values in rule.conditions:
                asked.setdefault(place, set()).update(values)
        self._asked = [_Asked(place, known) for place, known in asked.items()]
        self._known: dict[Any, _Rule | None] = {}

    def read(self, value: bytes) -> tuple[Any, ...] | None:
        """The fields of click.avsc, in its order; None for what is filtered: no click, or no consent.

        Without an event type: of no click, but of what tells for how long a page was read. Raises Rejected,
        whose reason ends with this mapping's name.
        """
        if self._rows is not None and value[:1] != b"{":
            return self._rows.read(value)
        try:
            leaves = self._leaves.read(value)
        except Rejected as rejected:
            return self._read_mended(value, rejected)
        return self._click(leaves)

    def visitor_of(self, value: bytes) -> str | None:
        """Whose the record is, also if it is no click; None if that can't be read."""
        if self._rows is not None and value[:1] != b"{":
            return self._rows.visitor_of(value)
        try:
            visitor: str = self._visitor.read(self._leaves.read(value))
        except (Rejected, BadValueError):
            return None
        return visitor

    def whose(self, value: bytes) -> tuple[str, bool] | None:
        """The visitor of what `read` gives, and whether it is filtered; None where only `read` can say."""
        if self._rows is not None and value[:1] != b"{":
            return self._rows.whose(value)
        try:
            leaves = self._leaves.read(value)
            rule = self._rule_of(leaves)
            if rule is None:
                return None
            if (rule.dropped and not rule.tells_dwell) or self._declines(rule.consent, leaves):
                return "", True
            return rule.visitor.read(leaves), False
        except (Rejected, BadValueError):
            return None

    def time_of(self, value: bytes) -> int | None:
        """Event time in ms UTC, also if the record is no click; None if that can't be read."""
        if self._rows is not None and value[:1] != b"{":
            return self._rows.time_of(value)
        try:
            at: int = self._time.read(self._leaves.read(value))
        except (Rejected, BadValueError):
            return None
        return at

    def trace(self, value: bytes) -> list[Traced] | None:
        """Where each field came from; None for an event that no rule knows. Raises Rejected."""
        if self._rows is not None and value[:1] != b"{":
            return self._rows.trace(value)
        leaves = self._leaves.read(value)
        rule = self._rule_of(leaves)
        if rule is None:
            return None
        flags = [each for each in (rule.consent, rule.bot) if each is not None]
        return [field.trace(leaves) for field in [*rule.fields, *flags, *rule.extras]]

    def _read_mended(self, value: bytes, rejected: Rejected) -> tuple[Any, ...] | None:
        """Once more, with whole characters in place of halves; but for ids, which two could share then."""
        whole = with_whole_characters(value)
        refused = Rejected("decode", f"{rejected.reason}:{self.name}")
        if whole == value:
            raise refused
        try:
            leaves = self._leaves.read(whole)
        except Rejected:
            raise refused from None
        click = self._click(leaves)
        if click is not None and any(REPLACEMENT in (click[place] or "") for place in _IDS):
            if click[_EVENT_TYPE] is None:
                return None
            raise refused
        return click

    def _click(self, leaves: Leaves) -> tuple[Any, ...] | None:
        rule = self._rule_of(leaves)
        if rule is None:
            self._refuse_unknown(leaves)
            return None
        if rule.dropped and not rule.tells_dwell:
            return None
        shape = rule.shape_of(leaves)
        if self._declines(shape.consent, leaves):
            return None
        click: list[Any] = [None] * len(CLICK_FIELDS)
        try:
            try:
                for field in shape.fields:
                    click[field.place] = field.first(leaves)
            except BadValueError:
                for field in rule.fields:
                    click[field.place] = field.read(leaves)
        except BadValueError as error:
            if rule.tells_dwell:
                return None
            raise self._broken(str(error), field.name) from None
        if shape.bot is not None and shape.bot.read(leaves):
            click[_USER_AGENT] = CALLED_A_BOT
        if rule.extras:
            click[_PROPERTIES] = {own_name(field.name): field.read(leaves) for field in rule.extras}
        return tuple(click)

    def _refuse_unknown(self, leaves: Leaves) -> None:
        """No rule knows this event. Raises Rejected, unless one of them finds that consent is refused."""
        for rule in self._rules:
            if self._declines(rule.consent, leaves):
                return
        raise self._broken("unknown_event", "event_type")

    def _declines(self, consent: _Field | None, leaves: Leaves) -> bool:
        if consent is None:
            return False
        try:
            return consent.read(leaves) is False
        except BadValueError as error:
            raise self._broken(str(error), "consent") from None

    def _broken(self, rule: str, field: str) -> Rejected:
        return Rejected("validate", f"{rule}:{field}:{self.name}")

    def _rule_of(self, leaves: Leaves) -> _Rule | None:
        """The first rule whose conditions hold, remembered by what they can tell apart."""
        key = tuple([asked.tell(leaves) for asked in self._asked])
        rule: _Rule | None = self._known.get(key, _UNSEEN)
        if rule is _UNSEEN:
            if len(self._known) >= _RULES_KEPT:
                self._known.clear()
            rule = self._known[key] = self._first_that_holds(leaves)
        return rule

    def _first_that_holds(self, leaves: Leaves) -> _Rule | None:
        for rule in self._rules:
            if rule.holds(leaves):
                return rule
        return None


def _shape_number(leaves: Leaves) -> int:
    """The bits of the leaves that hold neither None nor an empty text, as far as that is seen at once."""
    number, bit = 0, 1
    for values in leaves:
        for value in values:
            if value is not None and value is not _NO_TEXT:
                number |= bit
            bit <<= 1
    return number


def _paths_of(spec: MappingSpec, extras: Sequence[str]) -> list[Path]:
    paths = [condition.path for rule in spec.events for condition in rule.when]
    for rule in spec.events:
        of_extras = [extra_sources(rule, name) for name in extras]
        for sources in (rule.type, *rule.fields.values(), *of_extras):
            paths += [source.path for source in sources if source.path]
    return paths


def _conversion(field: str, source: Source) -> Convert:
    """From what stands in a record to what the field takes; None counts as missing."""
    is_extra = field in CAMPAIGN or field.startswith(PROPERTY)
    last = _scalar if is_extra else _FINAL.get(field) or _duration_in(source.unit or "ms", field)
    steps: list[Convert] = []
    if source.parameters:
        steps.append(_first_parameter(source.parameters))
    if source.values is not None:
        steps.append(_mapped(source.values, source.otherwise))
    if not steps:
        return last

    def convert(value: Any) -> Any:
        for step in steps:
            value = step(value)
            if value is None or value == "":
                return None
        return last(value)

    return convert


def _texts(field: str, source: Source) -> dict[str, Any] | None:
    """What the values of a map come to; None where only the way from a value to the field knows that."""
    if source.values is None or source.otherwise is not None:
        return None
    convert = _conversion(field, source)
    try:
        return {text: convert(text) for text in source.values}
    except BadValueError:
        return None


def _first_parameter(names: Sequence[str]) -> Convert:
    first = FirstParameter(names)
    # Not its method: Cython makes a call with too few arguments of that, which GCC refuses from 14 on.
    return lambda url: first.of(url)


def _mapped(values: Mapping[str, Any], otherwise: Any) -> Convert:
    return lambda value: values.get(as_text(value), value if otherwise is None else otherwise)


def _strict_text(value: Any) -> str:
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    raise BadValueError("wrong_type")


def _text(value: Any) -> str | None:
    if type(value) is str:
        return value
    return str(value) if type(value) is int else None


def _scalar(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else None


def _number(value: Any) -> int | float | None:
    """A number, or a text that is one, as exports write large ones."""
    if type(value) is int:
        return value
    if type(value) is str and len(value) <= _MAX_DIGITS:
        try:
            return int(value)
        except ValueError:
            pass
        try:
            value = float(value)
        except ValueError:
            return None
    return value if type(value) is float and isfinite(value) else None


def _price(value: Any) -> float | None:
    number = _number(value)
    try:
        return None if number is None else float(number)
    except OverflowError:
        return None


def _consent(value: Any) -> bool | None:
    if isinstance(value, str | int | float):
        return not says_no(value)
    raise BadValueError("wrong_type")


def _bot(value: Any) -> bool | None:
    return value is True or as_text(value).strip().lower() in _YES


def _in_ms(number: float, unit: str) -> int:
    if abs(number) > _MOST:
        raise BadValueError("out_of_range")
    divisor = _DIVISORS.get(unit)
    return round(number * _FACTORS[unit]) if divisor is None else int(number // divisor)


def _duration_in(unit: str, field: str) -> Convert:
    if field == "dwell_ms":

        def dwell(value: Any) -> int | None:
            number = _number(value)
            return None if number is None or abs(number) > _MOST else _in_ms(number, unit)

        return dwell
    if unit in ("iso8601", "iso8601_utc"):
        return _iso8601_utc if unit == "iso8601_utc" else _iso8601

    def at(value: Any) -> int:
        number = _number(value)
        if number is None:
            raise BadValueError("invalid_time" if type(value) is str else "wrong_type")
        return _in_ms(number, unit)

    return at


def _iso8601(value: Any) -> int:
    at = _parsed(value)
    if at.tzinfo is None:
        raise BadValueError("missing_offset")
    return _whole_ms(at)


def _iso8601_utc(value: Any) -> int:
    return _whole_ms(_parsed(value))


def _whole_ms(at: dt.datetime) -> int:
    """In ms UTC, which is the zone where none is given."""
    if at.tzinfo is not None and at.tzinfo is not _UTC:
        return (at - _EPOCH) // _ONE_MS
    days = at.toordinal() - _EPOCH_DAY
    seconds = at.hour * 3600 + at.minute * 60 + at.second
    return days * 86_400_000 + seconds * 1000 + at.microsecond // 1000


def _parsed(value: Any) -> dt.datetime:
    if type(value) is not str:
        raise BadValueError("wrong_type")
    try:
        return _from_iso_format(value)
    except ValueError:
        raise BadValueError("invalid_time") from None


_FINAL: dict[str, Convert] = {
    **dict.fromkeys(TEXTS, _text),
    **dict.fromkeys(("visitor_id", "event_id", "user_id", "event_type"), _strict_text),
    "price": _price,
    "consent": _consent,
    "bot": _bot,
}
