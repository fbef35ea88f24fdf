"""Reference pages of the documentation, made from the code that they describe: `python -m tools.site`."""
