"""Tells crawlers by their user agent, after the list that the monperrus/crawler-user-agents project keeps.

A visitor who sends no user agent is not called a crawler. The patterns are compiled at the first use.
"""

from __future__ import annotations

from functools import lru_cache

MAX_USER_AGENT = 512
"""Characters looked at: crawlers that identify themselves do so well within; bounds time and memory."""
KEPT_ANSWERS = 8192
"""User agents whose answer is remembered: at most about 5 MB. A site sees some thousand different ones."""


def is_crawler(user_agent: str) -> bool:
    """Whether the user agent is that of a known crawler."""
    return _matches(user_agent[:MAX_USER_AGENT])


@lru_cache(maxsize=KEPT_ANSWERS)
def _matches(user_agent: str) -> bool:
    from crawleruseragents import is_crawler as in_list  # reads its list when imported

    return bool(user_agent) and in_list(user_agent)
