"""Real clickstreams as steps: their results are kept like any other, so the test split is read once."""

from __future__ import annotations

from pathlib import Path

from models.evaluation import trained
from models.evaluation.laboratory import Json, Laboratory
from models.evaluation.real import eshop2008, shop1999, trivago

SEED = 7


def trivago_ranking(lab: Laboratory, folder: Path) -> Json:
    chosen = trained.train_config({"seed": SEED, "epochs": lab.scale.epochs})
    config = {"encoder": trained.encoder_facts(chosen), "seed": SEED, "draws": lab.scale.draws}
    return lab.ledger.result("trivago", config, lambda: trivago.evaluate(folder, chosen, lab.scale.draws))


def shop1999_conversion(lab: Laboratory, folder: Path) -> Json:
    chosen = trained.train_config({"seed": SEED, "epochs": shop1999.EPOCHS, "min_count": shop1999.MIN_COUNT})
    config = {"encoder": trained.encoder_facts(chosen), "seed": SEED, "draws": lab.scale.draws}
    return lab.ledger.result("shop1999", config, lambda: shop1999.evaluate(folder, chosen, lab.scale.draws))


def eshop2008_category(lab: Laboratory, folder: Path) -> Json:
    chosen = trained.train_config({"seed": SEED, "epochs": lab.scale.short_epochs})
    config = {
        "encoder": trained.encoder_facts(chosen),
        "seed": SEED,
        "draws": lab.scale.draws,
        "sessions": eshop2008.MOST_SESSIONS,
    }
    return lab.ledger.result("eshop2008", config, lambda: eshop2008.evaluate(folder, chosen, lab.scale.draws))
