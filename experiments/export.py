"""Export the model of a finished run as a bundle: small, verified, ready to serve.

    python -m experiments.export --workdir=DIR --bundle=OUT [--storage=int8]

All other flags are taken from the run.

    python -m experiments.export --refresh --bundle=OUT

writes the module of a bundle anew, when JAX does not take the old one any more.

    python -m experiments.export --bundle=OUT --format=onnx --output=model.onnx

writes a bundle again for another runtime.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import flags
from etils import epath

from experiments.run import bundle_flags, cli, model_flags, runs
from experiments.run import flags as project_flags
from experiments.run.compression_report import against_full
from experiments.run.exported import TOLD_OF_STORAGE, Exported, own_storage, served_of
from experiments.run.feature_report import with_saliency, worth_of
from experiments.run.fine_tuning import trained_further
from experiments.run.phases import phases_of
from experiments.run.sample_rows import write_sample
from experiments.run.trained import load_trained, model_in
from experiments.run.tune_phase import strengths_of
from experiments.run.warm_record import begun_with
from experiments.run.workdir import UNRECORDED, Workdir
from optembed_jax import metrics
from optembed_jax.errors import BudgetError, InputError
from optembed_jax.models.output_bias import of_all_rows
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.bundle_format import SUMS
from optembed_jax.serving.bundle_writer import (
    Provenance,
    is_tried,
    refresh_module,
    write_bundle,
)
from optembed_jax.serving.forward_module import PLATFORMS
from optembed_jax.storage.object_store import delivered, fetched, in_file_system, path_of
from optembed_jax.targets.registry import Target, target_of

flags.adopt_module_key_flags(project_flags)

CHECKED_ROWS = 2**13

_MEASURES = (metrics.auc, metrics.logloss)

_OF_A_RUN = (
    bundle_flags.STORAGE,
    bundle_flags.MAX_AUC_DROP,
    bundle_flags.MAX_BUNDLE_BYTES,
    bundle_flags.FINE_TUNE_STEPS,
    bundle_flags.PHASE,
    bundle_flags.FULL_IDS,
    bundle_flags.COUNTS,
    bundle_flags.SAMPLE,
)
_OF_A_MODULE = (bundle_flags.REFRESH, bundle_flags.PLATFORMS)
_OF_A_FORMAT = (bundle_flags.OUTPUT, bundle_flags.TAKES_IDS)


def main() -> None:
    """Write a run's model as a bundle, or of a bundle another form or its module anew."""
    if bundle_flags.FORMAT.value != "bundle":
        target = target_of(bundle_flags.FORMAT.value)
        _check_unused(f"--format={target.name}", *_OF_A_RUN, *_OF_A_MODULE)
        _write_as(target)
        return
    if bundle_flags.REFRESH.value:
        _check_unused("--refresh", *_OF_A_RUN, *_OF_A_FORMAT)
        _refresh(path_of(bundle_flags.required(bundle_flags.BUNDLE)))
        return
    _check_unused("--format=bundle", *_OF_A_FORMAT)
    _export()


def _export() -> None:
    """Load the run's last phase, compact it, write and verify the bundle, compare with the full."""
    workdir = project_flags.workdir()
    place = path_of(bundle_flags.required(bundle_flags.BUNDLE))
    summary = Workdir(workdir).summary()
    begun = begun_with(Workdir(workdir))
    warm = {} if begun is None else begun.given()
    # Where nothing is said of cells with several values there are none.
    # Its files are where they were, whatever the current folder.
    where = Workdir(workdir).data_flags()
    # What tuning decided it decides again; a group lasso of 0 would else say that an L2 was tuned.
    begun_by = {k: v for k, v in summary["flags"].items() if k not in strengths_of(summary)}
    project_flags.adopt({"multi": [], **UNRECORDED, **begun_by, **where, **warm})
    limit, storage = _limit(summary["flags"])
    # Nothing is trained here, so that what the run began with need not be there any more.
    run = runs.open_run(lambda settings: ())
    phase = _phase(phases_of(run.settings))
    result = run.workdir.require(phase, "export")
    model = model_in(run.settings, phase).in_float32
    trained = load_trained(run, phase)
    fields = run.prepared.fields
    params, index = trained.kept.compact(model, trained.params, fields)
    rate = run.settings.negative_rate
    if rate < 1:
        params = dataclasses.replace(params, network=of_all_rows(params.network, rate))
        run.progress.say(
            f"bundle  predicts all rows, though only --negative_rate={rate:g} of those without a "
            "click were trained on"
        )
    served = served_of(index, run.prepared, run.settings.model.pooling, bundle_flags.FULL_IDS.value)
    ids, labels = run.prepared.arrays("validation")
    recorded = {k: v for k, v in result.items() if k.endswith(("_auc", "_logloss", "_calibration"))}
    # Saliency is the supernet's: it says nothing of a baseline.
    supernet = [] if phase == "baseline" else summary.get("fields", [])
    provenance = Provenance(
        {"name": run.settings.dataset, "fingerprint": run.prepared.fingerprint},
        recorded,
        project_flags.given(summary["flags"]),
        worth_of(with_saliency(result["fields"], supernet)),
        run.settings.search_options.pad_for,
    )
    exported = Exported(
        model,
        params,
        trained.batch_stats,
        served,
        served.ids(ids),
        labels,
        run.prepared.weights_of("validation"),
        provenance,
        fields.num_features,
        served.counts(run.prepared.counts) if bundle_flags.COUNTS.value else None,
        own_storage(trained.kept, fields),
    )
    test_ids, test_labels = run.prepared.arrays("test")
    test_ids, weights = served.ids(test_ids), run.prepared.weights_of("test")
    chosen = exported.chosen(
        storage=storage,
        max_bytes=limit,
        max_drop=bundle_flags.MAX_AUC_DROP.value,
        platforms=_platforms(),
    )
    if chosen is not None:
        steps = bundle_flags.FINE_TUNE_STEPS.value
        exported, chosen = trained_further(run, exported, chosen, steps)
        chosen.check(bundle_flags.MAX_AUC_DROP.value)
        print(
            f"validation AUC  float32 {chosen.before:.6f}  stored {chosen.after:.6f}  "
            f"change {chosen.after - chosen.before:+.6f}"
        )
        print(exported.told(chosen.storage))
        scores = exported.logits(chosen.storage, test_ids)
        of_test = (measure(test_labels, scores, weights) for measure in _MEASURES)
        told = dict(zip(TOLD_OF_STORAGE, (chosen.before, chosen.after, *of_test), strict=True))
        provenance = dataclasses.replace(provenance, metrics=recorded | told)
    own = exported.own if chosen is None else chosen.storage
    live = exported.logits(own)
    with delivered(place, SUMS) as folder:
        bundle = write_bundle(
            folder,
            model,
            exported.params,
            exported.batch_stats,
            served.index,
            served.fields,
            storage=own,
            encoder=served.encoder,
            counts=exported.counts,
            provenance=provenance,
            check=(exported.ids[:CHECKED_ROWS], live[:CHECKED_ROWS]),
            full_rows=fields.num_features,
            platforms=_platforms(),
        )
        disk = sum(file.stat().st_size for file in folder.iterdir())
        if limit is not None and disk > limit:
            raise BudgetError(
                f"the bundle has {disk:,} bytes, more than --max_bundle_bytes={limit:,}"
            )
    run.progress.say(
        f"bundle  {place}  gives the live model's logits on {len(ids[:CHECKED_ROWS]):,} rows"
        f"{_untried()}"
    )
    if served.why_full is not None:
        run.progress.say(
            f"bundle  holds all {fields.num_features:,} values, pruned ones too: {served.why_full}"
        )
    found = metrics.auc(test_labels, bundle.logits(test_ids), weights)
    print(f"test AUC  {phase} model {result['test_auc']:.6f}  loaded bundle {found:.6f}")
    print(against_full(run, model, trained, bundle, (ids, exported.ids), disk))
    if bundle_flags.SAMPLE.value:
        rows = write_sample(run, in_file_system(bundle_flags.SAMPLE.value, "--sample"))
        run.progress.say(f"sample  {rows:,} raw rows in {bundle_flags.SAMPLE.value}")


