"""A run's settings: what all flags say, in the library's terms, and checked."""

import dataclasses
from pathlib import Path

from experiments.run.event_files import check_installed
from experiments.run.pick import check_pick
from experiments.run.preemption import every
from experiments.run.profiled_steps import steps_of
from experiments.run.search_options import SearchOptions
from experiments.run.tune_options import TuneOptions
from experiments.run.warm_options import WarmOptions
from optembed_jax.data.options import DataOptions
from optembed_jax.devices.choice import EXCHANGES, PARALLELISMS
from optembed_jax.errors import InputError
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.rivals.registry import OPTEMBED, rival_of
from optembed_jax.search.dimension_rules import DIMENSION_RULES
from optembed_jax.search.loop import SearchConfig
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.table.quantize import STORAGES
from optembed_jax.training.early_stopping import EarlyStopping


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that the flags say, as the library understands it.

    Attributes:
      dataset: name of the data set.
      data: how it is prepared.
      data_dir: where it is kept.
      model, train, search: of the method.
      search_options: what is searched for.
      batch_size, epochs, patience: of the training loop.
      early_stop_by, early_stop_errors: as ``EarlyStopping`` has them.
      init_output: ``click_rate`` or ``random``: what models predict before they are trained.
      calibrate: whether a trained model's mean prediction is put right, over the training rows.
      negative_rate: share of the rows without a click that the data have, in (0, 1].
      seed: of the run.
      retrain_from: ``supernet`` or ``fresh``.
      candidates_per_pass: of the search.
      retrain_group_lasso: of the retraining; None is ``train.group_lasso``.
      parallelism: how steps are spread over devices, see ``choice.choose``.
      exchange: how rows that are sharded come to who reads them, likewise.
      checkpoint_every: how often training is saved, as :func:`preemption.every` takes it.
      profile_steps: which steps of a training are traced, as ``profiled_steps.steps_of`` takes it.
      tensorboard: whether epochs are written as event files, too.
      deterministic: whether a GPU is to sum in a fixed order.
      pick: which table of a front to retrain, as ``pick.pick`` reads it.
      finalists: whether what is retrained has to validate better than what else is there.
      verify_seeds: seeds to verify the search with; 0 does not.
      method: ``optembed``, or the rival that chooses what is kept, as ``rivals.registry`` names
        it; ``model.mode`` is then the rival's.
      storage: in how many bits the run's bundle is planned, and exported where nothing else is
        asked for; None leaves the plan 4 bits and the export its default.
      warm: the earlier run or bundle that this one begins with; None begins from nothing.
      tune: the strengths of the rows' regulariser to try first; None trains with the one given.

    Raises:
      InputError: a value outside its range.
    """

    dataset: str
    data: DataOptions
    data_dir: Path
    model: ModelConfig
    train: TrainConfig
    search: SearchConfig
    batch_size: int
    epochs: int
    patience: int
    seed: int
    retrain_from: str
    candidates_per_pass: int
    retrain_group_lasso: float | None = None
    checkpoint_every: str = "300s"
    profile_steps: str | None = None
    deterministic: bool = False
    tensorboard: bool = False
    search_options: SearchOptions = dataclasses.field(default_factory=SearchOptions)
    pick: str = "best"
    finalists: bool = True
    verify_seeds: int = 0
    tune: TuneOptions | None = None
    method: str = OPTEMBED
    parallelism: str = "auto"
    exchange: str = "auto"
    early_stop_by: str = "auc"
    early_stop_errors: float = 3.0
    init_output: str = "click_rate"
    calibrate: bool = True
    negative_rate: float = 1.0
    warm: WarmOptions | None = None
    storage: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "patience", "candidates_per_pass"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.negative_rate <= 1:
            raise InputError(
                "negative_rate is the share of the rows without a click that was kept, in (0, 1], "
                f"not {self.negative_rate}"
            )
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed must be in 0..2**32 - 1, not {self.seed}")
        if self.retrain_from not in ("supernet", "fresh"):
            raise InputError(
                f"retrain_from must be one of supernet, fresh, not {self.retrain_from!r}"
            )
        if self.retrain_group_lasso is not None and not self.retrain_group_lasso >= 0:
            raise InputError(
                f"retrain_group_lasso must be at least 0, not {self.retrain_group_lasso}"
            )
        if self.train.schedule is not None:
            for epoch in range(1, self.epochs + 1):
                self.train.schedule.factor(epoch)
        if self.tune is not None and self.tune.rows < self.batch_size:
            raise InputError(
                f"tune_rows must make a batch at least, of batch_size={self.batch_size}, and is "
                f"{self.tune.rows}"
            )
        if self.init_output not in ("click_rate", "random"):
            raise InputError(
                f"init_output must be one of click_rate, random, not {self.init_output!r}"
            )
        if self.storage not in (None, "auto", *STORAGES):
            raise InputError(
                f"storage must be one of {', '.join(STORAGES)} or auto, not {self.storage!r}"
            )
        self._check_warm()
        _ = self.stopping
        every(self.checkpoint_every)
        steps_of(self.profile_steps)
        if self.tensorboard:
            check_installed()
        check_pick(self.pick)
        if self.verify_seeds < 0:
            raise InputError(f"verify_seeds must be at least 0, not {self.verify_seeds}")
        if self.verify_seeds and not self.model.searches_dims:
            raise InputError(
                f"verify_seeds checks a search, and mode {self.model.mode!r} has none; use mode "
                "all or embed"
            )
        self._check_method()
        if self.parallelism not in PARALLELISMS:
            raise InputError(
                f"parallelism must be one of {', '.join(PARALLELISMS)}, not {self.parallelism!r}"
            )
        if self.exchange not in EXCHANGES:
            raise InputError(
                f"exchange must be one of {', '.join(EXCHANGES)}, not {self.exchange!r}"
            )

    def _check_method(self) -> None:
        rival = rival_of(self.method)
        if rival is None:
            return
        if self.model.mode != rival.mode:
            raise InputError(
                f"method={self.method} is of mode {rival.mode}, not {self.model.mode!r}; leave out "
                "--mode"
            )
        if self.model.learns_thresholds:
            raise InputError(
                f"method={self.method} keeps to a budget; leave out "
                f"--mode_threshold={self.model.mode_threshold}"
            )
        of_a_search = {
            "search": self.search_options.search != "auto",
            "keep_rates": bool(self.search_options.keep_rates),
            "pad_dims_to": self.search_options.pad_dims_to != 1,
            "pad_for": self.search_options.pad_for is not None,
            "pick": self.pick != "best",
            "verify_seeds": self.verify_seeds > 0,
            "warm_start": self.warm is not None,
            "row_score": self.model.row_score is not None,
        }
        has_own_form = rival.kept.storage != "float32"
        if has_own_form and self.storage not in (None, "auto", "float32"):
            raise InputError(
                f"method={self.method} stores its rows in a form of its own, "
                f"{rival.kept.storage}; leave out --storage={self.storage}"
            )
        for name, is_given in of_a_search.items():
            if is_given:
                raise InputError(
                    f"--{name} has no effect with --method={self.method}; leave it out"
                )

    def _check_warm(self) -> None:
        if self.warm is None:
            return
        if self.retrain_from == "fresh":
            raise InputError("retrain_from=fresh begins from nothing, and warm_start does not")
        if self.tune is not None:
            raise InputError("tune tries strengths on fresh models, and warm_start has none")
        if self.warm.keep_shape and self.model.mode == "none":
            raise InputError(
                "keep_shape keeps rows and dimensions, of which mode none chooses none"
            )
        if self.warm.keep_shape and self.verify_seeds:
            raise InputError("verify_seeds checks a search, and keep_shape has none")
        if self.warm.row_memory and (self.keeps_shape or not self.model.has_row_budget):
            why = "keep_shape keeps" if self.keeps_shape else "without a budget thresholds choose"
            raise InputError(f"row_memory has no effect: {why} the rows; leave it out")

    @property
    def stopping(self) -> EarlyStopping:
        """What an epoch is judged by."""
        return EarlyStopping(self.early_stop_by, self.early_stop_errors)

    @property
    def has_finalists(self) -> bool:
        """``finalists``, where there is something else to keep.

        The simple rules are, where a search has a winner that may be wrong; but the paper's search
        retrains its winner alone, and so does a simple rule that was asked for. Where nothing is
        searched the supernet is, if only a budget cut it, after training.
        """
        if self.method != OPTEMBED:
            return False  # It stands for itself.
        if self.keeps_shape:
            return False
        if not self.model.searches_dims:
            return self.finalists and self.model.has_row_budget
        searched = self.search_options.strategy not in ("paper", *DIMENSION_RULES)
        return self.finalists and searched

    @property
    def keeps_shape(self) -> bool:
        """Whether an earlier run's rows and dimensions stay."""
        return self.warm is not None and self.warm.keep_shape

    @property
    def retrain(self) -> TrainConfig:
        """``train``, as the retraining has it."""
        if self.retrain_group_lasso is None:
            return self.train
        return dataclasses.replace(self.train, group_lasso=self.retrain_group_lasso)
