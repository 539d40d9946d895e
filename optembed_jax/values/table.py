"""A hash table of texts in NumPy arrays: many texts, or the few of one row, found in constant time.

Why not what is there: `pyarrow.compute.index_in` hashes the whole value set at every call; a Python
dict of two million texts takes a second to build and some hundred bytes for each; pandas and polars
are large, and whoever serves with NumPy alone has neither. Found means found: where hashes are
equal the bytes are compared.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from optembed_jax.errors import InputError

_PAD = 8  # bytes behind the last text, so that eight can be read at any place
_ODD = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93)
_AT_ONCE = 2**14  # texts: what is made of them stays in the cache
_LONGEST_BUCKET = 64  # of an honest hash of 2**31 texts: about 13
_NARROW = 22  # bits of a text's number up to which 32 hold it with ten bits of its hash


@dataclasses.dataclass(frozen=True, eq=False)
class Texts:
    """``N`` texts, one after the other.

    Attributes:
      data: uint8, their UTF-8 bytes, and at least eight bytes more.
      starts: int64 or int32 ``[N + 1]``, where each begins, and where the last one ends.
    """

    data: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Bytes of each text."""
        return self.starts[1:] - self.starts[:-1]

    @property
    def words(self) -> np.ndarray:
        """The eight bytes from each place on as one number, uint64, without a copy."""
        return np.ndarray((max(len(self.data) - 7, 0),), "<u8", self.data, strides=(1,))

    def strings(self, rows: np.ndarray) -> list[str]:
        """Some of the texts, by their numbers, integers ``[M]``."""
        data, starts = self.data, self.starts
        begin, end = starts[rows].tolist(), starts[rows + 1].tolist()
        return [data[a:b].tobytes().decode() for a, b in zip(begin, end, strict=True)]

    def take(self, rows: np.ndarray) -> "Texts":
        """Some of the texts, by their numbers, int64 ``[M]``, one after the other."""
        lengths = self.lengths[rows]
        starts = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=starts[1:])
        source = np.repeat(self.starts[rows] - starts[:-1], lengths) + np.arange(starts[-1])
        return Texts(padded(self.data[source]), starts.astype(self.starts.dtype))


def texts_of(values: list[str]) -> Texts:
    """Texts of Python strings.

    Raises:
      InputError: one of them has no UTF-8 form.
    """
    return texts_of_all([values])


def texts_of_all(lists: Sequence[list[str]]) -> Texts:
    """Texts of several lists of Python strings, one list after the other.

    Raises:
      InputError: one of them has no UTF-8 form.
    """
    separated = "\0".join(["\0".join(values) for values in lists if values])
    count = sum(map(len, lists))
    try:
        data = separated.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"a value is no text: {error}") from error
    starts = np.zeros(count + 1, np.int64)
    # One search for what stands between them, where asking each for its length takes as long as
    # all the rest.
    between = np.flatnonzero(np.frombuffer(data, np.uint8) == 0)
    if len(between) == count - 1:
        data = data.translate(None, b"\0")
        starts[1:-1] = between - np.arange(len(between))
        starts[-1] = len(data)
    else:  # There are none, or one holds the separator.
        encoded = [value.encode() for values in lists for value in values]
        data = b"".join(encoded)
        np.cumsum(np.fromiter(map(len, encoded), np.int64, count), out=starts[1:])
    return Texts(np.frombuffer(data + bytes(_PAD), np.uint8), starts)


def joined(parts: Sequence[Texts]) -> Texts:
    """Several of `Texts` as one."""
    begins = [int(part.starts[0]) for part in parts]
    ends = [int(part.starts[-1]) for part in parts]
    total = np.cumsum([0, *(end - begin for begin, end in zip(begins, ends, strict=True))])
    kind = np.int32 if total[-1] < 2**31 else np.int64
    starts = [
        (part.starts[:-1] + (place - begin)).astype(kind)
        for part, begin, place in zip(parts, begins, total.tolist(), strict=False)
    ]
    data = [part.data[a:b] for part, a, b in zip(parts, begins, ends, strict=True)]
    return Texts(
        np.concatenate([*data, np.zeros(_PAD, np.uint8)]),
        np.concatenate([*starts, total[-1:].astype(kind)]),
    )


def padded(data: np.ndarray) -> np.ndarray:
    """Bytes with what `Texts` wants behind them."""
    return np.concatenate([data, np.zeros(_PAD, np.uint8)])


