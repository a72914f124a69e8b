# SPDX-License-Identifier: Apache-2.0
"""libhiredis.py - the C client library, called as it is: its replies as Python values, errors as HiredisError."""
import ctypes
import ctypes.util

STRING, ARRAY, INTEGER, NIL, STATUS, ERROR = range(1, 7)


class Reply(ctypes.Structure):
    pass


Reply._fields_ = [("type", ctypes.c_int), ("integer", ctypes.c_longlong), ("length", ctypes.c_size_t),
                  ("text", ctypes.c_void_p), ("elements", ctypes.c_size_t),
                  ("element", ctypes.POINTER(ctypes.POINTER(Reply)))]


class HiredisError(Exception):
    pass


def library():
    """The library in the version whose reply is the struct above; None where it is not installed."""
    try:
        found = ctypes.CDLL("libhiredis.so.0.14")
    except OSError:
        return None
    found.redisConnect.restype = ctypes.c_void_p
    found.redisConnectUnix.restype = ctypes.c_void_p
    found.redisCommandArgv.restype = ctypes.POINTER(Reply)
    found.redisCommandArgv.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_char_p),
                                       ctypes.POINTER(ctypes.c_size_t)]
    found.redisAppendCommandArgv.argtypes = found.redisCommandArgv.argtypes
    found.redisGetReply.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.POINTER(Reply))]
    found.freeReplyObject.argtypes = [ctypes.POINTER(Reply)]
    found.redisFree.argtypes = [ctypes.c_void_p]
    return found


class Client:
    def __init__(self, found, address):
        self.library = found
        if isinstance(address, int):
            self.context = found.redisConnect(b"127.0.0.1", address)
        else:
            self.context = found.redisConnectUnix(str(address).encode())

    def words(self, words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        lengths = (ctypes.c_size_t * len(words))(*map(len, words))
        # Words may hold zero bytes: buffers, not C strings.
        self.kept = [ctypes.create_string_buffer(word, len(word) + 1) for word in words]
        texts = (ctypes.c_char_p * len(words))(*(ctypes.cast(one, ctypes.c_char_p) for one in self.kept))
        return self.context, len(words), texts, lengths

    def taken(self, reply):
        if not reply:
            raise HiredisError("the connection is broken")
        try:
            return self.value(reply.contents)
        finally:
            self.library.freeReplyObject(reply)

    def value(self, reply):
        if reply.type == INTEGER:
            return reply.integer
        if reply.type == NIL:
            return None
        if reply.type == ARRAY:
            return [self.value(reply.element[i].contents) for i in range(reply.elements)]
        text = ctypes.string_at(reply.text, reply.length)
        return HiredisError(text.decode(errors="replace")) if reply.type == ERROR else text

    def call(self, *words):
        return self.taken(self.library.redisCommandArgv(*self.words(words)))

    def append(self, *words):
        self.library.redisAppendCommandArgv(*self.words(words))

    def get_reply(self):
        reply = ctypes.POINTER(Reply)()
        self.library.redisGetReply(self.context, ctypes.byref(reply))
        return self.taken(reply)

    def close(self):
        self.library.redisFree(self.context)
