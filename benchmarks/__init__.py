"""Speed, measured in one run: `make bench`. Beside the packages, as it uses them all; nothing imports it."""
