cimport cython


@cython.locals(
    finite=list, embeddings=list, best=list, chances=list, of_parents=list, presence=list,
    memberships=list, results=list, ranked=list, width=Py_ssize_t, row=Py_ssize_t, first=Py_ssize_t,
    at=Py_ssize_t, number=Py_ssize_t, names=tuple,
)
cpdef list decode_predictions(numbers, list intents, list reasons)
