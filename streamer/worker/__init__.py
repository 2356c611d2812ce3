"""The worker: Faust agents over the pure partition pipeline, with state and outputs in one transaction."""
