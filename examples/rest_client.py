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


def signatures_of(server: str, model: str) -> dict:
    """What the model can be asked, by name, with its inputs."""
    metadata = answer_of(server, f"{model}/metadata", "metadata")["metadata"]
    return metadata["signature_def"]["signature_def"]


def row_input(inputs: dict) -> str:
    """The input that holds the rows."""
    names = [name for name in inputs if name != "label"]
    if len(names) != 1:
        raise SystemExit(f"this model takes {', '.join(names)}: this client sends rows alone")
    return names[0]


def label_input(inputs: dict, label: str) -> int | str:
    """A class as the model takes it, whole number or text; its signature tells which."""
    if "label" not in inputs:
        raise SystemExit("--label is for conditional models: this one takes none")
    if inputs["label"]["dtype"] == "DT_STRING":
        return label
    try:
        return int(label)
    except ValueError:
        raise SystemExit(f"--label must be a whole number for this model, got {label}") from None


def main() -> None:
    """Scores the rows of a file, or a batch that the model draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--server", default="localhost:8501", help="host:port of the REST interface"
    )
    parser.add_argument("--model", default="nice")
    parser.add_argument("--input", help="JSON file with a batch to score instead of samples")
    parser.add_argument("--num_samples", type=int, default=4)
    parser.add_argument("--label", help="class of a conditional model, of all rows")
    arguments = parser.parse_args()
    signatures = signatures_of(arguments.server, arguments.model)
    inputs = signatures["serving_default"]["inputs"]
    label = None
    if arguments.label is not None:
        label = label_input(inputs, arguments.label)

    def with_label(inputs: dict) -> dict:
        if label is None:
            return inputs
        number = len(next(iter(inputs.values())))
        return {**inputs, "label": [label] * number}

    if arguments.input:
        with open(arguments.input) as file:
            rows = json.load(file)
    elif "sample" in signatures:
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
        rows = drawn["x"]
    else:
        raise SystemExit("--input is needed: this model was exported without sample")
    # In a model with all signatures it is log_prob, in one with one signature that one.
    asked = with_label({row_input(inputs): rows})
    answer = call(arguments.server, arguments.model, "serving_default", asked)
    if not isinstance(answer, dict):
        # The server leaves the name of a single output out.
        (name,) = signatures["serving_default"]["outputs"]
        answer = {name: answer}
    for row in range(len(rows)):
        shown = [f"{name} {as_text(values[row])}" for name, values in sorted(answer.items())]
        print(f"row {row}:", ", ".join(shown))


def as_text(value: float | int | str | list) -> str:
    """A value of an answer, numbers to three places."""
    if isinstance(value, float):
        return f"{value:.3f}"
    return json.dumps(value)


if __name__ == "__main__":
    main()
