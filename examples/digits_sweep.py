"""Sweep models over scikit-learn's 1,797 handwritten digits: a table and a plot.

    python examples/digits_sweep.py
    python examples/digits_sweep.py --executor sequential
    python examples/digits_sweep.py --config examples/digits.toml --output output/cached

Every model is tried at three levels of capacity with two ways to scale the pixels. Each candidate
is cross-validated on the training part, then fitted to all of it and scored once on the test part.

Three candidates fail, and that is part of the show: multinomial naive Bayes counts, so it refuses
the negative values that standardised pixels have. The failures have their place in the table and in
the plot; all other candidates are there as well.
"""

import argparse
import os
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The executor is what runs things side by side here. Matrix libraries that open threads of their
# own inside each fit would only get in its way; they read this when they are first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

from hypernodes import Failure, Pipeline, RuntimeConfig, node

Array = NDArray[Any]
Fold = tuple[Array, Array]
"""Row numbers: those to fit, those to check."""


# --- The grid -----------------------------------------------------------------------------------


LEVELS = ("low", "medium", "high")


class Model:
    """A family of models with the parameter that sets its capacity.

    Models have different parameters, so a product over parameters would make no sense. A product
    over levels does: each model has one setting for each of them.
    """

    def __init__(
        self, make: Callable[..., Any], parameter: str, settings: Sequence[Any], **fixed: Any
    ) -> None:
        self.make = make
        self.parameter = parameter
        self.settings = dict(zip(LEVELS, settings, strict=True))
        self.fixed = fixed

    def build(self, level: str) -> Any:
        """Make a model that is not fitted yet."""
        return self.make(**{self.parameter: self.settings[level]}, **self.fixed)

    def describe(self, level: str) -> str:
        """Say in short what `level` sets."""
        return f"{self.parameter}={self.settings[level]}"


# Enough iterations for every candidate to converge: a convergence warning would be a wrong setting.
MODELS = {
    "logistic regression": Model(LogisticRegression, "C", (0.001, 0.03, 1.0), max_iter=2000),
    "k nearest neighbours": Model(KNeighborsClassifier, "n_neighbors", (31, 7, 1)),
    "support vectors": Model(SVC, "C", (0.05, 0.5, 10.0)),
    "random forest": Model(RandomForestClassifier, "max_depth", (4, 8, None), random_state=0),
    "naive Bayes": Model(MultinomialNB, "alpha", (100.0, 1.0, 0.01)),
    "neural network": Model(
        MLPClassifier, "hidden_layer_sizes", (16, 32, 96), max_iter=1500, random_state=0
    ),
}

SCALERS = {"range": MinMaxScaler, "standard": StandardScaler}


# --- The data, once -----------------------------------------------------------------------------


@node(output_name=("images", "labels"))
def load() -> tuple[Array, Array]:
    """Load 1,797 images of 8 x 8 pixels, one image per row."""
    return load_digits(return_X_y=True)


@node(output_name=("train_images", "test_images", "train_labels", "test_labels"))
def split(images: Array, labels: Array) -> list[Array]:
    """Keep a quarter for the test."""
    return train_test_split(images, labels, test_size=0.25, stratify=labels, random_state=0)


@node(output_name="folds")
def cut_folds(train_images: Array, train_labels: Array, fold_count: int) -> list[Fold]:
    """Cut the training part: each fold is checked with a model that has not seen it."""
    folds = StratifiedKFold(fold_count, shuffle=True, random_state=0)
    return list(folds.split(train_images, train_labels))


data = Pipeline([load, split, cut_folds], name="data")


# --- One trial: fit here, check there -------------------------------------------------------------


@node(output_name=("fit_scaled", "check_scaled"))
def scale(fit_images: Array, check_images: Array, scaling: str) -> tuple[Array, Array]:
    """Learn the scale from what is fitted, never from what is checked."""
    scaler = SCALERS[scaling]()
    return scaler.fit_transform(fit_images), scaler.transform(check_images)


