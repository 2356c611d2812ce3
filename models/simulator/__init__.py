"""A bank's visitors, simulated: clicks on its web site, and what they do in its app afterwards.

The parameters (this package's constants, `SimulatorConfig`'s defaults and `catalogue.toml`) were set
by reasoning about what such traffic looks like, and committed before any model was fitted to it. They
are left alone since: a figure reached on simulated traffic means nothing once the traffic was tuned.
What is latent (intents, stages, interests, readiness) is in the truth tables and never in a click.
"""

from streamer.models.simulator.catalogue import Catalogue, load_catalogue
from streamer.models.simulator.config import SimulatorConfig
from streamer.models.simulator.files import write
from streamer.models.simulator.simulation import Simulated, simulate

__all__ = ["Catalogue", "Simulated", "SimulatorConfig", "load_catalogue", "simulate", "write"]
