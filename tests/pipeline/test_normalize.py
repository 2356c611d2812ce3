from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.pipeline.normalize import (
    MAX_REMEMBERED,
    Memo,
    cut,
    host_of,
    label,
    numbered_path_of,
    path_of,
    plain_path_of,
    search_query,
)
from streamer.pipeline.scrub import without_invisible


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://www.bank.example/loans/mortgage/rates", "/loans/mortgage/rates"),
        ("https://www.bank.example/Loans/?a=1#b", "/loans"),
        ("https://www.bank.example", "/"),
        ("https://www.bank.example?a=1", "/"),
        ("https://jo:secret@www.bank.example:8443/a", "/a"),
        ("//www.bank.example/a", "/a"),
        ("www.bank.example/a", "/a"),
        ("/a/b/c/d/e", "/a/b/c"),
        ("a/b", "/a/b"),
        ("/", "/"),
        ("/a//b/", "/a/b"),
        ("/./a/../b", "/a/b"),
        ("\\\\www.bank.example\\a\\b", "/a/b"),
        ("/home%20loans", "/home-loans"),
        ("/home+loans", "/home-loans"),
        ("/a%2Fb/c", "/a-b/c"),
        ("/pr%C3%AAts", "/prêts"),
        ("/a;jsessionid=8A7F/b;x", "/a/b"),
        ("app://screen/loans", "/loans"),
        ("file:///C:/a", "/c:/a"),
        ("", None),
        ("  ", None),
        ("?a=1", None),
        ("#a", None),
        ("mailto:jo@mail.example", None),
        ("javascript:alert(1)", None),
        ("about:blank", None),
        ("data:text/html,<script>", None),
    ],
)
def test_a_path_is_three_segments_in_lower_case(url: str, path: str | None) -> None:
    assert path_of(url) == path


@pytest.mark.parametrize(
    ("segment", "made"),
    [
        ("12345", ":id"),
        ("2024", ":id"),
        ("article-12345", "article-:id"),
        ("12345-fixed-rate.html", ":id-fixed-rate.html"),
        ("550e8400-e29b-41d4-a716-446655440000", ":id"),
        ("550E8400-E29B-41D4-A716-446655440000", ":id"),
        ("5d41402abc4b2a76b9719d911017c592", ":id"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0", ":id"),
        ("ab12-cd34-ef56", ":id"),
        ("ab123456", ":id"),
        ("2024-01-31", ":id"),
        ("x" * 40, ":id"),
        ("x" * 5000, ":id"),
        ("step-2", "step-2"),
        ("401k", "401k"),
        ("404", "404"),
        ("iphone15", "iphone15"),
        ("baufinanzierungsrechner", "baufinanzierungsrechner"),
        ("how-to-open-a-savings-account-for-your-child", "how-to-open-a-savings-account-for-your-child"),
    ],
)
def test_an_id_or_token_is_no_word(segment: str, made: str) -> None:
    assert path_of(f"/x/{segment}/y") == f"/x/{made}/y"


@pytest.mark.parametrize(
    ("segment", "made"),
    [
        ("jo@mail.example", ":email"),
        ("jo%40mail.example", ":email"),
        ("jo%2540mail.example", ":email"),
        ("jo%252540mail.example", ":email"),
        ("reset-for-jo@mail.example-now", ":email"),
        ("4111-1111-1111-1111", ":card"),
        ("4111%201111%201111%201111", ":card"),
        ("4111+1111+1111+1111", ":card"),
        ("%34111111111111111", ":card"),
        ("DE89370400440532013000", ":iban"),
        ("12345678", ":account"),
        ("tel-555-123-4567", ":phone"),
        ("123-45-6789", ":ssn"),
    ],
)
def test_a_segment_with_personal_data_becomes_its_placeholder(segment: str, made: str) -> None:
    assert path_of(f"/x/{segment}/y") == f"/x/{made}/y"


@pytest.mark.parametrize(
    "url", ["https://[::1", "http://[", "//", "///", ":", "::", "%", "/%", "/%zz", "/%ff%fe", "/\0"]
)
def test_a_broken_address_has_some_path_or_none(url: str) -> None:
    path = path_of(url)
    assert path is None or path.startswith("/")


@pytest.mark.parametrize(
    ("referrer", "host"),
    [
        ("https://www.Search.example/?q=jo@mail.example", "www.search.example"),
        ("https://jo:secret@search.example:443/x", "search.example"),
        ("search.example", "search.example"),
        ("search.example/x", "search.example"),
        ("android-app://com.mail.example/", "com.mail.example"),
        ("http://[::1]:80/", "[::1]"),
        ("/loans", None),
        ("direct", None),
        ("about:blank", None),
        ("jo@mail.example", None),
        ("", None),
    ],
)
def test_of_a_referrer_only_the_host_is_kept(referrer: str, host: str | None) -> None:
    assert host_of(referrer) == host


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("  Fixed \t Rate ", "fixed rate"),
        ("STRASSE straße", "strasse strasse"),
        ("ｆｉｘｅｄ　ｒａｔｅ", "fixed rate"),
        ("rate\0\x1b[31m\u202e", "rate[31m"),
        ("card 4111 1111 1111 1111", "card :card"),
        ("４１１１ １１１１ １１１１ １１１１", ":card"),
        (" ", None),
        ("\0", None),
    ],
)
def test_a_query_is_folded_and_scrubbed(typed: str, kept: str | None) -> None:
    assert search_query(typed) == kept


