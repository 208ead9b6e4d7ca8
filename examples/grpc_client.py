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


def label_input(stub, model: str, label: str) -> np.ndarray:
    """A class as the model takes it, whole number or text; its signature tells which."""
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = model
    try:
        metadata = stub.GetModelMetadata(request, timeout=60).metadata["signature_def"]
    except grpc.RpcError as error:
        raise SystemExit(f"metadata: {error.code().name}: {error.details()}") from error
    signatures = get_model_metadata_pb2.SignatureDefMap()
    metadata.Unpack(signatures)
    inputs = signatures.signature_def["log_prob"].inputs
    if "label" not in inputs:
        raise SystemExit("--label is for conditional models: this one takes none")
    if inputs["label"].dtype == tf.string.as_datatype_enum:
        return np.array(label, np.object_)
    try:
        return np.array(int(label), np.int64)
    except ValueError:
        raise SystemExit(f"--label must be a whole number for this model, got {label}") from None


def main() -> None:
    """Draws a batch, then scores it or the rows of a file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--server", default="localhost:8500", help="host:port of the gRPC interface"
    )
    parser.add_argument("--model", default="nice")
    parser.add_argument("--input", help=".npy file with a batch to score instead of the samples")
    parser.add_argument("--num_samples", type=int, default=4)
    parser.add_argument("--label", help="class of a conditional model, of all rows")
    arguments = parser.parse_args()
    asked = {"num_samples": np.int32(arguments.num_samples)}

    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(arguments.server, options) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        if arguments.label is not None:
            asked["label"] = label_input(stub, arguments.model, arguments.label)
        # The server knows the defaults of sample_n over gRPC: seed [0, 0] and temperature 1.
        drawn = call(stub, arguments.model, "sample_n", asked)
        print("samples of shape", drawn["x"].shape, "log_prob", drawn["log_prob"])
        x = drawn["x"]
        if arguments.input:
            # Some tables are in float64: what the model gives is of the dtype that it takes.
            x = np.load(arguments.input).astype(x.dtype)
        rows = {"x": x}
        if arguments.label is not None:
            rows["label"] = np.repeat(asked["label"], len(x))
        for name, values in sorted(call(stub, arguments.model, "log_prob", rows).items()):
            print(name, values)


if __name__ == "__main__":
    main()
