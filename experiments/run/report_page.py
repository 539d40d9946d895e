"""``DIR/report.html``: what a run recorded, on one page that needs nothing but itself.

No number is computed anew: all of it is in ``summary.json``, the phases' ``metrics.jsonl`` and the
candidates that the search scored. The page has no script and no address in it, and says so to the
browser (its content security policy), so that it can be sent, archived and read anywhere.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from etils.epath import Path
from matplotlib.figure import Figure

from experiments.run import processes, report, report_figures, size_figure
from experiments.run.figure_svg import styled
from experiments.run.page_parts import page, section, table
from experiments.run.records import run_again, write_text
from experiments.run.workdir import PHASES, Workdir
from optembed_jax.errors import InputError
from optembed_jax.rivals.registry import OPTEMBED
from optembed_jax.search.budget import BYTES_PER_PARAMETER
from optembed_jax.search.space import SearchSpace
from optembed_jax.storage import array_file

NAME = "report.html"

_OF_TRAINED = "The models that were trained, grey those of the short list that were not kept."
_OF_BOTH = (
    "On the left the models that were trained, grey those of the short list that were not kept. On "
    "the right what the frozen supernet says of candidates before any is trained: the front is "
    "what no smaller table equals, of the size that the search counts, with padding and stand-ins. "
    "The two are not on one scale."
)
_OF_RULES = (
    " Squares are the simple rules that the winner of the search was retrained against; on the "
    "right those that the search scored at that size."
)
_OF_FRONT = " Beside the front stand the simple rules, from the smallest table to the largest."


@dataclasses.dataclass(frozen=True)
class Recorded:
    """What a run left.

    Attributes:
      summary: of ``summary.json``.
      metrics: the lines of ``metrics.jsonl`` of each phase that has one.
      scored: the search's candidates; None without.
    """

    summary: dict[str, Any]
    metrics: Mapping[str, Sequence[Mapping[str, Any]]]
    scored: size_figure.Scored | None = None


def write(workdir: Workdir) -> Path:
    """Write the page of a run, whole or not at all; where it is.

    Raises:
      InputError: there is no run, or what it left cannot be read.
    """
    path = Path(workdir.path) / NAME
    if processes.is_first():  # Who alone writes what is read for it.
        found = recorded(workdir)
        try:
            text = page_of(found)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(
                f"no page of {workdir.path}: what it recorded is not what this version records "
                f"({type(error).__name__}: {' '.join(str(error).split())})"
            ) from error
        write_text(path, text)
    return path


def recorded(workdir: Workdir) -> Recorded:
    """What a run left.

    Raises:
      InputError: there is no summary, or a file cannot be read.
    """
    summary, metrics = workdir.summary(), {}
    for phase in PHASES:
        lines = workdir.phase_dir(phase) / "metrics.jsonl"
        if phase in summary and lines.exists():
            try:
                text = lines.read_text(encoding="utf-8")
                metrics[phase] = [json.loads(line) for line in text.splitlines()]
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{lines} cannot be read ({error}); {run_again(lines.parent)}"
                ) from error
    return Recorded(summary, metrics, _scored(workdir, summary))


def _scored(workdir: Workdir, summary: Mapping[str, Any]) -> size_figure.Scored | None:
    """All candidates that were scored on all rows; of a front, that alone."""
    search = summary.get("search")
    if search is None:
        return None
    if "front" in search:
        return size_figure.Scored(
            np.array([[p["table_bytes"], p["val_auc"]] for p in search["front"]], np.float64),
            np.array([list(p["dims"].values()) for p in search["front"]]),
            np.array([p["mask"] for p in search["front"]]),
        )
    path = workdir.phase_dir("search") / "search.safetensors"
    found = search.get("space") or _space_of_supernet(workdir)
    if found is None or not path.exists():
        return None
    rows = np.array(found["rows"], np.int64)
    space = SearchSpace(rows, summary["flags"]["latent_dim"], multiple=found["multiple"])
    arrays = array_file.load(path, run_again(path.parent))
    candidates, fitness = arrays["cache"], arrays["cache_fitness"]
    if candidates.shape[1] != len(space.limits):
        return None
    on_all_rows = np.isfinite(fitness)
    candidates, fitness = candidates[on_all_rows], fitness[on_all_rows]
    sizes = BYTES_PER_PARAMETER * space.parameters(candidates)
    points = np.stack([sizes, fitness], axis=1).astype(np.float64)
    return size_figure.Scored(points, space.dims(candidates), space.mask(candidates))


def _space_of_supernet(workdir: Workdir) -> dict[str, Any] | None:
    """Of a run of before its search recorded one: the supernet's rows, unless it chose them."""
    supernet = workdir.result("supernet")
    if supernet is None:
        return None
    return {"rows": [[field["rows_kept"] for field in supernet["fields"]]], "multiple": 1}


def page_of(run: Recorded) -> str:
    """The page, HTML; what a run did not record is not on it."""
    summary = run.summary
    title = f"{summary['model']} on {summary['dataset']}, seed {summary['seed']}"
    with styled():
        sections = [section(*of_figure) for of_figure in _figures(run)]
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    parts = [
        f'<p class="muted">A smaller embedding table, by {escape(_method(summary))}. Test rows are '
        "scored once, at the end of a phase; what is chosen is chosen by validation rows.</p>",
        _tiles(summary),
        *_warnings(summary),
        "<h2>Phases</h2>",
        table(report.phase_lines(summary)),
        *sections,
        *_told(summary),
        "<h2>Flags and versions</h2>",
        "<details><summary>Every flag that decides the result</summary>",
        table([["flag", "value"], *([f"--{k}", _value(v)] for k, v in summary["flags"].items())]),
        "</details>",
        f'<p class="muted">{escape(versions)}</p>',
    ]
    return page(title, parts)


