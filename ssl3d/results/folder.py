"""The folder of a run: the location and name of each of its files. Loads no torch.

Stores, encoders, features and learning rates may lie in a cache folder shared by runs; evaluations and tables belong to
the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ssl3d.errors import RunError
from ssl3d.files import CHECKPOINT, LOG
from ssl3d.results.model import ArtifactRecord, EncoderRecord, EvaluationRecord, FeaturesRecord
from ssl3d.results.rate_record import RateRecord

PLAN, RECIPE = "plan.json", "recipe.toml"
WEIGHTS, MODEL_CARD = "encoder.safetensors", "README.md"
FEATURES = "features.npz"
PREDICTIONS, TRAINING = "predictions.csv", "training.csv"
FAILURE, ERROR = "failure.json", "error.txt"
LEADERBOARD, LEADERBOARD_MD, COMPARISONS = "leaderboard.csv", "leaderboard.md", "comparisons.csv"
EVALUATIONS, CURVES, SCORES = "evaluations.csv", "curves.csv", "scores.csv"
SUMMARY, WINS, REPORT = "summary.csv", "wins.csv", "report.html"
TABLES = (LEADERBOARD, LEADERBOARD_MD, COMPARISONS, EVALUATIONS, CURVES, SCORES, SUMMARY, WINS, REPORT)
RECORDS: dict[type[ArtifactRecord], str] = {
    EncoderRecord: "encoder.json",
    FeaturesRecord: "features.json",
    RateRecord: "rate.json",
    EvaluationRecord: "evaluation.json",
}
ARTIFACT_FILES = (  # in an artifact's folder; deleted by a fresh start
    *RECORDS.values(),
    *(WEIGHTS, MODEL_CARD, FEATURES, PREDICTIONS, TRAINING, FAILURE, ERROR, CHECKPOINT, LOG),
)
SHORT = 10  # digits of a key in a folder's name


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run.

    Attributes:
        path: path of the run.
        cache: folder of stores, encoders, features and learning rates shared by runs; None keeps them in the run.
    """

    path: Path
    cache: Path | None = None

    @property
    def shared(self) -> Path:
        """Parent folder of stores, encoders, features and learning rates."""
        return self.cache or self.path

    @property
    def plan(self) -> Path:
        """File of the planned artifacts: plan.json."""
        return self.path / PLAN

    @property
    def recipe(self) -> Path:
        """File of the request: recipe.toml."""
        return self.path / RECIPE

    @property
    def stores(self) -> Path:
        """Folder of packed volumes, one folder per data set and plane."""
        return self.shared / "stores"

    @property
    def encoders(self) -> Path:
        """Folder of encoders."""
        return self.shared / "encoders"

    @property
    def features(self) -> Path:
        """Folder of features."""
        return self.shared / "features"

    @property
    def rates(self) -> Path:
        """Folder of chosen learning rates."""
        return self.shared / "rates"

    @property
    def evaluations(self) -> Path:
        """Folder of evaluations: DATASET-TASK/METHOD-BACKBONE-sSEED-PROTOCOL-KEY."""
        return self.path / "evaluations"

    @property
    def leases(self) -> Path:
        """Folder of leases on evaluations."""
        return self.path / "leases"

    @property
    def shared_leases(self) -> Path:
        """Folder of leases on encoders, features and learning rates."""
        return self.shared / "leases"

    def require_real(self) -> None:
        """Raise RunError if one of its folders is a symbolic link, through which files would be written elsewhere."""
        own, shared = (self.evaluations, self.leases), (self.stores, self.encoders, self.features, self.rates)
        for folder in (*own, *shared, self.shared_leases):
            _require_real(folder)

    def folder_of(self, kind: type[ArtifactRecord], name: str) -> Path:
        """Return the folder of an artifact.

        Raises:
            RunError: it, or a folder between it and the run, is a symbolic link, which could lead anywhere.
        """
        parents: dict[type[ArtifactRecord], Path] = {
            EncoderRecord: self.encoders,
            FeaturesRecord: self.features,
            RateRecord: self.rates,
            EvaluationRecord: self.evaluations,
        }
        parent = parents[kind]
        folder = place = parent / name
        _require_real(place)
        while place != parent:
            place = place.parent
            _require_real(place)
        return folder


def _require_real(folder: Path) -> None:
    if folder.is_symlink():
        raise RunError(
            f"{folder} is a symbolic link, which is not followed; replace it by a folder, or keep what runs share "
            "elsewhere with --cache"
        )


def require_run(run: Path) -> None:
    """Raise RunError if a folder is not a run's folder."""
    if not (run / PLAN).is_file():
        raise RunError(f"{run} is not a run folder (it has no {PLAN}); name a folder that `ssl3d bench` wrote")
