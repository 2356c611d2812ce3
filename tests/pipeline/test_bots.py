from __future__ import annotations

import subprocess
import sys

import pytest
from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from crawleruseragents import is_crawler as in_list
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.pipeline.bots import KEPT_ANSWERS, MAX_USER_AGENT, _matches, is_crawler


@pytest.mark.parametrize(
    "user_agent",
    [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.0; +https://openai.com/gptbot)",
        "facebookexternalhit/1.1",
        "curl/8.5.0",
        "python-requests/2.32.3",
    ],
)
def test_a_known_crawler_is_one(user_agent: str) -> None:
    assert is_crawler(user_agent)


def test_the_list_s_own_examples_are_known_as_the_list_knows_them() -> None:
    examples = [agent for entry in CRAWLER_USER_AGENTS_DATA for agent in entry["instances"]]
    assert len(examples) > 1000
    assert [agent for agent in examples if is_crawler(agent) != in_list(agent[:MAX_USER_AGENT])] == []


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CRAWLER_USER_AGENTS_DATA), st.integers(0, 30), st.integers(0, 30), st.text(max_size=3))
def test_pieces_of_patterns_are_known_as_the_list_knows_them(
    entry: dict[str, str], start: int, end: int, around: str
) -> None:
    agent = around + entry["pattern"][start : len(entry["pattern"]) - end] + around
    assert is_crawler(agent) == in_list(agent)


@pytest.mark.parametrize(
    "user_agent",
    [
        "",
        "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
        "Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile/15E148 Safari/604.1",
        "Bank/4.2 (Android 15)",
        "\0\n\u202e",
    ],
)
def test_a_browser_is_none(user_agent: str) -> None:
    assert not is_crawler(user_agent)


def test_only_the_beginning_of_a_long_user_agent_is_looked_at() -> None:
    assert is_crawler("Googlebot/2.1".ljust(100_000))
    assert not is_crawler("x" * MAX_USER_AGENT + "Googlebot/2.1")


def test_what_is_remembered_is_bounded() -> None:
    assert _matches.cache_info().maxsize == KEPT_ANSWERS


def test_the_list_is_not_read_before_it_is_needed() -> None:
    code = "import sys, streamer.pipeline.decode; sys.exit('crawleruseragents' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
