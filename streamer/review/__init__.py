"""The review of a taxonomy by people: a page that changes it before it is distilled."""
