"""Where the language model is, what it may cost, and how much of the data it sees: one frozen record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class LlmConfig:
    base_url: str
    """Of an endpoint with OpenAI's chat completions, such as `https://models.example/v1`."""
    model: str
    second_model: str | None = None
    """Labels some of the sessions too, for the audit only."""
    api_key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = 600.0
    """Of one answer: a model on a few cores takes minutes for a long one."""
    retries: int = 5
    """After a time-out, a broken connection, 408, 409, 429 or 5xx; `Retry-After` is obeyed up to 120 s."""
    concurrency: int = 4
    budget_requests: int = 5000
    """Of the whole job over all runs: a job that stopped goes on with a higher budget."""
    budget_tokens: int = 5_000_000

    temperature: float = 0.7
    """Of a question that is asked several times, from the second time on; all else is asked at 0."""
    extra_body: Mapping[str, object] = field(default_factory=dict)
    """Further fields of every request, such as a switch for a model's thinking."""
    site: str = ""
    """What the website is, in its owners' words; part of every question."""

    attempts: int = 4
    """Answers to one question before it is given up: unusable ones are asked again."""
    max_tokens: int = 2000
    """Of one answer; a truncated one is asked again with twice as many, up to `most_tokens`."""

    sessions_summarized: int = 400
    sessions_per_summary: int = 10
    """Sessions in one request."""
    summaries_per_draft: int = 40
    """Size of the mini-batches that generate and update the taxonomy."""
    max_intents: int = 24
    sessions_piloted: int = 200
    """Labelled once with the draft, to drop what is rare."""
    min_share: float = 0.01
    """Of the piloted sessions; an intent with less is dropped."""
    sessions_labelled: int = 2000
    """Of the training split; a quarter as many of the validation split."""
    sessions_per_label: int = 5
    votes: int = 3
    sessions_seconded: int = 150
    """Labelled by the second model too."""

    @property
    def most_tokens(self) -> int:
        return 4 * self.max_tokens
