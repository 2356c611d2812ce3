"""The look-up service: the latest records of visitors and customers over HTTP."""
