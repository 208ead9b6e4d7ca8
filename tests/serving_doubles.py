"""REST and gRPC fronts over the C++ session, for the clients: what TensorFlow Serving does with a
request, on loopback.

The model behind them is the real one; only the fronts stand in for a server that does not run here.
"""

import concurrent.futures
import contextlib
import http.server
import json
import threading

import grpc
import numpy as np
import tensorflow as tf
from cpp_loader import ServingError
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)


def _typed(model, signature, inputs):
    """JSON values in the dtypes of the signature, as the server's JSON reader makes them."""
    specs = model.signatures[signature].inputs
    for name in specs:
        if name not in inputs:  # over REST the server knows no defaults
            raise ServingError(3, f"Missing named input: {name}")
    # The server ignores inputs that the signature has not.
    return {
        name: np.asarray(inputs[name], tf.as_dtype(spec.dtype).as_numpy_dtype)
        for name, spec in specs.items()
    }


AS_THE_SERVER = {"preserving_proto_field_name": True}


def _signature_defs(model):
    found = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in model.signatures.items():
        found.signature_def[name].CopyFrom(definition)
    return found


@contextlib.contextmanager
def rest(model):
    """`host:port` of POST /v1/models/nice:predict with `instances` or `inputs`, and of GET
    /v1/models/nice/metadata.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            signature, rows = body.get("signature_name", "serving_default"), body.get("instances")
            inputs = (
                body["inputs"]
                if rows is None
                else {key: [row[key] for row in rows] for key in rows[0]}
            )
            try:
                outputs = {
                    k: v.tolist()
                    for k, v in model(signature, **_typed(model, signature, inputs)).items()
                }
                by_row = [
                    dict(zip(outputs, values, strict=True))
                    for values in zip(*outputs.values(), strict=True)
                ]
                if len(outputs) == 1:  # the server leaves the name of a single output out
                    (outputs,) = outputs.values()
                    by_row = outputs
                status, answer = (
                    200,
                    {"outputs": outputs} if rows is None else {"predictions": by_row},
                )
            except ServingError as error:
                status, answer = 400, {"error": str(error)}
            self.answer(status if self.path == "/v1/models/nice:predict" else 404, answer)

        def do_GET(self):
            found = _signature_defs(model)
            metadata = {"signature_def": json_format.MessageToDict(found, **AS_THE_SERVER)}
            status = 200 if self.path == "/v1/models/nice/metadata" else 404
            self.answer(status, {"model_spec": {"name": "nice"}, "metadata": metadata})

        def answer(self, status, answer):
            content = json.dumps(answer, allow_nan=False).encode()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def over_grpc(model):
    """`host:port` of PredictionService.Predict, with SignatureDef defaults for inputs left out, and
    of GetModelMetadata.
    """

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            definition = model.signatures[request.model_spec.signature_name]
            inputs = {**definition.defaults, **request.inputs}
            try:
                outputs = model(
                    request.model_spec.signature_name,
                    **{k: tf.make_ndarray(v) for k, v in inputs.items()},
                )
            except ServingError as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            response = predict_pb2.PredictResponse()
            for name, value in outputs.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return response

        def GetModelMetadata(self, request, context):
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.metadata["signature_def"].Pack(_signature_defs(model))
            return response

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()
