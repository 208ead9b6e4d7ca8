"""Speed of log_prob and sample of the in-process flow beside other flow libraries, on the same cores in turn.

    python benchmarks/sampling.py
    python benchmarks/sampling.py --only=nice_tf-float32,torch-float32 --rounds=3

The paper's MNIST architecture (or the sizes given) with random weights, at batch 1, 100 and 1000, from and to arrays of
NumPy; ours and TFP's under `tf.function`. `compiled` means XLA or torch.compile; bfloat16 is the precision of the
products in m. An exported model has a benchmark of its own, `serving.py`. Needs the extra `bench`.
"""

import contest
import numpy as np
from contest import FLOWS, OURS, PEERS, Contestant

BATCHES = (1, 100, 1000)
OPERATIONS = ("log_prob", "sample")
KEYS = [f"{operation}_{batch}" for operation in OPERATIONS for batch in BATCHES]


def prepare(contestant, shape):
    """A call for each operation and batch of a contestant."""
    model = contest.make(contestant, shape)
    calls = [getattr(model, operation)(batch) for operation in OPERATIONS for batch in BATCHES]
    return dict(zip(KEYS, calls, strict=True))


def ratios(results, key):
    """Each the ratio, which of ours, and against whom; "default" is `tf.function` alone, in
    float32.
    """
    default, eager = [Contestant("nice_tf")], [Contestant("torch")]
    float32 = [peer for peer in PEERS if peer.precision == "float32"]
    return {
        "default_vs_eager_float32": contest.ratio(results, default, eager, key),
        "default_vs_fastest_float32_peer": contest.ratio(results, default, float32, key),
        "fastest_vs_fastest_peer": contest.ratio(results, OURS, PEERS, key),
    }


def main() -> None:
    """Measures in turn and prints the tables."""
    arguments = contest.parser(__doc__).parse_args()
    shape = contest.architecture(arguments)
    contestants = contest.chosen(arguments, FLOWS)
    results = contest.hold(
        contestants, prepare, (shape,), KEYS, rounds=arguments.rounds, seconds=arguments.seconds
    )

    print(
        f"\n{shape}, {shape.num_parameters:,} parameters; examples per second, median of "
        f"{arguments.rounds} rounds"
    )
    print(f"{'':>26}" + "".join(f" {key:>13}" for key in KEYS) + f" {'peak MB':>8}")
    batch = {f"{operation}_{batch}": batch for operation in OPERATIONS for batch in BATCHES}
    for name, result in results.items():
        if "rates" in result:
            medians = {
                key: float(np.median(rates) * batch[key]) for key, rates in result["rates"].items()
            }
            result["examples_per_second"] = medians
            print(f"{name:>26}" + "".join(f" {rate:13,.0f}" for rate in medians.values()), end="")
            print(f" {result['peak_rss_mb']:8.0f}")
    figures = {key: ratios(results, key) for key in KEYS}
    for name in figures[KEYS[0]]:
        print(f"\n{name}")
        for key in KEYS:
            value, ours, other = figures[key][name]
            print(f"{key:>26} " + (f"{value:.2f} ({ours} to {other})" if value else "not measured"))
    contest.write_json(
        arguments.json,
        arguments,
        contestants=results,
        ratios={
            key: {name: value for name, (value, _, _) in named.items()}
            for key, named in figures.items()
        },
        against={
            key: {name: names for name, (_, *names) in named.items()}
            for key, named in figures.items()
        },
    )


if __name__ == "__main__":
    main()
