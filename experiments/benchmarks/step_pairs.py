"""The figures of ``training_step``: which sides take turns in pairs, and what their ratios are."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.benchmarks import timed_steps
from experiments.benchmarks.backbones import backbones
from experiments.benchmarks.click_log import FEWEST_ROWS
from experiments.benchmarks.step_comparison import BATCH, Side
from experiments.benchmarks.step_sides import (
    PEERS,
    Peers,
    batches_for_peers,
    our_program,
    peer_job,
    peer_program,
)
from experiments.benchmarks.timed_steps import Figures, Program
from optembed_jax.errors import InputError

OPTIMISERS = {"sparse_torch": "adam", "fbgemm": "rowwise_adagrad"}
"""Of our side beside a sparse table: what keeps the same state as the peer does."""

SMALL = 10_000
"""Rows of the table that growth is measured from."""

RATIOS = {
    "step_speedup": ("torch_ms", "ours_ms"),
    "embedding_speedup": ("dense_embedding_ms", "embedding_ms"),
    "growth_from_10k": ("ours_beside_10k_ms", "ours_10k_ms"),
    "memory_ratio": ("ours_peak_bytes", "torch_peak_bytes"),
}
"""Of two figures of sides that took turns."""

for _peer in ("sparse_torch", "fbgemm"):
    for _part, _of in (("embedding", "_embedding"), ("step", "")):
        for _clock, _end in (("ms", ""), ("cpu_ms", "_cpu")):
            RATIOS[f"{_part}_over_{_peer}{_end}"] = (
                f"{_peer}{_of}_{_clock}",
                f"plain{_of}_beside_{_peer}_{_clock}",
            )
    RATIOS[f"memory_over_{_peer}"] = (f"plain_beside_{_peer}_peak_bytes", f"{_peer}_peak_bytes")


def pairs_of(
    model: str,
    rows: int,
    decay: str,
    sides: Sequence[str],
    peer: Callable[[str], Program],
    optimiser: str = "adam",
    bag: int = 1,
) -> list[dict[str, Program]]:
    """Which programs take turns.

    Never more than two: at five million rows three would need more memory than small machines have.
    And who comes after PyTorch finds caches and memory as gigabytes left them: of three sides in
    turn, the same one would always pay for that. A ratio is taken of two that took turns.

    Args:
      model: backbone.
      rows: of the table.
      decay: of our rows.
      sides: of ``SIDES``; of ``PEERS`` those that can be used.
      peer: the program of one of them, or of its embedding part.
      optimiser: of our table, but beside sparse tables (``OPTIMISERS``).
      bag: values in a cell; with more than one, what an id costs there beside fields of one value.
    """

    def of(
        kind: str,
        rows: int = rows,
        mode: str = "all",
        optimiser: str = optimiser,
    ) -> Program:
        return our_program(Side(kind, model, rows, decay, mode, optimiser))

    supernet = {"ours": of("ours")}
    if "torch" in sides:
        supernet["torch"] = peer("torch")
    pairs = [supernet]
    if rows != SMALL:
        pairs.append({"ours_beside_10k": of("ours"), "ours_10k": of("ours", rows=SMALL)})
    if "dense" in sides:
        pairs.append({"ours_beside_dense": of("ours"), "dense": of("dense")})
    if "embedding" in sides:
        parts = {"embedding": of("ours_embedding"), "dense_embedding": of("dense_embedding")}
        pairs.append(parts)
    for part, kind in (("_embedding", "ours_embedding"), ("", "ours")) if bag > 1 else ():
        side = Side(kind, model, rows, decay, table_optimiser=optimiser, own_gradient=True)
        several = dataclasses.replace(side, bag=bag)
        pairs.append({f"one_value{part}": our_program(side), f"bag{part}": our_program(several)})
    for name in ("sparse_torch", "fbgemm"):
        if name in sides:
            for part in ("_embedding", ""):
                plain = of(f"ours{part}", mode="none", optimiser=OPTIMISERS[name])
                ours = {f"plain{part}_beside_{name}": plain}
                pairs.append(ours | {f"{name}{part}": peer(f"{name}{part}")})
    return pairs


def measure(
    model: str,
    rows: int,
    decay: str,
    sides: Sequence[str],
    peers: Peers | None,
    repeats: int,
    steps: int,
    optimiser: str = "adam",
    bag: int = 1,
) -> dict[str, Any]:
    """All figures of one table.

    Args:
      model: backbone.
      rows: of the table.
      decay: of our rows.
      sides: of ``SIDES``.
      peers: that run those of ``PEERS``; None where none is asked for.
      repeats: turns that count.
      steps: of a turn.
      optimiser: as of :func:`pairs_of`.
      bag: likewise.
    """
    figures: dict[str, Any] = {"model": model, "rows": rows, "row_decay": decay}
    figures["table_optimiser"] = optimiser
    usable = [name for name in sides if name not in PEERS or model == "deepfm"]
    if peers is not None and peers.fbgemm_missing is not None and "fbgemm" in usable:
        usable.remove("fbgemm")
        figures["fbgemm_missing"] = peers.fbgemm_missing
    with batches_for_peers(rows) as folder:

        def peer(side: str) -> Program:
            assert peers is not None
            return peer_program(peers, peer_job("time", side, rows, folder))

        for pair in pairs_of(model, rows, decay, usable, peer, optimiser, bag):
            add(figures, timed_steps.alternate(pair, repeats, steps))
    if bag > 1:
        figures |= {"bag": bag, **_per_id(figures, bag)}
    return figures | ratios(figures)


def _per_id(figures: Mapping[str, Any], bag: int) -> dict[str, float]:
    """What an id costs in cells of several values, over what it costs alone in one."""
    # Of examples that are no multiple some are left out, and their ids with them.
    ids = BATCH // bag * bag / BATCH
    return {
        f"bag_per_id{part}_{clock}": round(
            figures[f"bag{part}_{clock}"] / figures[f"one_value{part}_{clock}"] / ids, 3
        )
        for part in ("_embedding", "")
        for clock in ("ms", "cpu_ms")
    }


def add(figures: dict[str, Any], found: Mapping[str, Figures]) -> None:
    """Write what each side was measured at under its name."""
    for name, of_side in found.items():
        figures |= {f"{name}_{figure}": value for figure, value in of_side.items()}


def ratios(figures: Mapping[str, Any]) -> dict[str, float | None]:
    """What the figures come to, as far as both sides of a ratio were measured.

    Those of FBGEMM are None where it could not be used.
    """
    found: dict[str, float | None] = {
        name: round(figures[over] / figures[under], 3)
        for name, (over, under) in RATIOS.items()
        if over in figures and under in figures
    }
    if "fbgemm_missing" in figures:
        found |= {name: None for name in RATIOS if "_over_fbgemm" in name}
    return found


def asked(models: list[str], rows: list[str]) -> list[tuple[str, int]]:
    """Models and tables to measure, as flags name them.

    Raises:
      InputError: there is no such model, or a number of rows that no click log has.
    """
    models = backbones(models)
    if any(not text.isdigit() or int(text) < FEWEST_ROWS for text in rows):
        raise InputError(f"--rows={','.join(rows)}: numbers from {FEWEST_ROWS} up")
    return [(model, int(text)) for model in models for text in rows]


def line_of(figures: Mapping[str, Any]) -> str:
    """Lines of the table; a dash for what was not measured."""

    def shown(key: str, form: str) -> str:
        value = figures.get(key)
        return "-" if value is None else format(value, form)

    def times_of(name: str) -> str:
        return f"{shown(f'{name}_ms', '.0f')} ms (CPU {shown(f'{name}_cpu_ms', '.0f')})"

    def against(peer: str) -> str:
        parts = []
        for part, key in (("embedding", "_embedding"), ("step", "")):
            name = f"{part}_over_{peer}"
            parts.append(
                f"{part} ours {times_of(f'plain{key}_beside_{peer}')}, "
                f"theirs {times_of(f'{peer}{key}')}: {shown(name, '.2f')}x "
                f"(CPU {shown(f'{name}_cpu', '.2f')}x)"
            )
        return "; ".join([*parts, f"memory {shown(f'memory_over_{peer}', '.2f')}"])

    lines = [
        f"{figures['model']:<7} V {figures['rows']:>9,} {figures['row_decay']}: "
        f"ours {shown('ours_ms', '.0f')} ms, torch {shown('torch_ms', '.0f')} "
        f"({shown('step_speedup', '.2f')}x); ours {shown('ours_beside_dense_ms', '.0f')}, "
        f"dense Optax {shown('dense_ms', '.0f')}; "
        f"embedding {shown('embedding_ms', '.0f')}, dense {shown('dense_embedding_ms', '.0f')} "
        f"({shown('embedding_speedup', '.2f')}x); growth {shown('growth_from_10k', '.2f')}; "
        f"memory {shown('memory_ratio', '.2f')}"
    ]
    if "bag" in figures:
        parts = [
            f"{name} {times_of(f'bag{part}')}, of one value {times_of(f'one_value{part}')}: an id "
            f"{shown(f'bag_per_id{part}_ms', '.2f')}x "
            f"(CPU {shown(f'bag_per_id{part}_cpu_ms', '.2f')}x)"
            for name, part in (("embedding", "_embedding"), ("step", ""))
        ]
        lines.append(f"  {figures['bag']} values in a cell, as many ids: {'; '.join(parts)}")
    if "sparse_torch_ms" in figures:
        lines.append(f"  plain, PyTorch's SparseAdam: {against('sparse_torch')}")
    if "fbgemm_missing" in figures:
        lines.append(f"  plain, FBGEMM: cannot be used here: {figures['fbgemm_missing']}")
    elif "fbgemm_ms" in figures:
        lines.append(f"  plain, FBGEMM's row-wise Adagrad: {against('fbgemm')}")
    return "\n".join(lines)