@node(output_name=("trained", "seconds"))
def train(
    fit_scaled: Array, fit_labels: Array, model: str, level: str
) -> tuple[ClassifierMixin, float]:
    """Fit the model, and take the time."""
    started = time.perf_counter()
    trained = MODELS[model].build(level).fit(fit_scaled, fit_labels)
    return trained, time.perf_counter() - started


@node(output_name="accuracy")
def evaluate(trained: ClassifierMixin, check_scaled: Array, check_labels: Array) -> float:
    """Score the model on what it has not seen."""
    return float(trained.score(check_scaled, check_labels))


trial = Pipeline([scale, train, evaluate], name="trial")


# --- One candidate: a trial for each fold, and one for the test -----------------------------------


@node(output_name=("fit_images", "fit_labels", "check_images", "check_labels"))
def take_fold(train_images: Array, train_labels: Array, fold: Fold) -> tuple[Array, ...]:
    """Take the rows of one fold."""
    fit, check = fold
    return train_images[fit], train_labels[fit], train_images[check], train_labels[check]


@node(output_name=("cv_mean", "cv_std", "total_seconds"))
def summarise(
    fold_accuracies: list[float], fold_seconds: list[float], final_seconds: float
) -> tuple[float, float, float]:
    """Put the folds into two numbers, and add up the time of all fits."""
    mean, std = np.mean(fold_accuracies), np.std(fold_accuracies)
    return float(mean), float(std), sum(fold_seconds) + final_seconds


# The trial is nested twice. For the folds it is mapped, and each output is a list outside ...
cross_validation = Pipeline([take_fold, trial], name="cross_validation").as_node(
    input_mapping={"folds": "fold"},
    output_mapping={"accuracy": "fold_accuracies", "seconds": "fold_seconds"},
    map_over="folds",
)
# ... and for the test it runs once, on all of the training part.
final = trial.as_node(
    input_mapping={
        "train_images": "fit_images",
        "train_labels": "fit_labels",
        "test_images": "check_images",
        "test_labels": "check_labels",
    },
    output_mapping={"accuracy": "test_accuracy", "seconds": "final_seconds"},
    name="final",
)
candidate = Pipeline([cross_validation, final, summarise], name="candidate")


# --- The sweep ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A candidate's line in the table."""

    model: str
    setting: str
    scaling: str
    cv_mean: float = 0.0
    cv_std: float = 0.0
    test_accuracy: float = 0.0
    seconds: float = 0.0
    error: str | None = None


def sweep(
    models: Sequence[str], levels: Sequence[str], fold_count: int, config: RuntimeConfig
) -> list[Row]:
    """Try all candidates; the best comes first, those that failed come last."""
    # Loading and splitting happen here, once. What comes of it is shared by all candidates.
    shared = data.run(
        {"fold_count": fold_count},
        output_name=("train_images", "test_images", "train_labels", "test_labels", "folds"),
        config=config,
    )

    grid = {"model": models, "level": levels, "scaling": list(SCALERS)}
    results = candidate.map(
        {**shared, **grid},
        map_over=tuple(grid),
        map_mode="product",
        output_name=("cv_mean", "cv_std", "total_seconds", "test_accuracy"),
        config=config,
        on_error="return",  # a failed candidate must not cost the others
    )
    # A product varies its last name fastest, as these loops do.
    combinations = [(m, level, s) for m in models for level in levels for s in SCALERS]
    rows = [
        to_row(*combination, result)
        for combination, result in zip(combinations, results, strict=True)
    ]
    return sorted(rows, key=lambda row: (row.error is not None, -row.cv_mean, row.cv_std))


def to_row(name: str, level: str, scaling: str, result: dict[str, Any] | Failure) -> Row:
    """Turn a result, or what stands in its place, into a line."""
    setting = MODELS[name].describe(level)
    if isinstance(result, Failure):
        error = f"{result.node}: {type(result.error).__name__}: {result.error}"
        return Row(name, setting, scaling, error=" ".join(error.split()))
    return Row(
        name,
        setting,
        scaling,
        cv_mean=result["cv_mean"],
        cv_std=result["cv_std"],
        test_accuracy=result["test_accuracy"],
        seconds=result["total_seconds"],
    )


