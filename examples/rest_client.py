"""Samples and scores through TensorFlow Serving's REST interface, with Python's standard library alone.

python examples/rest_client.py --server=localhost:8501
python examples/rest_client.py --server=localhost:8501 --input=rows.json    # [[...], ...], in data units
python examples/rest_client.py --server=localhost:8501 --label=7            # of a conditional model
"""

import argparse
import json
import random
import urllib.error
import urllib.request


def call(server: str, model: str, signature: str, inputs: dict) -> dict:
    """One request in column format: every input whole, its first axis the batch."""
    body = json.dumps({"signature_name": signature, "inputs": inputs}).encode()
    return answer_of(server, f"{model}:predict", signature, body)["outputs"]


def answer_of(server: str, path: str, asked: str, body: bytes | None = None) -> dict:
    """What the server answers, POST with a body, else GET."""
    request = urllib.request.Request(
        f"http://{server}/v1/models/{path}", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{asked}: status {error.code}: {json.load(error)['error']}") from error
    except urllib.error.URLError as error:
        raise SystemExit(f"no server at {server}: {error.reason}") from error


def label_input(server: str, model: str, label: str) -> int | str:
    """A class as the model takes it, whole number or text; its signature tells which."""
    metadata = answer_of(server, f"{model}/metadata", "metadata")["metadata"]
    inputs = metadata["signature_def"]["signature_def"]["log_prob"]["inputs"]
    if "label" not in inputs:
        raise SystemExit("--label is for conditional models: this one takes none")
    if inputs["label"]["dtype"] == "DT_STRING":
        return label
    try:
        return int(label)
    except ValueError:
        raise SystemExit(f"--label must be a whole number for this model, got {label}") from None


def main() -> None:
    """Draws a batch, then scores it or the rows of a file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--server", default="localhost:8501", help="host:port of the REST interface"
    )
    parser.add_argument("--model", default="nice")
    parser.add_argument("--input", help="JSON file with a batch to score instead of the samples")
    parser.add_argument("--num_samples", type=int, default=4)
    parser.add_argument("--label", help="class of a conditional model, of all rows")
    arguments = parser.parse_args()
    label = None
    if arguments.label is not None:
        label = label_input(arguments.server, arguments.model, arguments.label)

    def with_label(inputs: dict) -> dict:
        if label is None:
            return inputs
        number = len(next(iter(inputs.values())))
        return {**inputs, "label": [label] * number}

    # A sample is a function of its row's seed: keep the seed to get the same sample again.
    seeds = [[0, random.getrandbits(31)] for _ in range(arguments.num_samples)]
    drawn = call(
        arguments.server,
        arguments.model,
        "sample",
        with_label({"seed": seeds, "temperature": [1.0] * arguments.num_samples}),
    )
    for seed, log_prob in zip(seeds, drawn["log_prob"], strict=True):
        print(f"sample of seed {seed}: log_prob {log_prob:.3f}")
    x = drawn["x"]
    if arguments.input:
        with open(arguments.input) as file:
            x = json.load(file)
    scores = call(arguments.server, arguments.model, "log_prob", with_label({"x": x}))
    # With a single output the server leaves its name out; here there are always two or three.
    for row in range(len(x)):
        print(
            f"row {row}:",
            ", ".join(f"{name} {values[row]:.3f}" for name, values in sorted(scores.items())),
        )


if __name__ == "__main__":
    main()
