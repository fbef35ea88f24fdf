"""Programs for developers; no wheel contains them."""

from kdmri.process import configure_environment

# What these programs measure has to wait for OpenMP's threads as the service does, so this precedes torch's import.
configure_environment()
