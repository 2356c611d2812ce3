"""The models: what turns a closed session into an embedding and intents.

What lies directly here needs numpy and onnxruntime only and is what the worker imports. `training/`
needs torch and is never imported from here.
"""

import streamer.schemas  # noqa: F401, first of all: it decides which build runs
