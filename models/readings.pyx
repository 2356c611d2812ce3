# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
"""The results of sessions from the numbers of the model, in C: those of `Scorer.tell`."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from schemas.click import Session
from schemas.slots cimport offset_of, slot

cdef Py_ssize_t EVENT_COUNT = offset_of(Session, "event_count")


cdef class Readings:
    """Of one model."""

    cdef object scored, intent, reason_to_abstain, min_clicks
    cdef list named
    cdef double min_probability, max_novelty

    def __init__(self, scored, intent, list named, calibration):
        """The types of a result and of an intent in it; (id, label, parent) of every intent."""
        self.scored, self.intent, self.named = scored, intent, named
        self.reason_to_abstain = calibration.reason_to_abstain
        self.min_clicks = calibration.min_clicks
        self.min_probability, self.max_novelty = calibration.min_probability, calibration.max_novelty

    def tell(self, list sessions, numbers):
        """As `Scorer.tell`."""
        cdef const int64_t[:, :] best = numbers.best
        cdef const float[:, :] chances = numbers.chances, of_parents = numbers.of_parents
        cdef const float[:, :] presence = numbers.presence
        cdef const float[:] novelty = numbers.novelty
        cdef list finite = numbers.finite.tolist(), embeddings = list(numbers.embeddings)
        cdef list results = [], reasons = [], intents
        cdef tuple named
        cdef Py_ssize_t row, rank
        cdef double likeliest
        for row in range(len(sessions)):
            session = sessions[row]
            likeliest = chances[row, 0]
            reason = None
            if not (
                type(session) is Session
                and <object>slot(session, EVENT_COUNT) >= self.min_clicks
                and novelty[row] <= self.max_novelty
                and likeliest >= self.min_probability
            ):
                reason = self.reason_to_abstain(session, <double>novelty[row], likeliest)
            reasons.append(reason)
            if not finite[row]:
                results.append(None)
                continue
            intents = []
            for rank in range(best.shape[1]):
                named = <tuple>self.named[best[row, rank]]
                intents.append(
                    self.intent(
                        named[0],
                        named[1],
                        named[2],
                        <double>chances[row, rank],
                        <double>of_parents[row, rank],
                        None if presence is None else <double>presence[row, rank],
                    )
                )
            top = (<tuple>self.named[best[row, 0]])[0] if reason is None else None
            results.append(self.scored(embeddings[row], intents, top, reason is not None, reason))
        return results, reasons