@pytest.mark.parametrize("hidden", ["\u00ad", "\u200b", "\u200c", "\u2060", "\ufeff", "\x01"])
def test_a_word_with_something_invisible_inside_is_the_word(hidden: str) -> None:
    assert search_query(f"mort{hidden}gage rates") == "mortgage rates"
    assert label(f"Compare{hidden} Rates") == "Compare Rates"
    assert search_query(f"write to erika.muster{hidden}frau@mail.example") == "write to :email"
    assert path_of(f"/erika.muster{hidden}frau@mail.example") == "/:email"
    assert host_of(f"https://bank{hidden}.example/") == "bank.example"


@given(st.sampled_from("eni ٤4@.-"), st.text(max_size=30))
def test_nothing_invisible_is_kept(letter: str, text: str) -> None:
    kept = search_query(text + letter) or ""
    assert kept.isprintable()
    assert without_invisible(kept) == kept


def test_a_label_keeps_its_case() -> None:
    assert label(" Compare\nRates ") == "Compare Rates"


@pytest.mark.parametrize("length", range(180, 330, 5))
@pytest.mark.parametrize("number", ["4111 1111 1111 1111", "jo.from.the.bank@mail.example"])
def test_text_too_long_to_be_looked_at_leaves_no_half_of_a_number(length: int, number: str) -> None:
    """Everything before shrinks to a few placeholders, so the end would be kept if it weren't dropped."""
    personal = "a" * 59 + "@b "
    text = (personal * 20)[:length].rpartition(" ")[0] + " " + number + " tail" * 200
    kept = search_query(text) or ""
    assert "4111" not in kept
    assert "jo" not in kept


@given(st.text(max_size=100), st.integers(4, 64))
def test_cut_splits_no_character(text: str, max_bytes: int) -> None:
    kept = cut(text, max_bytes)
    assert text.startswith(kept)
    assert len(kept.encode()) <= max_bytes
    assert kept == text or len(text[: len(kept) + 1].rstrip().encode()) > max_bytes or kept == kept.rstrip()


@settings(max_examples=500, deadline=None)
@given(st.text(st.sampled_from("aZ09 /%4é@:;?#.\\+-_\0ﷺ"), max_size=60))
def test_what_is_canonical_stays_as_it_is(text: str) -> None:
    for make in (search_query, label):
        made = make(text)
        assert made is None or make(made) == made


def test_a_memo_gives_what_the_function_gives() -> None:
    memo = Memo(search_query, 4, None)
    for text in ["A", "b", " ", "A", "jo@mail.example", "c", "d", "e", "A", "x" * 999, "x" * 999]:
        assert memo.of(text) == search_query(text)
        assert memo.of(None) is None
    assert memo.known["A"] == "a"


def test_a_memo_remembers_equal_results_as_one_object() -> None:
    memo = Memo(label, 4, None)
    first, again = "".join(["me", "nu"]), "".join(["men", "u"])
    assert memo.of(first) is memo.of(again)


def test_a_memo_is_bounded_in_number_and_length() -> None:
    memo = Memo(label, 10, None)
    for number in range(100):
        memo.of(f"a{number}")
        memo.of("x" * (MAX_REMEMBERED + 1 + number))
        assert len(memo.known) <= 11
        assert len(memo._by_hash) <= 10
    assert all(text is None or len(text) <= MAX_REMEMBERED for text in memo.known)


@pytest.mark.parametrize(
    "text", ["jo@mail.example", "/u/jo%40mail.example", "4111+1111+1111+1111", "/x/12345678"]
)
def test_a_memo_knows_what_is_personal_by_its_hash_alone(text: str) -> None:
    made: list[str] = []

    def make(url: str) -> str | None:
        made.append(url)
        return path_of(url)

    memo = Memo(make, 10, None)
    assert memo.of(text) == memo.of(text) == path_of(text)
    assert made == [text]
    assert text not in repr([memo.known, memo._by_hash])


ADDRESS_PARTS = st.sampled_from(
    [
        *("https://a.example", "http://a-b.example:80", "//", "/", ":", ".", " ", "-"),
        *("/loans", "/Loans", "/12", "/1234", "/12345678", "/a-b", "/%41", "//b"),
        "/" + "x" * 33,
    ]
)


@settings(max_examples=2000)
@given(st.lists(ADDRESS_PARTS, max_size=7).map("".join))
def test_the_quick_way_to_a_path_gives_the_same_or_nothing(url: str) -> None:
    quick = plain_path_of(url)
    assert quick is None or quick == path_of(url)


def test_the_quick_way_knows_the_usual_addresses() -> None:
    assert plain_path_of("https://shop.example.com/search/123456") == "/search/:id"
    assert plain_path_of("https://bank.example/loans/mortgage/rates/7") == "/loans/mortgage/rates"
    assert plain_path_of("/help/12") == "/help/12"


@given(
    st.text("ab-/.:\\0195 ", max_size=12)
    | st.from_regex(r"(https?://[a-z.]{1,4})?(/[a-z-]{1,3}){1,4}/?", fullmatch=True),
    st.from_regex(r"[0-9]{4,7}", fullmatch=True),
)
def test_what_is_known_of_an_address_holds_for_every_number_behind_it(address: str, number: str) -> None:
    path = numbered_path_of(address)
    assert path is None or path == path_of(f"{address}/{number}")


def test_usual_addresses_are_known_for_every_number() -> None:
    assert numbered_path_of("https://shop.example.com/search") == "/search/:id"
    assert numbered_path_of("https://bank.example/loans/mortgage/rates") == "/loans/mortgage/rates"
