"""The settings page, made from the fields of `Settings`."""

from kdmri_service.settings import Settings

from tools.site.markdown import code, page, table
from tools.site.schemas import allowed_values

INTRODUCTION = """\
The service reads its settings from environment variables. `kdmri serve` has flags for the most common ones; a flag wins
over the variable. An invalid value ends the service at startup with a message that names the setting.

With Compose, the variables of the container are set in `docker-compose.yml`; `deploy/README.md` lists those that it
passes on, with limits for memory and processors."""


def settings_page() -> str:
    """Return the page: one row for each setting, with its variable, values, default and description."""
    schema = Settings.model_json_schema()["properties"]
    rows = [
        (code(f"KDMRI_{name.upper()}"), allowed_values(schema[name]), _default(name), field.description)
        for name, field in Settings.model_fields.items()
    ]
    return page("Settings", INTRODUCTION, [table(["Variable", "Values", "Default", "Meaning"], rows)])


def _default(name: str) -> str:
    default = Settings.model_fields[name].default
    if name == "models":
        return "the installed models"
    return "see meaning" if default is None else code(str(default).lower() if isinstance(default, bool) else default)
