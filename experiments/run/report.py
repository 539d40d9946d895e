"""The outcome of a run: ``summary.json``, and the tables that a person reads at its end."""

import dataclasses
from typing import Any

from experiments.run import front, trained_under
from experiments.run.feature_report import parameters_of, with_saliency
from experiments.run.records import write_json
from experiments.run.settings import Settings
from experiments.run.workdir import AS_TOLD, Workdir


def summarise(
    workdir: Workdir, settings: Settings, warm: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Gather the finished phases into ``summary.json``; the README describes it.

    Returns:
      What was written.
    """
    results = {phase: workdir.result(phase) for phase in AS_TOLD}
    finished = {phase: result for phase, result in results.items() if result is not None}
    fields = [result["fields"] for result in finished.values() if "fields" in result]
    supernet = finished.get("supernet", {}).get("fields", [])
    summary = {
        "dataset": settings.dataset,
        "model": settings.model.model_name,
        "seed": settings.seed,
        "versions": trained_under.current(),
        "flags": flags_of(settings),
        **{
            phase: {k: v for k, v in result.items() if k not in ("flags", "fields")}
            for phase, result in finished.items()
        },
        **({"fields": with_saliency(fields[-1], supernet)} if fields else {}),
        **({} if warm is None else {"warm_start": warm}),
    }
    write_json(workdir.path / "summary.json", summary)
    return summary


def flags_of(settings: Settings) -> dict[str, Any]:
    """The flags of a run as its summary records them."""
    return {
        "dataset": settings.dataset,
        **settings.data.used_by(settings.dataset),
        **settings.model.as_record(),
        **settings.train.as_record(),
        **dataclasses.asdict(settings.search),
        **(dataclasses.asdict(settings.search_options) if settings.model.searches_dims else {}),
        "max_bundle_bytes": settings.search_options.max_bundle_bytes,
        **({} if settings.storage is None else {"storage": settings.storage}),
        "batch_size": settings.batch_size,
        "epochs": settings.epochs,
        "patience": settings.patience,
        "early_stop_by": settings.early_stop_by,
        "early_stop_errors": settings.early_stop_errors,
        "init_output": settings.init_output,
        "calibrate": settings.calibrate,
        **({} if settings.negative_rate == 1 else {"negative_rate": settings.negative_rate}),
        "retrain_from": settings.retrain_from,
        "retrain_group_lasso": settings.retrain.group_lasso,
        "pick": settings.pick,
        "finalists": settings.has_finalists,
        "method": settings.method,
        "verify_seeds": settings.verify_seeds,
        **({"tune": "none"} if settings.tune is None else settings.tune.as_flags()),
        **({"deterministic": True} if settings.deterministic else {}),
        "seed": settings.seed,
    }


def phase_table(summary: dict[str, Any]) -> str:
    """A line per phase."""
    return aligned(phase_lines(summary))


def phase_lines(summary: dict[str, Any]) -> list[list[str]]:
    """The cells of :func:`phase_table`, the head first."""
    full = summary["baseline"]["table_parameters"] if "baseline" in summary else None
    grouped = any("test_gauc" in summary.get(phase, {}) for phase in AS_TOLD)
    lines = [
        [
            "phase",
            "val AUC",
            "test AUC",
            *(["test GAUC"] if grouped else []),
            "test logloss",
            "calibration",
            "rows kept",
            "table parameters",
            "of full",
            "all parameters",
            "seconds",
        ]
    ]
    for phase in AS_TOLD:
        result = summary.get(phase, {})
        if "table_parameters" not in result:
            continue
        table = result["table_parameters"]
        lines.append(
            [
                phase,
                _figure(result.get("val_auc")),
                f"{result['test_auc']:.4f}" if "test_auc" in result else "-",
                *([_figure(result.get("test_gauc"))] if grouped else []),
                f"{result['test_logloss']:.4f}" if "test_logloss" in result else "-",
                f"{result['test_calibration']:.2f}" if "test_calibration" in result else "-",
                f"{result.get('rows_stored', result['rows_kept']):,}",
                f"{table:,}",
                f"{100 * table / full:.1f} %" if full else "-",
                f"{result['total_parameters']:,}",
                f"{result['seconds']:.1f}",
            ]
        )
    return lines


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def field_table(summary: dict[str, Any], width: int = 20) -> str:
    """A line per field: rows, rows kept, dimension, and a bar of the parameters kept.

    Where fields share rows, a last line says so.
    """
    largest = summary["flags"]["latent_dim"]
    lines = [["field", "rows", "rows kept", "dim", "kept of the field"]]
    for field in summary["fields"]:
        share = parameters_of(field) / (field["rows"] * largest)
        bar = "#" * round(share * width)
        lines.append(
            [
                field["name"],
                f"{field['rows']:,}",
                f"{field['rows_kept']:,}",
                str(field["dim"]),
                f"{bar:<{width}} {100 * share:5.1f} %",
            ]
        )
    return "\n".join([aligned(lines), *filter(None, [shared_rows(summary)])])


def shared_rows(summary: dict[str, Any]) -> str:
    """What keeps the figures of fields from adding up to the table's, where fields share rows."""
    last = _last_with_fields(summary)
    if not last.get("shares_rows"):
        return ""
    stored = last.get("rows_stored", last["rows_kept"])
    return (
        f"fields share rows: the table has {stored:,} of {last['table_parameters']:,} parameters, "
        "and one counts in each field whose values read it"
    )


def _last_with_fields(summary: dict[str, Any]) -> dict[str, Any]:
    """The record of the phase that the fields are of."""
    phases = [summary[phase] for phase in AS_TOLD if "rows_kept" in summary.get(phase, {})]
    return phases[-1] if phases else {}


def feature_table(summary: dict[str, Any]) -> str:
    """A line per field, the one that is worth most first: what it is worth, and what it costs.

    Empty where the last phase has not measured it: a search, or a run of an older version.
    """
    lines = feature_lines(summary)
    return aligned(lines) if lines else ""


def feature_lines(summary: dict[str, Any]) -> list[list[str]]:
    """The cells of :func:`feature_table`, the head first; empty where that is."""
    fields = summary.get("fields", [])
    if not fields or "val_logloss_gained" not in fields[0]:
        return []
    has_saliency = any("saliency" in field for field in fields)
    lines = [
        [
            "feature",
            "worth: AUC",
            "logloss",
            *(["saliency"] if has_saliency else []),
            "costs: bytes",
            "rows kept",
            "dim",
            "unseen",
            "without a row",
        ]
    ]
    for field in sorted(fields, key=lambda field: -field["val_logloss_gained"]):
        auc = field["val_auc_lost"]
        lines.append(
            [
                field["name"],
                "-" if auc is None else f"{auc:+.4f}",
                f"{field['val_logloss_gained']:+.5f}",
                *([f"{100 * field.get('saliency', 0.0):.1f} %"] if has_saliency else []),
                f"{field['bytes']:,}",
                f"{field['rows_kept']:,} of {field['rows']:,}",
                str(field["dim"]),
                f"{100 * field['val_unseen']:.1f} %",
                f"{100 * field['val_without_row']:.1f} %",
            ]
        )
    return lines


def frequency_table(summary: dict[str, Any]) -> str:
    """Of the rows seen so often in the training split, how many the last phase keeps."""
    lines = [["seen in training", "rows", "rows kept", "share kept"]]
    for band in frequency_bands(summary):
        rows, kept = band["rows"], band["rows_kept"]
        share = f"{100 * kept / rows:.1f} %" if rows else "-"
        lines.append([f"{band['seen']} times", f"{rows:,}", f"{kept:,}", share])
    return aligned(lines)


def frequency_bands(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """What the last phase keeps of each band; empty where none has told."""
    bands = [
        summary[phase]["rows_by_frequency"]
        for phase in AS_TOLD
        if "rows_by_frequency" in summary.get(phase, {})
    ]
    return bands[-1] if bands else []


def findings(summary: dict[str, Any]) -> list[str]:
    """What else is worth telling: the search's front, the short list, what verification found.

    And what a phase warned of.
    """
    found = []
    if "warm_start" in summary:
        found.append(warm_start_table(summary["warm_start"]))
        begun = [summary[phase].get("warm_start", {}) for phase in AS_TOLD if phase in summary]
        anew = [one for one in begun if one.get("moments") is False]
        if anew and summary["warm_start"]["kind"] == "run":
            found.append(
                "moments started anew: the earlier run left none that are of this run's "
                "--table_optimiser and --row_decay"
            )
    if "tune" in summary:
        found.append(tune_table(summary["tune"]))
    if "front" in summary.get("search", {}):
        found.append(front.table(summary["search"]["front"]))
    if "finalists" in summary.get("retrain", {}):
        found.append(finalist_table(summary["retrain"]))
    if "verify" in summary:
        result = summary["verify"]
        seeds = len(result["seeds"])
        if "budget_bundle_bytes" in result:
            budget = f"{result['budget_bundle_bytes']:,} bytes of the bundle"
        else:
            budget = f"{result['budget_parameters']:,} table parameters"
        found.append(
            f"verdict over {seeds} seed{'s' if seeds > 1 else ''} (test AUC, at most "
            f"{budget}): {result['verdict']}"
        )
    warnings = [
        f"warning: {phase}: {warning}"
        for phase in AS_TOLD
        for warning in summary.get(phase, {}).get("warnings", [])
    ]
    return [*found, *(["\n".join(warnings)] if warnings else [])]


def warm_start_table(warm: dict[str, Any]) -> str:
    """What was carried over from an earlier run: of each field, and by how often rows are read."""
    kinds = ("carried", "new", "gone")
    reads = f"{100 * warm['reads_of_carried']:.1f} % of the reads are of carried rows"
    lines = [[f"rows from {warm['from']}", *kinds]]
    lines.append(["all", *(f"{warm[kind]:,}" for kind in kinds)])
    lines += [[field["name"], *(f"{field[kind]:,}" for kind in kinds)] for field in warm["fields"]]
    lines += [
        [
            f"seen {band['seen']} times",
            *(f"{band[kind]:,}" if kind in band else "unknown" for kind in kinds),
        ]
        for band in warm["by_frequency"]
    ]
    if warm["kind"] == "bundle":
        reads += (
            "; of a bundle there are rows and network: moments and counts start anew, and what it "
            "pruned is new"
        )
    return f"{aligned(lines)}\n{reads}"


def tune_table(tuned: dict[str, Any]) -> str:
    """A line per strength that was tried, and which one was chosen."""
    strength, l2 = tuned["strength"], tuned.get("table_l2")
    lines = [[strength, "val AUC", "val logloss", "best epoch", ""]]
    for rung in tuned["ladder"]:
        beside = None if l2 is None else rung["table_l2"]
        is_chosen = (rung[strength], beside) == (tuned["chosen"], l2)
        lines.append(
            [
                f"{rung[strength]:g}" + (f" + table_l2 {beside:g}" if beside else ""),
                f"{rung['val_auc']:.4f}",
                f"{rung['val_logloss']:.4f}",
                str(rung["best_epoch"]),
                "chosen" if is_chosen else "",
            ]
        )
    return aligned(lines)


def finalist_table(retrained: dict[str, Any]) -> str:
    """A line per model of the short list, and which one was kept."""
    lines = [["finalist", "val AUC", "table parameters", ""]]
    for finalist in retrained["finalists"]:
        same = [rule for rule in finalist["rules"] if rule != finalist["name"]]
        lines.append(
            [
                " = ".join([finalist["name"], *same]),
                f"{finalist['val_auc']:.4f}",
                f"{finalist['table_parameters']:,}",
                "kept" if finalist["name"] == retrained["kept"] else "",
            ]
        )
    return aligned(lines)


def aligned(lines: list[list[str]]) -> str:
    """A table as text, whose first line is its head, in columns as wide as they need."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rows = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    rows.insert(1, "-" * max(len(row) for row in rows))
    return "\n".join(rows)
