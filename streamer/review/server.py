"""Running the review of a taxonomy: from a work folder to its end."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable

from nicegui import ui

from streamer.review.draft import Review
from streamer.review.page import ReviewPage
from streamer.settings import UiSettings
from streamer.ui.frame import bare_frame
from streamer.ui.server import check_exposure, serve_pages


async def run_review(own: UiSettings, load: Callable[[], Review], say: Callable[[str], None]) -> None:
    """Show the page until SIGTERM or SIGINT. `say` gets its link. Raises StreamerError, and what `load`
    does, which may take minutes."""
    check_exposure(own)
    review = await asyncio.to_thread(load)

    @ui.page("/")
    def page() -> None:
        with bare_frame("Taxonomy", lambda: ""):
            ReviewPage(review, own.show_queries)

    # NiceGUI asks every object of the process what it is, and one of torch's warns when it is asked.
    warnings.filterwarnings("ignore", "`torch.distributed.reduce_op`", FutureWarning)
    await serve_pages(own, "review of the taxonomy", say)