# --- What people look at ------------------------------------------------------------------------


def print_table(rows: Sequence[Row]) -> None:
    """Print a line for each candidate; accuracies in percent."""
    print(f"{'model':<21} {'setting':<22} {'scaling':<9} {'CV %':>13} {'test %':>7} {'fit s':>7}")
    for row in rows:
        line = f"{row.model:<21} {row.setting:<22} {row.scaling:<9}"
        if row.error is None:
            score = f"{row.cv_mean * 100:.2f} ± {row.cv_std * 100:.2f}"
            print(f"{line} {score:>13} {row.test_accuracy * 100:>7.2f} {row.seconds:>7.2f}")
        else:
            print(f"{line} failed in {row.error}")


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw the table: the best on top, the folds' spread as bars, one colour for each model."""
    palette = dict(zip(MODELS, colormaps["tab10"].colors, strict=False))
    heights = range(len(rows), 0, -1)
    worst = min((100 * (row.cv_mean - row.cv_std) for row in rows if row.error is None), default=0)

    # A figure of its own, without pyplot, draws to files and needs no screen.
    figure = Figure(figsize=(10, 1.6 + 0.27 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(heights, [f"{r.model},  {r.setting},  {r.scaling}" for r in rows], fontsize=9)
    for height, row, label in zip(heights, rows, axes.get_yticklabels(), strict=True):
        colour = palette[row.model] if row.error is None else "dimgrey"
        label.set_color(colour)
        if row.error is None:
            mean, spread, test = 100 * row.cv_mean, 100 * row.cv_std, 100 * row.test_accuracy
            axes.errorbar(mean, height, xerr=spread, fmt="o", color=colour, capsize=3)
            axes.plot(test, height, "D", color=colour, mfc="white", markersize=5, zorder=3)
        else:
            text = textwrap.shorten(f"failed in {row.error}", 90, placeholder=" ...")
            axes.text(worst, height, text, color=colour, fontsize=8, va="center")

    # The legend explains the two marks; the colours are explained by the labels.
    nan = [np.nan]
    axes.errorbar(nan, nan, xerr=nan, fmt="o", color="black", capsize=3, label="folds, mean ± std")
    axes.plot(nan, nan, "D", color="black", mfc="white", markersize=5, label="test part")
    axes.legend(loc="upper left", frameon=False)

    axes.set_title("Handwritten digits: which model, which setting, which scaling?", loc="left")
    axes.set_xlabel("accuracy in %")
    axes.set_ylim(0.4, len(rows) + 0.6)
    axes.grid(axis="x", color="0.9")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; `config` is ready to use."""
    parser = argparse.ArgumentParser(description="Sweep models over handwritten digits.")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--executor", default="thread", help="a short name: sequential, thread, ...")
    how.add_argument("--config", type=Path, help="a TOML file with a runtime config")
    parser.add_argument("--output", type=Path, default=Path("output"), help="where the plot goes")
    parser.add_argument("--quick", action="store_true", help="two models, one level, three folds")
    options = parser.parse_args(arguments)
    try:
        options.config = (
            RuntimeConfig.from_file(options.config)
            if options.config
            else RuntimeConfig(executor=options.executor)
        )
    except (ValueError, OSError, ImportError) as error:  # a typing error deserves no traceback
        parser.error(str(error))
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Sweep, print the table, draw the plot."""
    options = parse_arguments(arguments)
    models = ["logistic regression", "naive Bayes"] if options.quick else list(MODELS)
    levels = LEVELS[1:2] if options.quick else LEVELS

    started = time.perf_counter()
    rows = sweep(models, levels, 3 if options.quick else 5, options.config)
    seconds = time.perf_counter() - started

    print_table(rows)
    failed = sum(row.error is not None for row in rows)
    executor = type(options.config.executor).__name__
    print(f"\n{len(rows) - failed} candidates worked, {failed} failed: {seconds:.1f} s, {executor}")

    path = options.output / "digits.png"
    plot(rows, path)
    print(f"The plot is in {path}")


if __name__ == "__main__":
    main()