def _limit(planned: Mapping[str, Any]) -> tuple[int | None, str | None]:
    """Bytes that the folder may have, and its storage: what is asked for here, or of the last phase
    what the run was planned for.

    The run itself is opened with what it was planned for.
    """
    limit, storage = bundle_flags.MAX_BUNDLE_BYTES, bundle_flags.STORAGE
    of_run = {} if bundle_flags.PHASE.value else planned
    asked = (
        limit.value if limit.present else of_run.get(limit.name),
        storage.value if storage.present else of_run.get(storage.name),
    )
    project_flags.plan_for(planned.get(limit.name), planned.get(storage.name))
    return asked


def _write_as(target: Target) -> None:
    """Write a bundle in another form, which is tried before it gets its name."""
    output = in_file_system(bundle_flags.required(bundle_flags.OUTPUT), "--output").absolute()
    source = path_of(bundle_flags.required(bundle_flags.BUNDLE))
    if output.is_dir() and not target.is_folder:
        raise InputError(f"--output={output} is a folder, and --format={target.name} a file")
    with fetched(source) as folder:
        if output == folder.absolute() or folder.absolute() in output.parents:
            raise InputError(f"--output={output} is in the bundle; write beside it")
        told = target.write(Bundle.load(folder), output, bundle_flags.TAKES_IDS.value)
    print(f"{target.name}  {output}  gives the bundle's logits; {told}")


def _refresh(target: epath.Path) -> None:
    """Write the module of a bundle anew; the bundle is replaced whole or not at all."""
    with fetched(target) as source, delivered(target, SUMS) as folder:
        own = model_flags.backbone() if ":" in model_flags.MODEL.value else None
        refresh_module(source, folder, _platforms(), backbone=own)
    print(f"bundle  {target}  module written anew by jax {jax.__version__}{_untried()}")


def _untried() -> str:
    """What to say of a module that does not run here."""
    platforms = _platforms()
    if is_tried(platforms):
        return ""
    return f"; its module, for {', '.join(platforms)}, was not tried here"


def _check_unused(what: str, *unused: flags.FlagHolder[Any]) -> None:
    """Refuses flags that were given and would have no effect."""
    for flag in unused:
        if flag.present:
            raise InputError(f"--{flag.name} has no effect with {what}; leave it out")


def _phase(phases: Sequence[str]) -> str:
    """The phase whose model is exported."""
    wanted = bundle_flags.PHASE.value
    if wanted is None:
        return phases[-1]
    if wanted not in (phases[0], phases[-1]):
        these = " or ".join(dict.fromkeys((phases[0], phases[-1])))
        raise InputError(f"--phase is {these} of this run, not {wanted!r}")
    return str(wanted)


def _platforms() -> list[str]:
    wanted = bundle_flags.PLATFORMS.value
    unknown = [name for name in wanted if name not in PLATFORMS]
    if unknown or not wanted:
        raise InputError(f"--platforms is some of {', '.join(PLATFORMS)}, not {','.join(wanted)!r}")
    return [name for name in PLATFORMS if name in wanted]


if __name__ == "__main__":
    cli.run(main, goes_on=False)
