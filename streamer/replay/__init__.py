"""A bounded stretch of the log run again through the worker's own pipeline, and held against what is live."""
