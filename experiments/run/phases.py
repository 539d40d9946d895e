"""Which phases a run goes through, the flags that decide each, and how each is run."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from etils.epath import Path

from experiments.run import (
    choose_phase,
    processes,
    retrain_phase,
    search_phase,
    trained_under,
    training_phases,
    tune_phase,
    verify_phase,
)
from experiments.run.settings import Settings
from experiments.run.trained import OF_PRUNING, Run
from experiments.run.warm_options import NO_WARM_START
from optembed_jax.errors import InputError
from optembed_jax.rivals.registry import OPTEMBED, RIVALS, rival_of

OF_THE_LOOP = (
    *("batch_size", "epochs", "patience", "early_stop_by", "early_stop_errors", "init_output"),
    *("calibrate", "seed"),
)
"""Settings that decide every training, apart from the model and the optimiser."""

_PHASES: Mapping[str, Callable[[Run, Path], dict[str, Any]]] = {
    "tune": tune_phase.tune,
    "baseline": training_phases.baseline,
    "supernet": training_phases.supernet,
    "search": search_phase.search,
    "choose": choose_phase.choose,
    "retrain": retrain_phase.retrain,
    "verify": verify_phase.verify,
}


def phases_of(settings: Settings) -> tuple[str, ...]:
    """The phases that a method and its mode go through to the final model.

    Where an earlier run's shape is kept, there is nothing to find.
    """
    if settings.keeps_shape:
        return ("retrain",)
    mode = settings.model.mode
    rival = rival_of(settings.method)
    if rival is not None:
        learned = () if rival.layer is None else ("supernet",)
        return ("baseline", *learned, "choose", "retrain")
    if mode == "none":
        return ("baseline",)
    found = ("search",) if mode in ("all", "embed") else ()
    return ("baseline", "supernet", *found, "retrain")


def phases_asked(settings: Settings) -> tuple[str, ...]:
    """The phases that a run goes through: tuning and verification only where asked for."""
    before = () if settings.tune is None else ("tune",)
    after = ("verify",) if settings.verify_seeds else ()
    return (*before, *phases_of(settings), *after)


def phase_flags(phase: str, settings: Settings) -> dict[str, Any]:
    """The flags that decide a phase's outcome, apart from the data and the phases before it."""
    model, train = settings.model.as_record(), settings.train.as_record()
    loop = {name: getattr(settings, name) for name in OF_THE_LOOP}
    loop |= NO_WARM_START if settings.warm is None else settings.warm.as_flags()
    max_bundle_bytes, planned = settings.search_options.max_bundle_bytes, {}
    if max_bundle_bytes is not None and settings.storage is not None:
        planned = {"storage": settings.storage}
    bounded = {"max_bundle_bytes": max_bundle_bytes, **planned}
    if phase == "search":
        options = dataclasses.asdict(settings.search_options)
        begun = {name: loop[name] for name in NO_WARM_START}
        searched = {**dataclasses.asdict(settings.search), **options, **begun}
        return {**searched, **planned, "seed": settings.seed}
    if phase in ("retrain", "verify"):
        retrain = settings.retrain.as_record()
        wish: dict[str, Any] = {"finalists": settings.has_finalists, "method": settings.method}
        if settings.keeps_shape:  # No phase before it has said what the model is.
            return {**model, **retrain, **loop, **bounded}
        if settings.model.searches_dims and settings.method == OPTEMBED:
            wish["pick"] = settings.pick
        seeds = {"verify_seeds": settings.verify_seeds} if phase == "verify" else {}
        return {**retrain, **loop, "retrain_from": settings.retrain_from, **wish, **seeds}
    if phase == "supernet":
        if settings.method != OPTEMBED:
            return {**model, **train, **loop, "method": settings.method}
        # Without a search it is here that rows are cut by the bytes of the bundle.
        return {**model, **train, **loop, **({} if settings.model.searches_dims else bounded)}
    if phase == "choose":
        limits = {
            name: getattr(settings.search_options, name)
            for name in ("max_table_parameters", "max_table_bytes")
            if settings.model.searches_dims
        }
        if max_bundle_bytes is not None:
            limits |= {"max_bundle_bytes": max_bundle_bytes, **planned}
        return {**model, **train, **loop, **limits, "method": settings.method}
    of_pruning = ("mode", *OF_PRUNING, "t_lr", "alpha")
    plain = {k: v for k, v in {**model, **train, **loop}.items() if k not in of_pruning}
    if phase == "tune":
        assert settings.tune is not None
        for strength in settings.tune.strengths:
            del plain[strength]
        return {**plain, **settings.tune.as_flags()}
    return plain


def run_phase(run: Run, phase: str) -> None:
    """Run a phase, unless it is finished with the same flags.

    Raises:
      InputError: it was run with other flags, or what it builds on is missing.
    """
    if phase == "tune" and run.settings.tune is None:
        raise InputError("say what to tune: --tune=rows")
    flags = phase_flags(phase, run.settings)
    rival = rival_of(run.settings.method)
    if run.workdir.check_flags(phase, flags):
        run.workdir.clear(phase)
        run.progress.say(f"{phase}  finished before; its result is in {run.workdir.path / phase}")
        return
    if phase not in phases_asked(run.settings):
        if phase == "verify":
            raise InputError("say over how many seeds to verify: --verify_seeds=N")
        if phase == "choose" and rival is None:
            raise InputError(
                f"method {run.settings.method!r} has no choose phase, in the place of which it has "
                f"supernet and search; say which method chooses: --method={'|'.join(RIVALS)}"
            )
        if rival is not None:
            raise InputError(f"method {run.settings.method!r} has no {phase} phase")
        raise InputError(f"mode {run.settings.model.mode!r} has no {phase} phase")
    if phase != "tune" and run.settings.tune is not None:
        run.workdir.require("tune", phase)
    if rival is not None and phase in ("choose", "retrain"):
        learned = ("baseline",) if rival.needs_baseline else ()
        learned = learned if rival.layer is None else ("supernet",)
        for before in ("choose",) if phase == "retrain" else learned:
            run.workdir.require(before, phase)
            run.workdir.check_flags(before, phase_flags(before, run.settings))
    builds = rival is None and not run.settings.keeps_shape
    if builds and phase in ("retrain", "verify") and run.settings.model.searches_dims:
        run.workdir.require("search", phase)
        run.workdir.check_flags("search", phase_flags("search", run.settings))
    if builds and phase in ("search", "retrain", "verify"):
        run.workdir.require("supernet", phase)
        run.workdir.check_flags("supernet", phase_flags("supernet", run.settings))
    if phase == "verify":
        run.workdir.require("retrain", phase)
        run.workdir.check_flags("retrain", phase_flags("retrain", run.settings))
    processes.stop_if_asked(f"the {phase} phase")
    started = time.monotonic()
    data = run.prepared
    folder = run.workdir.start(
        phase,
        flags,
        run.settings.dataset,
        data.fingerprint,
        data.options,
        run.settings.data_dir,
    )
    trained_under.note(folder)
    try:
        record = _PHASES[phase](run, folder)
    except InputError:
        run.workdir.withdraw(phase)
        raise
    record["versions"] = trained_under.noted(folder)
    record["seconds"] = round(time.monotonic() - started, 3)
    run.workdir.finish(phase, flags, record)