class TextTable:
    """Where each text of each field is among the texts of its field.

    The numbers of the texts in the order of their hashes, each behind the bits of its hash that
    come next, and for each value of a hash's highest bits the place where those that begin so are.
    A key takes four bytes up to some millions of texts: what a server holds of a value is little
    more than its text, and keys of eight bytes would be half of that again.

    Attributes:
      texts: of all fields, in their order.
      first: int64 ``[F + 1]``, the number of each field's first text, and of all.
    """

    def __init__(self, texts: Texts, first: np.ndarray) -> None:
        """Builds the table.

        Raises:
          InputError: a field has a text twice, or texts are made to have one hash.
        """
        self.texts, self.first = texts, np.asarray(first, np.int64)
        count = len(texts)
        bits = max(count.bit_length(), 1)
        # One bit less: half as many buckets, and with twice as many texts in each hardly slower.
        of_bucket = max(bits - 1, 1)
        low, self._shift = np.uint64((1 << bits) - 1), np.uint64(64 - of_bucket)
        keys = np.arange(count, dtype=np.uint64)
        for start, part in _parts(texts):
            hashes = _hashes(part, self._fields_of(start, start + len(part)), *_read(part))
            hashes &= ~low
            keys[start : start + len(part)] |= hashes
        keys.sort()
        self._buckets = np.zeros((1 << of_bucket) + 1, np.int32)
        for start in range(0, count, _AT_ONCE):
            own = (keys[start : start + _AT_ONCE] >> self._shift).astype(np.int64) + 1
            of_part = np.bincount(own - own[0])  # They are sorted.
            self._buckets[own[0] : own[0] + len(of_part)] += of_part
        longest = int(np.max(self._buckets))
        np.cumsum(self._buckets, out=self._buckets)
        if longest > _LONGEST_BUCKET:
            raise InputError(f"{longest} of the texts have one hash, as no honest ones have")
        self._check_distinct(keys, low)
        self._bits, self._is_narrow = np.uint64(bits), bits <= _NARROW
        self._of_bucket = np.uint64(of_bucket)
        self._low: Any = np.uint32(low) if self._is_narrow else low
        self._keys = keys
        if self._is_narrow:
            self._keys = np.empty(count, np.uint32)
            for start in range(0, count, _AT_ONCE):
                wide = keys[start : start + _AT_ONCE]
                self._keys[start : start + _AT_ONCE] = self._of_key(wide) | (wide & low)

    def _of_key(self, hashes: np.ndarray) -> np.ndarray:
        """What of hashes stands in keys, uint32 or uint64 ``[N]``, with zeros for the number."""
        if not self._is_narrow:
            above: np.ndarray = hashes & ~self._low
            return above
        # The highest bits are the bucket's.
        rest = (hashes << self._of_bucket) >> (np.uint64(32) + self._bits) << self._bits
        return rest.astype(np.uint32)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        arrays = (self.texts.data, self.texts.starts, self._keys, self._buckets)
        return sum(array.nbytes for array in arrays)

    def find(self, texts: Texts, field: np.ndarray) -> np.ndarray:
        """The place of each text among those of its field, int64 ``[N]``, -1 where it has none.

        Args:
          texts: ``N`` of them.
          field: the number of each one's field, int64 ``[N]``.
        """
        found = np.empty(len(texts), np.int64)
        for start, part in _parts(texts):
            end = start + len(part)
            found[start:end] = self._find(part, np.asarray(field[start:end]))
        return found

    def _find(self, texts: Texts, field: np.ndarray) -> np.ndarray:
        starts, lengths, words = texts.starts[:-1], texts.lengths, texts.words
        hashes = _hashes(texts, field, words, starts, lengths)
        bucket = (hashes >> self._shift).astype(np.int64)
        place = self._buckets.take(bucket)
        bucket += 1
        counts = self._buckets.take(bucket)
        counts -= place
        # All that stand where a text would, after those of the text before it.
        behind = np.cumsum(counts)
        rows = np.repeat(np.arange(len(texts)), counts)
        place -= behind - counts
        key = self._keys.take(np.repeat(place, counts) + np.arange(len(rows)))
        likely = np.flatnonzero((key ^ self._of_key(hashes).take(rows)) <= self._low)
        rows, candidate = rows.take(likely), (key.take(likely) & self._low).astype(np.int64)
        low, high = self.first.take(field), self.first.take(field + 1)
        same = self._are(candidate, words, starts.take(rows), lengths.take(rows))
        same &= (candidate >= low.take(rows)) & (candidate < high.take(rows))
        rows, candidate = rows[same], candidate[same]
        found = np.full(len(texts), -1, np.int64)
        found[rows] = candidate - low.take(rows)
        return found

    def _fields_of(self, begin: int, end: int) -> np.ndarray:
        """The fields of some texts, int64 ``[end - begin]``."""
        return np.searchsorted(self.first, np.arange(begin, end), side="right") - 1

    def _are(
        self, candidate: np.ndarray, words: np.ndarray, starts: np.ndarray, lengths: np.ndarray
    ) -> np.ndarray:
        """Whether texts of this table are those that stand at these places, bool ``[N]``."""
        begin = self.texts.starts.take(candidate)
        same = self.texts.starts.take(candidate + 1) - begin == lengths
        own = self.texts.words
        rows: Any = slice(None)
        for offset in range(0, int(lengths.max(initial=0)), 8):
            if offset == 8:
                rows = np.flatnonzero(same & (lengths > offset))
            elif offset:  # fewer at every step: one long text is no work for the others
                rows = rows[same[rows] & (lengths[rows] > offset)]
            if offset and not len(rows):
                break
            differ = words[starts[rows] + offset] ^ own[begin[rows] + offset]
            differ &= _mask(lengths[rows] - offset)
            same[rows] &= differ == 0
        return same

    def _check_distinct(self, keys: np.ndarray, low: np.uint64) -> None:
        """Refuses a text that a field has twice.

        Args:
          keys: sorted, uint64 ``[N]``, the bits of hashes above those of the texts' numbers.
          low: those of the numbers.
        """
        equal = np.concatenate(
            [
                start + np.flatnonzero((part[1:] ^ part[:-1]) <= low)
                for start in range(0, max(len(keys) - 1, 1), _AT_ONCE)
                for part in [keys[start : start + _AT_ONCE + 1]]
            ]
        )
        seen = set()
        for number in np.unique(np.concatenate([equal, equal + 1])).tolist():
            value = int(keys[number] & low)
            start, end = self.texts.starts[value : value + 2].tolist()
            key = (int(self._fields_of(value, value + 1)[0]), self.texts.data[start:end].tobytes())
            if key in seen:
                raise InputError(f"field {key[0]} has the value {key[1][:60]!r} twice")
            seen.add(key)


