"""Settings of the whole suite."""

from hypothesis import settings

# Kernels compile inside the first example, and both cores are busy: a deadline would test the machine.
settings.register_profile("kontor", deadline=None)
settings.load_profile("kontor")
