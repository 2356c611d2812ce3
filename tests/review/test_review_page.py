"""The review of a taxonomy in a real browser, on a folder that the training steps have made."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Page as Tab
from playwright.sync_api import expect

from streamer.models.taxonomy import Taxonomy, from_json
from streamer.settings import Settings
from tests.conftest import RunStreamer
from tests.models.hand_made import TOPICS
from tests.ui.live import (
    CHROMIUM,
    DESK,
    NO_BROWSER,
    PHONE,
    SCROLLS_ASIDE_PX,
    SOON_MS,
    Page,
    a_browser,
    serious_violations,
)

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER),
    # Playwright's driver is ended without its pipes being closed first.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


class ReviewProcess(Page):
    """`streamer model review` on a port that is free."""

    command = "model"

    def __init__(self, work: Path) -> None:
        super().__init__(Settings(), "review", "--work", str(work))


class Shown(NamedTuple):
    process: ReviewProcess
    tab: Tab
    work: Path

    @property
    def taxonomy(self) -> Taxonomy:
        """On disk."""
        return from_json((self.work / "taxonomy.json").read_bytes())

    def press(self, button: str) -> None:
        self.tab.get_by_role("button", name=button, exact=True).press("Enter")

    def choose(self, label: str) -> None:
        self.press(label)
        expect(self.tab.get_by_role("heading", name=f"Intent: {label}")).to_be_visible()


@pytest.fixture(scope="module")
def shown(labelled_work: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """One server, browser and page for all tests, which go on where the one before has ended."""
    folder = tmp_path_factory.mktemp("review")
    work = Path(shutil.copytree(labelled_work, folder / "work"))
    process = ReviewProcess(work)
    with a_browser(folder) as browser:
        context = browser.new_context(viewport=DESK, color_scheme="light")
        context.set_default_timeout(SOON_MS)
        tab = context.new_page()
        tab.goto(process.link)
        yield Shown(process, tab, work)
        process.signal(signal.SIGTERM)
        assert process.end() == 0, process.log


def test_every_intent_is_there_with_its_share_and_examples_and_nothing_that_was_typed(shown: Shown) -> None:
    for intent in shown.taxonomy.intents:
        shown.choose(intent.label)
        expect(shown.tab.locator("details li").first).to_be_visible()
        assert not any(query in shown.tab.content() for _, query in TOPICS.values())


def test_keys_suffice_to_change_measure_and_save(shown: Shown) -> None:
    tab, before = shown.tab, shown.taxonomy
    one, other = before.intents[:2]
    shown.choose(one.label)
    tab.get_by_label("Label", exact=True).fill("Homes")
    shown.press("Rename")
    expect(tab.get_by_role("heading", name="Intent: Homes")).to_be_focused()
    shown.press("Split in two")
    expect(tab.get_by_text(f"Homes ({one.id}) split into")).to_be_visible()
    shown.choose(other.label)
    shown.press("Retire")
    expect(tab.get_by_text("Left out with what is retired")).to_be_visible()
    shown.press("Undo the last")
    expect(tab.get_by_text("Left out with what is retired")).to_have_count(0)
    shown.press("Measure the accuracy")
    expect(tab.get_by_text(re.compile(r"With these changes: \d+\.\d% \(.*% to .*%\)"))).to_be_visible()
    expect(tab.get_by_text("Measure the accuracy to see")).to_have_count(0)
    assert shown.taxonomy == before
    shown.press("Save")
    expect(tab.get_by_role("alert")).to_contain_text("a name has 0 characters")
    tab.get_by_label("Your name").fill("A. Reviewer")
    shown.press("Save")
    expect(tab.get_by_role("alert")).to_contain_text("Saved as version 2")
    after = shown.taxonomy
    assert [each.by for each in after.edits] == ["A. Reviewer"]
    assert len(after.edits[0].what) == 2
    assert len(after.intents) == len(before.intents) + 1


def test_intents_are_moved_and_merged_by_what_is_chosen(shown: Shown) -> None:
    tab = shown.tab
    one, other, *_ = shown.taxonomy.intents
    shown.choose(one.label)
    tab.get_by_label("Group", exact=True).click()
    tab.get_by_role("option", name="A new group …").click()
    tab.get_by_label("Name of the new group").fill("Owning a home")
    shown.press("Move")
    expect(tab.get_by_role("button", name="Owning a home")).to_be_visible()
    tab.get_by_label("Merge into").click()
    tab.get_by_role("option", name=other.label, exact=True).click()
    shown.press("Merge")
    expect(tab.get_by_role("heading", name=f"Intent: {other.label}")).to_be_focused()
    expect(tab.get_by_role("button", name="Owning a home")).to_have_count(0)
    shown.press("Undo the last")
    expect(tab.get_by_role("button", name="Owning a home")).to_be_visible()
    tab.reload()
    expect(tab.get_by_text("moved to the new group Owning a home")).to_be_visible()


def test_what_somebody_else_has_written_is_not_overwritten(shown: Shown) -> None:
    path, intent = shown.work / "taxonomy.json", shown.taxonomy.intents[-1]
    theirs = path.read_text().replace(intent.label, "By hand")
    path.write_text(theirs)
    shown.tab.get_by_label("Your name").fill("A. Reviewer")
    shown.press("Save")
    expect(shown.tab.get_by_role("alert")).to_contain_text("changed on disk")
    assert path.read_text() == theirs
    shown.press("Read it anew")
    expect(shown.tab.get_by_role("button", name="By hand")).to_be_visible()
    expect(shown.tab.get_by_text("Nothing has been changed yet.")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(shown: Shown, scheme: str) -> None:
    shown.tab.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    assert serious_violations(shown.tab) == {}


def test_a_phone_scrolls_downwards_only(shown: Shown) -> None:
    shown.tab.set_viewport_size(PHONE)
    assert shown.tab.evaluate(SCROLLS_ASIDE_PX) <= 0


def test_nothing_was_asked_of_the_process_that_it_could_not_do(shown: Shown) -> None:
    """Neither errors nor warnings."""
    assert "Traceback" not in shown.process.log
    assert "Warning" not in shown.process.log


def test_a_folder_without_a_taxonomy_says_which_step_is_missing(
    labelled_work: Path, tmp_path: Path, run_streamer: RunStreamer
) -> None:
    shutil.copy(labelled_work / "recipe.json", tmp_path)
    shutil.copy(labelled_work / "tokenizer.json", tmp_path)
    result = run_streamer("model", "review", "--work", str(tmp_path))
    assert result.returncode == 1
    assert "run the step 'taxonomy' first" in result.stderr