def _parts(texts: Texts) -> Iterator[tuple[int, Texts]]:
    """Some of the texts at a time, and the number of the first of them."""
    for start in range(0, len(texts), _AT_ONCE):
        yield start, Texts(texts.data, texts.starts[start : start + _AT_ONCE + 1])


def _read(texts: Texts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is read of texts: eight bytes at each place, where each text begins, its bytes."""
    return texts.words, texts.starts[:-1], texts.lengths


def _hashes(
    texts: Texts, field: np.ndarray, words: np.ndarray, starts: np.ndarray, lengths: np.ndarray
) -> np.ndarray:
    """A hash of each text and its field, uint64 ``[N]``."""
    result = np.asarray(field).astype(np.uint64)
    result *= np.uint64(_ODD[0])
    result += lengths.astype(np.uint64)
    longest = int(lengths.max(initial=0))
    rows: Any = slice(None)
    for offset in range(0, max(longest, 1), 8):  # an empty text has a first word too
        if offset == 0:
            left = lengths
            word = words[starts]
        else:
            # Fewer at every step: one long text is no work for the others.
            rows = np.flatnonzero(lengths > offset) if offset == 8 else rows[left > 8]
            left = lengths[rows] - offset
            word = words[starts[rows] + offset]
        word &= _mask(left)
        mixed = result[rows] ^ word
        mixed *= np.uint64(_ODD[1])
        mixed ^= mixed >> np.uint64(32)
        result[rows] = mixed
    result *= np.uint64(_ODD[2])
    result ^= result >> np.uint64(29)
    result *= np.uint64(_ODD[0])
    return result


_MASKS = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)


def _mask(left: np.ndarray) -> np.ndarray:
    """The bits of a word that belong to a text of which so many bytes are left."""
    return _MASKS.take(left, mode="clip")
