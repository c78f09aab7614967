"""Words in any script: runs of letters and digits, or single characters where a script writes no spaces."""

from __future__ import annotations

import unicodedata

import regex

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー"
# A joiner (Persian, Indic scripts) and a combining mark stay with their letter; "_" and "'" separate.
_WORD = regex.compile(
    rf"(?V1)[{_UNSPACED}&&[\p{{L}}\p{{N}}]]\p{{M}}*|[[\p{{L}}\p{{N}}\p{{M}}\u200c\u200d]--[{_UNSPACED}]]+"
)


def words(text: str) -> list[str]:
    """Case-folded words; Chinese, Japanese, Thai, Lao, Khmer and Burmese give one item a character."""
    return list(_WORD.findall(unicodedata.normalize("NFC", text).casefold()))
