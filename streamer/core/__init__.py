"""The pure core: clicks and arrival times in, sessions out. No clock, no environment, no chance, no I/O."""
