"""The tables of the report: a step's result in, rows of text out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from streamer.models.evaluation.slices import NOT_SHOWN

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def number(estimate: Json | None, form: str = ".4f") -> str:
    """`value [low, high]`; a dash where there is no value."""
    if estimate is None or estimate.get("value") is None:
        return "-"
    value = format(estimate["value"], form)
    if estimate.get("low") is None:
        return value
    return f"{value} [{estimate['low']:{form}}, {estimate['high']:{form}}]"


def _main(result: Json) -> list[Table]:
    tiles, conversions = result["tiles"], result["conversions"]
    return [
        _contenders("Tile ranking: log loss", tiles["log_loss"]),
        _contenders("Tile ranking: macro Recall@1", tiles["macro_recall_at_1"]),
        _contenders("Conversion: micro F1 over products", conversions["micro_f1"]),
        _teachers(result),
        Table(
            "The embedding beside each contender (conversion micro F1, relative)",
            ("contender", "embedding is above by", "p (Holm)"),
            tuple(
                (name, number(each, "+.1%"), f"{each['p_holm']:.4f}")
                for name, each in result["embedding_versus"]["micro_f1"].items()
            ),
        ),
    ]


def _contenders(title: str, by_name: Json) -> Table:
    rows = []
    for name, entry in by_name.items():
        change = entry.get("vs_app_only")
        rows.append(
            (
                name,
                number(entry),
                number(change, "+.1%"),
                f"{change['p_holm']:.4f}" if change else "-",
                number(entry.get("gap_closed"), ".0%"),
            )
        )
    return Table(
        title, ("features added", "value", "against app only", "p (Holm)", "gap closed"), tuple(rows)
    )


def _teachers(result: Json) -> Table:
    kinds = ("teacher", "distilled_hard", "distilled_soft", "both")
    rows = [
        (
            f"{point['accuracy']:.0%}",
            *(number(point[kind], ".3f") for kind in kinds),
            number(point["embedding_above"]["teacher"], "+.1%"),
            number(point["embedding_above"]["distilled_soft"], "+.1%"),
        )
        for point in result["teacher_curve"]
    ]
    return Table(
        "Teachers of different accuracy (conversion micro F1)",
        ("teacher right", *kinds, "embedding above teacher", "embedding above distilled"),
        tuple(rows),
        "A teacher is right when it gives the session's best reading; no reading knows latent intents.",
    )


def _costs(result: Json) -> list[Table]:
    tokenizer, encoder, head = (result[f"{part}_us"] for part in ("tokenizer", "encoder", "head"))
    teacher = result["teacher"]
    money = f"{teacher['usd_per_thousand_sessions']:.2f}"
    asked = f"{teacher['seconds_per_request']:.1f} s a request"
    rows = (
        ("full teacher labels", asked, money, "teacher"),
        ("embedding only", f"{tokenizer + encoder:.0f} µs", "0", "embedding"),
        ("distilled, hard labels", f"{tokenizer + encoder + head:.0f} µs", "0", "distilled_hard"),
        ("distilled, soft labels", f"{tokenizer + encoder + head:.0f} µs", "0", "distilled_soft"),
        ("embedding and distilled", f"{tokenizer + encoder + head:.0f} µs", "0", "both"),
    )
    assumed = teacher["assumed"]
    return [
        Table(
            "Latency and cost (their quality is in the tables of the two tasks, by the last column)",
            ("way", "time a session", "USD per 1,000 sessions", "contender"),
            rows,
            "Times are CPU time of one core, measured. A teacher's price and latency are assumptions:"
            f" {assumed['usd_per_million_tokens']['in']} USD a million tokens read,"
            f" {assumed['usd_per_million_tokens']['out']} written,"
            f" {teacher['tokens_in']:.0f} and {teacher['tokens_out']:.0f} tokens a session with all votes.",
        )
    ]


def _memberships(result: Json) -> list[Table]:
    gained = [
        (metric, *(number(by_name[name], "+.1%") for name in ("memberships", "embedding_and_memberships")))
        for metric, by_name in result["gained"].items()
    ]
    return [
        _contenders("Memberships: tile log loss", result["tiles"]["log_loss"]),
        _contenders("Memberships: tile macro Recall@1", result["tiles"]["macro_recall_at_1"]),
        _contenders("Memberships: conversion micro F1", result["conversions"]["micro_f1"]),
        Table(
            "How much more of the gap is closed than by the embedding alone (percentage points)",
            ("metric", "memberships", "embedding and memberships"),
            tuple(gained),
            f"{result['prototypes']} prototypes of the bundle; simulated visitors that chose nothing.",
        ),
    ]


def _production(result: Json) -> list[Table]:
    rows = [
        (metric, *(_with_p(change) for change in by_name.values()))
        for metric, by_name in result["above_trees"].items()
    ]
    names = next(iter(result["above_trees"].values()))
    return [
        _contenders("Beside a production model: tile log loss", result["tiles"]["log_loss"]),
        _contenders("Beside a production model: tile macro Recall@1", result["tiles"]["macro_recall_at_1"]),
        _contenders("Beside a production model: conversion micro F1", result["conversions"]["micro_f1"]),
        Table(
            "Against boosted trees over the app's features and counts of pages (relative)",
            ("metric", *names),
            tuple(rows),
        ),
    ]


def _scaling(result: Json) -> list[Table]:
    metrics = {
        "tile log loss": ("tiles", "log_loss"),
        "tile Recall@1": ("tiles", "macro_recall_at_1"),
        "conversion micro F1": ("conversions", "micro_f1"),
    }

    def row(what: str, point: Json, name: str) -> tuple[str, ...]:
        closed = (point[task][metric].get(name) for task, metric in metrics.values())
        gained = (point.get("gained", {}).get(metric, {}).get(name) for _, metric in metrics.values())
        return (
            what,
            "-" if point["sessions"] is None else f"{point['sessions']:,}",
            str(point["epochs"] or "-"),
            f"{point['cpu_seconds']:.0f} s" if "cpu_seconds" in point else "-",
            *(number(None if entry is None else entry["gap_closed"], ".1%") for entry in closed),
            *(number(each, "+.1%") for each in gained),
        )

    columns = ("", "sessions", "epochs", "CPU", *metrics, *(f"{name}, above the bundle" for name in metrics))
    note = (
        f"Share of the gap closed, {result['visitors']:,} visitors of each of {result['seeds']} seeds that"
        " chose nothing; differences in percentage points. Others learnt from people of one more seed."
    )
    contenders = {"embedding and memberships": "embedding_and_memberships", "embedding alone": "embedding"}
    return [
        Table(
            f"Pretraining on more sessions: {title}",
            columns,
            (
                row("the bundle", result["bundle"], name),
                *(row("the recipe", point, name) for point in result["points"]),
            ),
            note,
        )
        for title, name in contenders.items()
    ]


SLICE_METRICS = {
    "label_right": ("label right", ".1%"),
    "overconfidence": ("claimed - right", "+.3f"),
    "abstained": ("no label", ".1%"),
    "tile_log_loss_gain": ("tile gain, nats", "+.3f"),
    "conversion_f1_gain": ("conversion gain, F1", "+.3f"),
}
"""Column and form of each metric of slices."""


def slice_tables(result: Json) -> list[Table]:
    """One for each dimension; a verdict stands beside the value that it is about."""
    metrics = {name: SLICE_METRICS[name] for name in SLICE_METRICS if name in result["metrics"]}
    columns = ("slice", "sessions", *(column for column, _ in metrics.values()))
    overall = [number(result["metrics"][name], form) for name, (_, form) in metrics.items()]
    everyone = ("all", f"{result['metrics']['abstained']['rows']:,}", *overall)
    cells = {(c["dimension"], c["slice"], c["metric"]): c for c in result["cells"]}
    counts = {(c["dimension"], c["slice"]): c["rows"] for c in _of_sessions(result)}
    found = []
    for dimension in dict.fromkeys(dimension for dimension, _ in counts):
        slices = [each for of, each in counts if of == dimension]
        rows = [
            (
                each,
                f"{counts[dimension, each]:,}",
                *(_sliced(cells.get((dimension, each, name)), form) for name, (_, form) in metrics.items()),
            )
            for each in slices
        ]
        found.append(Table(f"By {dimension}", columns, (everyone, *rows)))
    return found


def _of_sessions(result: Json) -> list[Json]:
    """Every slice once, also those of too few visitors; of a dimension by number, else by name."""
    every = [each for each in (*result["cells"], *result["too_few"]) if each["metric"] == "abstained"]
    order = list(dict.fromkeys(each["dimension"] for each in every))
    return sorted(every, key=lambda each: (order.index(each["dimension"]), _by_number(each["slice"])))


def _by_number(name: str) -> tuple[float, bool, str]:
    number = re.search(r"\d+", name)
    return (float(number[0]) if number else math.inf, not name.startswith("under"), name)


def _sliced(cell: Json | None, form: str) -> str:
    if cell is None:
        return "too few"
    verdict = "" if cell["verdict"] == NOT_SHOWN else f" {cell['verdict']}, p {cell['p_holm']:.3f}"
    return number(cell, form) + verdict


def _slices(result: Json) -> list[Table]:
    tables = slice_tables(result)
    note = (
        f"{result['data'].capitalize()}. A slice is compared with the other sessions of its table;"
        f" p after Holm over {result['tests']} tests. Label right and claimed - right: of sessions with a"
        " label. Gains are over the app's own features."
    )
    return [replace(table, title=f"Slices: {table.title}", note=note) for table in tables]


def _time(result: Json) -> list[Table]:
    tiles, bought = result["tiles"]["metrics"], result["conversions"]["metrics"]
    return [
        _contenders("By time, the last quarter tested: tile log loss", tiles["log_loss"]),
        _contenders("By time: tile macro Recall@1", tiles["macro_recall_at_1"]),
        _contenders("By time: conversion micro F1", bought["micro_f1"]),
    ]


def _signal(result: Json) -> list[Table]:
    rows = [
        (
            f"{point['signal_strength']:g}",
            number(point["tiles"]["log_loss"]["embedding"]["vs_app_only"], "+.1%"),
            number(point["tiles"]["log_loss"]["embedding"]["gap_closed"], ".0%"),
            number(point["conversions"]["micro_f1"]["embedding"]["vs_app_only"], "+.1%"),
            number(point["conversions"]["micro_f1"]["embedding"]["gap_closed"], ".0%"),
        )
        for point in result["points"]
    ]
    columns = ("signal", "tile log loss", "gap closed", "conversion micro F1", "gap closed")
    return [Table("Signal strength: the embedding against app only", columns, tuple(rows))]


def _transfer(result: Json) -> list[Table]:
    rows = [
        (
            f"{row['concept_shift']:g}",
            f"{row['fitted_on']} to {row['tested_on']}",
            number(row["tile_log_loss"]["vs_app_only"], "+.1%"),
            number(row["conversion_micro_f1"]["embedding"], ".3f"),
            number(row["conversion_micro_f1"]["gap_closed"], ".0%"),
        )
        for row in result["rows"]
    ]
    columns = ("concept shift", "fitted on, tested on", "tile log loss", "conversion micro F1", "gap closed")
    note = "Heads are fitted on one kind of visitor; 0.3 is the shift of all other tables."
    return [Table("Transfer between visitors who log in and who never do", columns, tuple(rows), note)]


def _links(result: Json) -> list[Table]:
    rows = [
        (
            f"{row['wrong_links']:.0%}",
            f"{row['missing_links']:.0%}",
            f"{row['coverage']:.0%}",
            number(row["tiles"]["log_loss"]["embedding"]["vs_app_only"], "+.1%"),
            number(row["conversions"]["micro_f1"]["embedding"]),
            number(row["conversions"]["micro_f1"]["embedding"]["gap_closed"], ".0%"),
        )
        for row in result["rows"]
    ]
    columns = ("wrong links", "missing", "covered", "tile log loss", "conversion micro F1", "gap closed")
    note = "Covered: clicked impressions whose visitor had a linked session in the seven days before."
    return [Table("Links between web and app", columns, tuple(rows), note)]


def _attribution(result: Json) -> list[Table]:
    rows = []
    for row in result["rows"]:
        sessions = row["sessions"]
        wrong = sessions["link_wrong"] + sessions["login_wrong"]
        rows.append(
            (
                f"{row['wrong_links']:.0%}",
                f"{row['lookback_days']:g} days",
                number(row["precision"], ".3f"),
                number(row["recall"], ".3f"),
                number(row["recall_without_login"], ".3f"),
                f"{wrong:,}",
            )
        )
    columns = (
        "wrong links",
        "lookback",
        "precision",
        "recall",
        "recall without login",
        "wrong sessions",
    )
    note = (
        "A fifth of the people share a browser with another customer. Precision: of the sessions in a record,"
        " those of that customer alone. Recall: of the sessions of app users, those in their record. If a"
        " session were in the record of a customer whom its ties don't name alone, the step would fail."
    )
    return [Table("Attribution of sessions to customers", columns, tuple(rows), note)]


def _history(result: Json) -> list[Table]:
    metrics = ("log_loss", "macro_recall_at_1", "micro_f1")
    titles = ("tile log loss", "tile Recall@1", "conversion micro F1")
    found = []
    for rows, which in (("all", "all rows"), ("several", "records of several sessions")):
        lines = []
        for condition, of_condition in result["conditions"].items():
            tasks = of_condition[rows]
            values = {**tasks["tiles"]["metrics"], **tasks["conversions"]["metrics"]}
            against = {**tasks["tiles"]["against_latest"], **tasks["conversions"]["against_latest"]}
            lines += [
                (condition, name, *(_beside(values[m][name], against[m].get(name)) for m in metrics))
                for name in values["log_loss"]
            ]
        columns = ("ties", "read from the record", *titles)
        note = "Beside a value its change against the latest session in the same form, with the interval."
        found.append(Table(f"Does history help? {which.capitalize()}", columns, tuple(lines), note))
    lines = [
        (name, f"{days} days", *(number(result["half_lives"][m][name][days], "+.1%") for m in metrics))
        for name, by_days in result["half_lives"]["log_loss"].items()
        for days in by_days
    ]
    note = "Right ties, validation customers, the profile alone. The default is 7 days."
    columns = ("read from the record", "half life", *titles)
    found.append(Table("Half lives against the default", columns, tuple(lines), note))
    return found


def _beside(value: Json, change: Json | None) -> str:
    shown = f"{value['value']:.4f}"
    return shown if change is None else f"{shown} {number(change, '+.1%')}"


def _baselines(result: Json) -> list[Table]:
    rows = []
    for name, entry in result["micro_f1"].items():
        against, cost = result["ours_versus"].get(name), result["costs"].get(name)
        rows.append(
            (
                name,
                number(entry),
                number(against, "+.1%"),
                f"{against['p_holm']:.4f}" if against else "-",
                f"{cost['cpu_seconds']:.0f} s" if cost else "-",
                f"{cost['learning_rate']:g}" if cost else "-",
            )
        )
    columns = ("representation", "micro F1", "ours is above by", "p (Holm)", "CPU", "learning rate")
    return [Table("Baselines with 2,000 conversion labels", columns, tuple(rows), _label_draws(result))]


def _label_draws(result: Json) -> str:
    intervals = f"Intervals are over seeds, {result['label_draws']} draws of labels and test visitors."
    return f"{_fresh(result)} {intervals}"


def _fresh(result: Json) -> str:
    return (
        f"{result['seeds']} seeds that chose nothing, of {result['visitors']:,} visitors each; encoders"
        f" learn from the training part of {result['sessions']:,} sessions."
    )


def _learning(result: Json) -> list[Table]:
    points = result["points"]
    columns = ("representation", *(f"{point['labels']:,} labels" for point in points))

    def of(figure: str, form: str) -> tuple[tuple[str, ...], ...]:
        names = points[0][figure]
        return tuple((name, *(number(point[figure][name], form) for point in points)) for name in names)

    return [
        Table("Learning curve: conversion micro F1", columns, of("micro_f1", ".3f"), _label_draws(result)),
        Table("Learning curve: ours is above by", columns, of("ours_versus", "+.1%")),
    ]


def _with_p(change: Json) -> str:
    return f"{number(change, '+.1%')}, p {change['p_holm']:.3f}"


def _ablations(result: Json) -> list[Table]:
    metrics = ("log_loss", "macro_recall_at_1", "micro_f1")
    rows = [
        (
            name,
            *(number(row[metric]["gap_closed"], ".0%") for metric in metrics),
            *(_points(row[metric].get("than_full")) for metric in metrics),
        )
        for name, row in result["rows"].items()
    ]
    tasks = ("tile log loss", "tile Recall@1", "conversion micro F1")
    columns = ("encoder", *tasks, *(f"{task}, against full" for task in tasks))
    note = (
        f"{_fresh(result)} {result['epochs']} epochs, all labels. Intervals are over seeds and test visitors;"
        " differences are in percentage points, with p after Holm's correction."
    )
    return [Table("Ablations: share of the gap closed", columns, tuple(rows), note)]


def _points(more: Json | None) -> str:
    if more is None:
        return "-"
    scaled = {bound: 100 * more[bound] for bound in ("value", "low", "high")}
    return f"{number(scaled, '+.1f')}, p {more['p_holm']:.3f}"


def _student(result: Json) -> list[Table]:
    rows = (
        ("ECE against the teacher's answers, which it learnt from", number(result["ece"]["teacher"])),
        ("ECE against the first of them alone", number(result["ece"]["first_answer"])),
        ("ECE of the student of hard labels against the first answer", number(result["ece"]["hard_student"])),
        ("ECE against latent first intents", number(result["ece"]["truth"])),
        ("student agrees with teacher", f"{result['accuracy_against_teacher']:.3f}"),
        ("student finds the latent first intent", f"{result['accuracy_against_truth']:.3f}"),
        ("teacher finds the latent first intent", f"{result['teacher_against_truth']:.3f}"),
    )
    return [Table("The student (soft labels, teacher of 85 %)", ("figure", "value"), rows)]


def _novelty(result: Json) -> list[Table]:
    scores = ("novelty", "distance", "doubt")
    means = [("mean", result["auroc"]), ("mean of those it wasn't chosen on", result["auroc_not_chosen_on"])]
    rows = [(name, *(number(mean[score], ".3f") for score in scores), "") for name, mean in means]
    rows += [
        (name, *(f"{each[score]:.3f}" for score in scores), str(each["sessions"]))
        for name, each in result["by_intent"].items()
    ]
    columns = ("held-out intent", "AUROC", "distance alone", "1 - best probability", "sessions")
    return [Table("Novelty: intents that nothing was learnt of", columns, tuple(rows))]


def _real(title: str, metric: str, versus: str, changed: str) -> Callable[[Json], list[Table]]:
    def tables(result: Json) -> list[Table]:
        rows = []
        for name, entry in result[metric].items():
            against = result[versus].get(name)
            change = "-" if against is None else _change(against)
            rows.append((name, number(entry, ".3f"), change))
        counts = ", ".join(f"{count:,} {kind}" for kind, count in result["rows"].items())
        return [Table(title, ("contender", "value", changed), tuple(rows), f"Rows: {counts}.")]

    return tables


def _few_labels(title: str) -> Callable[[Json], list[Table]]:
    """AUC by contender and number of labels; below, what each gains over `hand`."""

    def tables(result: Json) -> list[Table]:
        levels = result["levels"]
        counts = (f"{'all ' if each['all'] else ''}{each['labels']:,} labels" for each in levels)
        columns = ("contender", *counts)
        note = (
            f"Tested on {result['tested']:,} of {result['rows']:,} rows,"
            f" {result['positive_share']:.0%} positive;"
            f" {result['folds']} folds, {result['seeds']} seeds, {result['draws']} draws of labels."
        )

        def of(figure: str, form: str) -> tuple[tuple[str, ...], ...]:
            names = levels[0][figure]
            return tuple((name, *(number(each[figure][name], form) for each in levels)) for name in names)

        return [
            Table(f"{title}: AUC", columns, of("auc", ".3f"), note),
            Table(f"{title}: gain over hand", columns, of("gain_over_hand", "+.3f")),
        ]

    return tables


def _next_product(result: Json) -> list[Table]:
    rows = [
        (name, number(value, ".4f"), number(result["gain_over_table"].get(name), "+.4f"))
        for name, value in result["mrr"].items()
    ]
    note = f"Rows: {result['rows']['test']:,} tested on; {result['seeds']} seeds."
    return [
        Table(
            "eshop2008: MRR of the next product", ("contender", "MRR", "above the table"), tuple(rows), note
        )
    ]


def _earlier_sessions(result: Json) -> list[Table]:
    parts = (result["all"], result["with_earlier"])
    rows = [(name, *(number(part["mrr"][name], ".4f") for part in parts)) for name in parts[0]["mrr"]]
    rows += [(name, *(number(part["gain"][name], "+.4f") for part in parts)) for name in parts[0]["gain"]]
    of = result["rows"]
    columns = (
        "contender",
        f"all {of['test']:,} click-outs",
        f"the {of['with earlier sessions']:,} with earlier sessions",
    )
    shares = ", ".join(format(share, "g") for share in result["shares"])
    note = f"Second half by time; {result['seeds']} seeds, in which fusing gives the encoder {shares}."
    return [Table("trivago: MRR with earlier sessions of the visitor", columns, tuple(rows), note)]


def _same_person(result: Json) -> list[Table]:
    rows = [
        (name, number(value, ".3f"), number(result["gain_over_hand"].get(name), "+.3f"))
        for name, value in result["auc"].items()
    ]
    of = result["rows"]
    note = (
        f"{of['pairs']:,} pairs of {of['sessions']:,} sessions of {of['people']:,} people whom nothing was"
        f" learnt of; {result['seeds']} seeds."
    )
    columns = ("contender", "AUC", "gain over sites by hand")
    return [Table("catchme150: are two sessions the same person's?", columns, tuple(rows), note)]


def _choice(result: Json) -> list[Table]:
    return [
        table for name, each in result.items() for table in _few_labels(f"{name}, validation visitors")(each)
    ]


def _change(against: Json) -> str:
    shown = f"{against['difference']:+.3f}" if "difference" in against else number(against, "+.1%")
    return f"{shown} (p {against.get('p_holm', against.get('p')):.4f})"


TABLES: dict[str, Callable[[Json], list[Table]]] = {
    "main": _main,
    "memberships": _memberships,
    "production": _production,
    "costs": _costs,
    "scaling": _scaling,
    "slices": _slices,
    "time": _time,
    "signal": _signal,
    "transfer": _transfer,
    "links": _links,
    "attribution": _attribution,
    "history": _history,
    "baselines": _baselines,
    "learning": _learning,
    "ablations": _ablations,
    "student": _student,
    "novelty": _novelty,
    "trivago": _real("trivago: MRR, second half by time", "mrr", "chosen_versus", "ours is above by"),
    "shop1999": _real("shop1999: AUC of payment after six events", "auc", "ours_versus", "ours is above by"),
    "eshop2008": _real("eshop2008: next category, accuracy", "accuracy", "ours_versus", "ours is above by"),
    "real_choice": _choice,
    "real_shop1999": _few_labels("shop1999: payment after six events"),
    "real_pisa_cc": _few_labels("pisa_cc: solved, after eight actions"),
    "real_next_product": _next_product,
    "real_same_person": _same_person,
    "real_trivago": _earlier_sessions,
    "real_eshop2008": _few_labels("eshop2008: an article on sale is looked at later"),
    "real_eshop2008_fields": _few_labels(
        "eshop2008, fields of their own: an article on sale is looked at later"
    ),
}
