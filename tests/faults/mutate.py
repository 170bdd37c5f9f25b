"""Damage to files, the kinds that disks, networks, broken programs and attackers do. A seed makes the same again."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Damage = Callable[[bytes, random.Random, bytes], bytes]

# Sizes that lie: nothing, one too many for a signed or unsigned word, and the largest there are.
_LIES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)

# The part of a file in which most of its structure stands.
_HEAD = 512


def flip_bits(data: bytes, dice: random.Random, donor: bytes) -> bytes:
    """One to sixteen bits the other way round, most of them where the structure is."""
    changed = bytearray(data)
    for _ in range(2 ** dice.randrange(5)):
        changed[_place(len(data), dice)] ^= 1 << dice.randrange(8)
    return bytes(changed)


def cut(data: bytes, dice: random.Random, donor: bytes) -> bytes:
    """What a broken download leaves."""
    return data[: _place(len(data), dice)]


def lie(data: bytes, dice: random.Random, donor: bytes) -> bytes:
    """A number of one to eight bytes that says something extreme, in either byte order."""
    width = dice.choice((1, 2, 4, 4, 8))
    value = dice.choice(_LIES) & (1 << 8 * width) - 1
    place = _place(len(data), dice)
    return _overwrite(data, place, value.to_bytes(width, dice.choice(("big", "little"))))


def splice_header(data: bytes, dice: random.Random, donor: bytes) -> bytes:
    """The beginning of another file, the rest of this."""
    length = dice.choice((4, 8, 16, 32, 64, 128, 512))
    return donor[:length] + data[length:]


def splice_middle(data: bytes, dice: random.Random, donor: bytes) -> bytes:
    """A piece of another file in the midst of this one."""
    start, length = dice.randrange(len(donor)), 2 ** dice.randrange(3, 12)
    return _overwrite(data, _place(len(data), dice), donor[start : start + length])


def repeat(data: bytes, dice: random.Random, donor: bytes) -> bytes:
    """A piece twice."""
    start = _place(len(data), dice)
    end = min(len(data), start + 2 ** dice.randrange(2, 12))
    return data[:end] + data[start:end] + data[end:]


def leave_out(data: bytes, dice: random.Random, donor: bytes) -> bytes:
    """A piece missing."""
    start = _place(len(data), dice)
    return data[:start] + data[start + 2 ** dice.randrange(12) :]


def blank(data: bytes, dice: random.Random, donor: bytes) -> bytes:
    """A sector of one byte, as disks leave them."""
    start, length = _place(len(data), dice), 2 ** dice.randrange(2, 13)
    return _overwrite(data, start, bytes([dice.choice((0, 0xFF, 0x20, 0x80))]) * length)


def append(data: bytes, dice: random.Random, donor: bytes) -> bytes:
    """Something behind the end."""
    return data + donor[: 2 ** dice.randrange(12)]


DAMAGES: tuple[Damage, ...] = (
    flip_bits, flip_bits, cut, lie, lie, splice_header, splice_middle, repeat, leave_out, blank, append,
)  # fmt: skip


def damaged(data: bytes, seed: str, donors: Sequence[bytes]) -> tuple[str, bytes]:
    """A file damaged in one to three ways that a seed decides, and what they are called."""
    dice = random.Random(seed)
    names = []
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        damage = dice.choice(DAMAGES)
        donor = dice.choice(donors)
        if data and donor:
            data = damage(data, dice, donor)
            names.append(damage.__name__)
    return "+".join(names), data


def _place(length: int, dice: random.Random) -> int:
    """Half the time in the head, half the time anywhere."""
    return dice.randrange(min(length, _HEAD) if dice.random() < 0.5 else length)


def _overwrite(data: bytes, place: int, piece: bytes) -> bytes:
    return data[:place] + piece[: len(data) - place] + data[place + len(piece) :]