def _method(summary: Mapping[str, Any]) -> str:
    method = summary["flags"].get("method", OPTEMBED)
    return "OptEmbed" if method == OPTEMBED else f"the method {method}"


def _figures(run: Recorded) -> list[tuple[str, str, str, Figure | None, str]]:
    """Name, heading, what is seen, the figure, and what else belongs under it."""
    summary = run.summary
    bands = report.frequency_bands(summary)
    features = report.feature_lines(summary)
    shared = report.shared_rows(summary)
    return [
        (
            "learning",
            "Learning curves",
            "What an epoch ended with, on validation rows; the epoch that was taken is marked. The "
            "supernet is judged with the rows that its budget keeps.",
            report_figures.learning_curves(run.metrics),
            "",
        ),
        (
            "size",
            "AUC against bytes",
            _seen_of_sizes(run),
            size_figure.auc_against_bytes(summary, run.scored),
            "",
        ),
        (
            "search",
            "Search",
            "The fitness of candidates, generation by generation.",
            report_figures.search_progress(summary),
            "",
        ),
        (
            "fields",
            "Dimensions and rows of each field",
            "What the last phase keeps. The first row of a field stands for values without a row.",
            report_figures.fields(summary),
            f'<p class="muted">{escape(shared)}</p>' if shared else "",
        ),
        (
            "frequency",
            "Rows kept, by how often they were seen",
            "Of the last phase, over all fields.",
            report_figures.rows_by_frequency(bands),
            "",
        ),
        (
            "calibration",
            "Calibration",
            "On the line, of the rows given a probability so many are clicked. The mean prediction "
            "over the click rate is in the table of phases.",
            report_figures.calibration(summary),
            "",
        ),
        (
            "features",
            "What a field is worth, and what it costs",
            "Worth: the logloss gained, and the AUC lost, when the field's values are dealt to "
            "other validation rows. Of fields that say the same each is worth little.",
            report_figures.feature_worth(summary),
            table(features) if features else "",
        ),
    ]


def _seen_of_sizes(run: Recorded) -> str:
    if run.scored is None or not len(run.scored.points):
        return _OF_TRAINED
    finalists = run.summary.get("retrain", {}).get("finalists", [])
    has_rules = any(one["rules"] and one["name"] != "search" for one in finalists)
    beside = _OF_FRONT if run.summary["search"].get("rules") else ""
    return _OF_BOTH + (_OF_RULES if has_rules else "") + beside


def _tiles(summary: Mapping[str, Any]) -> str:
    """What a reader wants first: what the last model is, against the full one."""
    phases = [phase for phase in size_figure.TRAINED if "test_auc" in summary.get(phase, {})]
    if not phases:
        return ""
    full, last = summary.get("baseline"), summary[phases[-1]]
    size = BYTES_PER_PARAMETER * last["table_parameters"]
    of_rows = "" if full is None else f"of {full['rows_kept']:,}"
    rows = last.get("rows_stored", last["rows_kept"])
    tiles = [
        (f"test {name}", f"{last[key]:.4f}", _against(full, last, key))
        for name, key in (("AUC", "test_auc"), ("logloss", "test_logloss"))
    ]
    tiles += [
        ("table, float32", _bytes(size), _times(full, last)),
        ("rows kept", f"{rows:,}", of_rows),
    ]
    seconds = sum(summary[phase].get("seconds", 0) for phase in PHASES if phase in summary)
    tiles.append(("all phases", f"{seconds:,.0f} s", "as the clock went"))
    cells = "".join(
        f'<div><dt>{escape(name)}</dt><dd class="figure">{escape(figure)}</dd>'
        f'<dd class="muted">{escape(beside)}</dd></div>'
        for name, figure, beside in tiles
    )
    return f'<dl class="tiles">{cells}</dl>'


def _against(full: Mapping[str, Any] | None, last: Mapping[str, Any], key: str) -> str:
    if full is None or full is last:
        return ""
    return f"{last[key] - full[key]:+.4f} against the full table"


def _times(full: Mapping[str, Any] | None, last: Mapping[str, Any]) -> str:
    if full is None or full is last or not last["table_parameters"]:
        return ""
    times = full["table_parameters"] / last["table_parameters"]
    return f"{times:.1f} times smaller than the full one"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if size >= 100 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"


def _warnings(summary: Mapping[str, Any]) -> list[str]:
    return [
        f'<p class="warning">{escape(f"{phase}: {warning}")}</p>'
        for phase in PHASES
        for warning in summary.get(phase, {}).get("warnings", [])
    ]


def _told(summary: dict[str, Any]) -> list[str]:
    """What else a run found, as the command prints it: the short list, verification, tuning."""
    without = {phase: {**summary[phase], "warnings": []} for phase in PHASES if phase in summary}
    found = report.findings({**summary, **without})
    return [
        "<h2>What else was found</h2>" if found else "",
        *(f"<pre>{escape(text)}</pre>" for text in found),
    ]


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "-" if value is None else str(value)
