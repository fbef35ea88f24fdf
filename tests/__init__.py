"""The tests run the library with the environment that the command line and the service give it."""

from kdmri.process import configure_environment

# conftest.py imports torch, which reads these variables once: this package is imported before it.
configure_environment()
