"""State as MessagePack, for a changelog or a checkpoint: a class of state is an array, its `to_row`."""

from __future__ import annotations

from collections.abc import Sequence
from operator import methodcaller
from typing import Any, Protocol, Self, TypeVar

import msgspec

T = TypeVar("T")


class Stored(Protocol):
    """State that is an array where it is stored."""

    def to_row(self) -> Sequence[Any]: ...

    @classmethod
    def from_row(cls, row: object) -> Self:
        """Raises msgspec.ValidationError or TypeError for what `to_row` never gave, now or in the past."""


def _from_row(kind: type[Stored], row: object) -> Stored:
    return kind.from_row(row)


encode_state = msgspec.msgpack.Encoder(enc_hook=methodcaller("to_row")).encode


def state_decoder(type: type[T]) -> msgspec.msgpack.Decoder[T]:
    """Of a type that may have such state in it. Decoding raises msgspec.MsgspecError for damaged bytes."""
    return msgspec.msgpack.Decoder(type, dec_hook=_from_row)
