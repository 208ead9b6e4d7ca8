"""A SavedModel through TensorFlow's C++ loader, the one TensorFlow Serving uses, by way of its C
interface.

Nothing of TensorFlow's Python runs between feeding and fetching; it only locates the library and
parses the SignatureDefs, whose tensor names are what is fed and fetched.
"""

import ctypes
import os

import numpy as np
import tensorflow as tf

_LIBRARY = os.path.join(os.path.dirname(tf.__file__), "libtensorflow_cc.so.2")
_SIZE_OF_TEXT = 24  # of TF_TString


class _Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    )


class ServingError(Exception):
    """What the C++ session answers in place of values; `code` is that of tf.errors."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def _library():
    library = ctypes.CDLL(_LIBRARY)
    pointers = (
        "TF_NewStatus TF_NewSessionOptions TF_NewGraph TF_NewBuffer TF_LoadSessionFromSavedModel "
        "TF_GraphOperationByName TF_AllocateTensor TF_TensorData TF_StringGetDataPointer"
    )
    for name in pointers.split():
        getattr(library, name).restype = ctypes.c_void_p
    library.TF_Message.restype = ctypes.c_char_p
    library.TF_Dim.restype = ctypes.c_int64
    library.TF_TensorByteSize.restype = ctypes.c_size_t
    library.TF_StringGetSize.restype = ctypes.c_size_t
    return library


class LoadedModel:
    """A session over the "serve" graph of a SavedModel."""

    def __init__(self, directory):
        self._c = _library()
        self._status = ctypes.c_void_p(self._c.TF_NewStatus())
        self._graph = ctypes.c_void_p(self._c.TF_NewGraph())
        options = ctypes.c_void_p(self._c.TF_NewSessionOptions())
        self._c.TF_NewBuffer.restype = ctypes.POINTER(_Buffer)
        meta_graph = self._c.TF_NewBuffer()
        tags = (ctypes.c_char_p * 1)(b"serve")
        self._session = ctypes.c_void_p(
            self._c.TF_LoadSessionFromSavedModel(
                options,
                None,
                str(directory).encode(),
                tags,
                1,
                self._graph,
                meta_graph,
                self._status,
            )
        )
        self._check()
        content = ctypes.string_at(meta_graph.contents.data, meta_graph.contents.length)
        self.signatures = tf.compat.v1.MetaGraphDef.FromString(content).signature_def

    def _check(self):
        code = self._c.TF_GetCode(self._status)
        if code:
            raise ServingError(code, self._c.TF_Message(self._status).decode())

    def _output(self, name):
        operation, index = name.rsplit(":")
        return _Output(self._c.TF_GraphOperationByName(self._graph, operation.encode()), int(index))

    def _feed(self, value):
        value = np.asarray(value, order="C")
        dimensions = (ctypes.c_int64 * max(value.ndim, 1))(*value.shape)
        if value.dtype.kind in "OUS":
            return self._feed_texts(value, dimensions)
        kind = tf.as_dtype(value.dtype).as_datatype_enum
        tensor = ctypes.c_void_p(
            self._c.TF_AllocateTensor(kind, dimensions, value.ndim, ctypes.c_size_t(value.nbytes))
        )
        ctypes.memmove(self._c.TF_TensorData(tensor), value.ctypes.data, value.nbytes)
        return tensor

    def _feed_texts(self, value, dimensions):
        tensor = ctypes.c_void_p(
            self._c.TF_AllocateTensor(
                tf.string.as_datatype_enum,
                dimensions,
                value.ndim,
                ctypes.c_size_t(_SIZE_OF_TEXT * value.size),
            )
        )
        start = self._c.TF_TensorData(tensor)
        for number, text in enumerate(value.ravel().tolist()):
            content = tf.compat.as_bytes(text)  # as bytes from a request
            place = ctypes.c_void_p(start + _SIZE_OF_TEXT * number)
            self._c.TF_StringInit(place)
            self._c.TF_StringCopy(place, content, ctypes.c_size_t(len(content)))
        return tensor

    def _fetch_texts(self, tensor, shape):
        start = self._c.TF_TensorData(tensor)
        texts = []
        for number in range(int(np.prod(shape))):
            place = ctypes.c_void_p(start + _SIZE_OF_TEXT * number)
            size = self._c.TF_StringGetSize(place)
            texts.append(ctypes.string_at(self._c.TF_StringGetDataPointer(place), size).decode())
        return np.array(texts, object).reshape(shape)

    def _fetch(self, tensor):
        tensor = ctypes.c_void_p(tensor)
        shape = [self._c.TF_Dim(tensor, i) for i in range(self._c.TF_NumDims(tensor))]
        if self._c.TF_TensorType(tensor) == tf.string.as_datatype_enum:
            texts = self._fetch_texts(tensor, shape)
            self._c.TF_DeleteTensor(tensor)
            return texts
        content = ctypes.string_at(self._c.TF_TensorData(tensor), self._c.TF_TensorByteSize(tensor))
        dtype = tf.dtypes.as_dtype(self._c.TF_TensorType(tensor)).as_numpy_dtype
        self._c.TF_DeleteTensor(tensor)
        return np.frombuffer(content, dtype).reshape(shape)

    def __call__(self, signature, **inputs):
        """Feeds the named inputs of a signature and fetches all its outputs; shapes are not
        compared, as in serving.
        """
        definition = self.signatures[signature]
        feeds = (_Output * len(inputs))(
            *(self._output(definition.inputs[name].name) for name in inputs)
        )
        tensors = [self._feed(value) for value in inputs.values()]
        values = (ctypes.c_void_p * len(inputs))(*(tensor.value for tensor in tensors))
        names = list(definition.outputs)
        fetches = (_Output * len(names))(
            *(self._output(definition.outputs[name].name) for name in names)
        )
        results = (ctypes.c_void_p * len(names))()
        self._c.TF_SessionRun(
            self._session,
            None,
            feeds,
            values,
            len(inputs),
            fetches,
            results,
            len(names),
            None,
            0,
            None,
            self._status,
        )
        for tensor in tensors:
            self._c.TF_DeleteTensor(tensor)
        self._check()
        return {name: self._fetch(result) for name, result in zip(names, results, strict=True)}
