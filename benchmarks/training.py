"""Speed of a training step beside other flow libraries and beside its matrix products alone, on the same cores in turn.

    python benchmarks/training.py
    python benchmarks/training.py --only=nice_tf-float32,torch-float32 --event_size=3072 --hidden=2000   # a cost curve

All train NICE with the paper's MNIST architecture (or the sizes given) on random 8-bit integers, with fresh
dequantization noise in each step, by Adam. `compiled` means XLA or torch.compile with the fused Adam; bfloat16 is the
precision of the products in m. `start` runs from no process to the end of the first step. Needs the extra `bench`.
"""

import contest
import numpy as np
from contest import FLOWS, PEERS, ROOFS, Contestant

NUM_BATCHES = 10


def prepare(contestant, shape, batch):
    """The step of a contestant, on data of its own."""
    values = np.random.default_rng(0).integers(
        0, 256, [NUM_BATCHES * batch, shape.event_size], np.uint8
    )
    return {"step": contest.make(contestant, shape).training_step(values, batch)}


def ratios(results):
    """The figures of the goals: each the ratio, which of ours, and against whom."""
    # Here, since a contestant's process imports this module: PyTorch 2.14 crashes beside TensorFlow.
    from nice_tf.training.devices import choose_precision

    precision = choose_precision("auto")
    default = [Contestant("nice_tf", precision)]
    float32 = [peer for peer in PEERS if peer.precision == "float32"]
    roofs = [roof for roof in ROOFS if roof.precision == precision]
    return {
        "default_vs_fastest_peer": contest.ratio(results, default, PEERS, "step"),
        "default_vs_eager_float32": contest.ratio(results, default, [Contestant("torch")], "step"),
        "float32_vs_fastest_float32_peer": contest.ratio(
            results, [Contestant("nice_tf")], float32, "step"
        ),
        "default_vs_matmul_roof": contest.ratio(results, default, roofs, "step"),
    }


def main() -> None:
    """Measures in turn and prints the table."""
    options = contest.parser(__doc__)
    options.add_argument("--batch", type=int, default=200)
    arguments = options.parse_args()
    shape = contest.architecture(arguments)
    contestants = contest.chosen(arguments, FLOWS + ROOFS)
    args = (shape, arguments.batch)
    results = contest.hold(
        contestants, prepare, args, ["step"], rounds=arguments.rounds, seconds=arguments.seconds
    )

    flops = shape.training_flops(arguments.batch)
    print(
        f"\n{shape}, {shape.num_parameters:,} parameters, batch {arguments.batch}, "
        f"{flops / 1e9:.1f} GFLOP per step"
    )
    print(
        f"{'':>26} {'images/s':>9} {'min':>7} {'max':>7} {'ms/step':>8} {'GFLOP/s':>8} "
        f"{'peak MB':>8} {'start s':>8}"
    )
    for name, result in results.items():
        if "rates" in result:
            rates = np.array(result["rates"]["step"])
            result["examples_per_second"] = float(np.median(rates) * arguments.batch)
            low, middle, high = np.quantile(rates, [0, 0.5, 1]) * arguments.batch
            print(
                f"{name:>26} {middle:9.0f} {low:7.0f} {high:7.0f} {1e3 / np.median(rates):8.1f} "
                f"{np.median(rates) * flops / 1e9:8.0f} {result['peak_rss_mb']:8.0f} "
                f"{result['start_s']:8.1f}"
            )
    figures = ratios(results)
    print()
    for name, (value, ours, other) in figures.items():
        print(f"{name:>32} " + (f"{value:.2f} ({ours} to {other})" if value else "not measured"))
    contest.write_json(
        arguments.json,
        arguments,
        parameters=shape.num_parameters,
        flops_per_step=flops,
        contestants=results,
        ratios={name: value for name, (value, _, _) in figures.items()},
        against={name: names for name, (_, *names) in figures.items()},
    )


if __name__ == "__main__":
    main()
