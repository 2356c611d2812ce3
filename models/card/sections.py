"""The sections of a card on what a bundle is: use, model, data, training, versions."""

from __future__ import annotations

from streamer.models.bundle import Bundle
from streamer.models.card.claims import MANIFEST, STATEMENTS, Asked, Files, claim, claims, computed, declared
from streamer.models.card.document import CardTable, Claim, Section


def use(files: Files) -> Section:
    found = (*declared(files, "intended", "for this"), *declared(files, "refused", "not for this"))
    return Section("use", "Intended and refused use", claims=found)


def model(files: Files, bundle: Bundle) -> Section:
    intents, parents = len(bundle.taxonomy.intents), len(bundle.taxonomy.parents)
    return Section(
        "model",
        "Model",
        "A session of clicks goes in. Out come a vector and, if the model is sure enough, a label with its"
        " probability. An encoder (a small Transformer) makes the vector, a classifier on it the label.",
        (
            claim(files, Asked("Name", MANIFEST, "name")),
            claim(files, Asked("Owner", STATEMENTS, "owner")),
            claim(files, Asked("Numbers in a vector", MANIFEST, "embedding_dim")),
            claim(files, Asked("Layers of the encoder", MANIFEST, "config/layers")),
            computed(
                files,
                Asked("Labels, and the groups that they are in", MANIFEST, "files/taxonomy.json"),
                lambda _: f"{intents} in {parents}",
            ),
            claim(files, Asked("Who labelled the sessions that it learnt from", MANIFEST, "teacher")),
            claim(files, Asked("Precision of its numbers", MANIFEST, "precision")),
        ),
    )


def data(files: Files) -> Section:
    found = (
        *claims(files, "data"),
        computed(files, Asked("What is read of a session", MANIFEST, "ids"), ", ".join),
        *declared(files, "consent"),
        *claims(files, "erasure"),
    )
    return Section("data", "Data and consent", claims=found)


def training(files: Files) -> Section:
    passed = "metrics/pretraining/guards/passed"
    guarded = Asked("Better than an untrained encoder, and no collapse", MANIFEST, passed)
    return Section(
        "training",
        "Training",
        "First without labels: the encoder learns to fill in what was hidden of sessions. The labels of a"
        " teacher are then distilled into a small classifier, whose probabilities are calibrated on"
        " validation visitors.",
        (
            *claims(files, "settings"),
            computed(files, guarded, lambda passed: "yes" if passed else "no"),
            *claims(files, "checks"),
        ),
        _edits(files),
    )


def _edits(files: Files) -> tuple[CardTable, ...]:
    """What people changed in the taxonomy after the teacher had made it; none: they didn't."""
    at = "metrics/taxonomy/edits"
    rows = tuple((each["at"], each["by"], "; ".join(each["what"])) for each in files[MANIFEST].at(at) or ())
    if not rows:
        return ()
    caption = "Changes of the taxonomy by people, before it was distilled"
    return (CardTable(caption, ("when", "who", "what"), rows, MANIFEST, at),)


def versions(files: Files, bundle: Bundle) -> Section:
    manifest = files[MANIFEST].document
    hashes = tuple(sorted(manifest["files"].items()))
    packages = tuple(sorted(manifest["versions"].items()))
    return Section(
        "versions",
        "Versions and hashes",
        "Every result of the model carries its version. The files were verified against these hashes when the"
        " card was made, and are again whenever they are loaded.",
        (
            Claim("Version", bundle.model_version, MANIFEST, "name", bundle.model_version),
            computed(files, Asked("Space of its vectors", MANIFEST, "files/encoder.onnx"), _first_digits),
            Claim("Taxonomy", bundle.taxonomy.version, MANIFEST, "files/taxonomy.json"),
        ),
        (
            CardTable("Files of the bundle", ("file", "SHA-256"), hashes, MANIFEST, "files"),
            CardTable("Packages that made it", ("package", "version"), packages, MANIFEST, "versions"),
        ),
    )


def _first_digits(sha256: str) -> str:
    return sha256[:12]
