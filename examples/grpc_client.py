"""Samples and scores through TensorFlow Serving's gRPC interface; needs grpcio, numpy and tensorflow-serving-api.

python examples/grpc_client.py --server=localhost:8500
python examples/grpc_client.py --server=localhost:8500 --input=rows.npy    # [batch, ...], in data units
python examples/grpc_client.py --server=localhost:8500 --label=7           # of a conditional model
"""

import argparse

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)


def call(stub, model: str, signature: str, inputs: dict) -> dict:
    """One request; dtypes must be exactly those of the signature."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    try:
        outputs = stub.Predict(request, timeout=60).outputs
    except grpc.RpcError as error:
        raise SystemExit(f"{signature}: {error.code().name}: {error.details()}") from error
    return {name: tf.make_ndarray(value) for name, value in outputs.items()}


def signatures_of(stub, model: str) -> dict:
    """What the model can be asked, by name, with its inputs."""
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = model
    try:
        metadata = stub.GetModelMetadata(request, timeout=60).metadata["signature_def"]
    except grpc.RpcError as error:
        raise SystemExit(f"metadata: {error.code().name}: {error.details()}") from error
    signatures = get_model_metadata_pb2.SignatureDefMap()
    metadata.Unpack(signatures)
    return signatures.signature_def


def row_input(inputs: dict) -> str:
    """The input that holds the rows."""
    names = [name for name in sorted(inputs) if name != "label"]
    if len(names) != 1:
        raise SystemExit(f"this model takes {', '.join(names)}: this client sends rows alone")
    return names[0]


def label_input(inputs: dict, label: str) -> np.ndarray:
    """A class as the model takes it, whole number or text; its signature tells which."""
    if "label" not in inputs:
        raise SystemExit("--label is for conditional models: this one takes none")
    if inputs["label"].dtype == tf.string.as_datatype_enum:
        return np.array(label, np.object_)
    try:
        return np.array(int(label), np.int64)
    except ValueError:
        raise SystemExit(f"--label must be a whole number for this model, got {label}") from None


def main() -> None:
    """Scores the rows of a file, or a batch that the model draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--server", default="localhost:8500", help="host:port of the gRPC interface"
    )
    parser.add_argument("--model", default="nice")
    parser.add_argument("--input", help=".npy file with a batch to score instead of samples")
    parser.add_argument("--num_samples", type=int, default=4)
    parser.add_argument("--label", help="class of a conditional model, of all rows")
    arguments = parser.parse_args()

    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(arguments.server, options) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        signatures = signatures_of(stub, arguments.model)
        inputs = signatures["serving_default"].inputs
        given = {}
        if arguments.label is not None:
            given["label"] = label_input(inputs, arguments.label)
        name = row_input(inputs)
        if arguments.input:
            # Some tables are in float64: dtypes must be those of the signature.
            dtype = tf.as_dtype(inputs[name].dtype).as_numpy_dtype
            rows = np.load(arguments.input).astype(dtype)
        elif "sample_n" in signatures:
            # The server knows the defaults of sample_n over gRPC: seed [0, 0] and temperature 1.
            asked = {"num_samples": np.int32(arguments.num_samples), **given}
            drawn = call(stub, arguments.model, "sample_n", asked)
            print("samples of shape", drawn["x"].shape, "log_prob", drawn["log_prob"])
            rows = drawn["x"]
        else:
            raise SystemExit("--input is needed: this model was exported without sample_n")
        asked = {name: rows}
        if given:
            asked["label"] = np.repeat(given["label"], len(rows))
        # In a model with all signatures it is log_prob, in one with one signature that one.
        answer = call(stub, arguments.model, "serving_default", asked)
        for name, values in sorted(answer.items()):
            print(name, values)


if __name__ == "__main__":
    main()
