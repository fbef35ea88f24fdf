"""What the dashboards are made of: PromQL expressions, panels, the frame of a page."""

import re
from collections.abc import Iterable
from pathlib import Path

import yaml
from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import common as styles
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="kdmri-prometheus")
RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules" / "kdmri.yml"
COLOURS = {"student": "blue", "teacher": "orange"}
PAINTED = {
    "role": ("fixed", COLOURS),
    "operation": ("shades", {"reconstruct": "green", "super_resolve": "purple"}),
    "status": ("shades", {"2..": "green", "4..": "yellow", "5..": "red"}),
}
"""Colours of series by the label that their legends begin with: of one colour, or of shades that tell them apart."""
CHOSEN = 'operation=~"$operation", role=~"$role"'
RED = model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": "red"})
DASHED = model.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 6]})
DOTTED = model.DynamicConfigValue("custom.lineStyle", {"fill": "dot", "dash": [2, 6]})
RECENT, WHOLE = "$__rate_interval", "$__range"


def of(role: str) -> str:
    """Selects one role, whichever is chosen for the rest of the page."""
    return f'operation=~"$operation", role="{role}"'


def quantile(q: float, histogram: str, by: str, chosen: str = CHOSEN, window: str = RECENT) -> str:
    """No series where nothing was observed: Grafana would show NaN."""
    return f"histogram_quantile({q}, sum by (le, {by}) (rate({histogram}_bucket{{{chosen}}}[{window}]))) >= 0"


def mean(histogram: str, by: str, chosen: str = CHOSEN, window: str = RECENT) -> str:
    total, count = (f"sum by ({by}) (rate({histogram}_{part}{{{chosen}}}[{window}]))" for part in ("sum", "count"))
    return f"{total} / ({count} > 0)"


def alarm(alert: str) -> float:
    """The value at which a rule fires, for the panels that draw it."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    (expr,) = {rule["expr"] for group in groups for rule in group["rules"] if rule.get("alert") == alert}
    return float(re.search(r"[<>] (\S+)\s*$", expr)[1])


def limits(*steps: tuple[float | None, str]) -> build.ThresholdsConfig:
    """Each colour holds from its value up."""
    thresholds = [model.Threshold(value, colour) for value, colour in steps]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(thresholds)


def figure(title: str, description: str, expr: str, *, legend: str, unit: str, width: int) -> stat.Panel:
    """One number for the time range shown, in the colour of text where no limits are set."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .with_target(prometheus.Dataquery().ref_id("A").expr(expr).legend_format(legend).instant())
        .unit(unit)
        .no_value("no data")
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(styles.BigValueColorMode.VALUE)
        .graph_mode(styles.BigValueGraphMode.NONE)
        # Grafana's own default is red from 80 on.
        .thresholds(limits((None, "text")))
        .height(4)
        .span(width)
    )


def graph(
    title: str,
    description: str,
    queries: dict[str, str],
    *,
    unit: str,
    width: int,
    at_least: tuple[float, float] | None = None,
    logarithmic: bool = False,
) -> timeseries.Panel:
    """Lines over time, one query a legend: roles, operations, statuses in their colours, super-resolution dashed.

    The axis begins at 0, or spans `at_least` a range, or is logarithmic: then equal ratios are equal distances.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        # Requests are rare beside scrapes: a shorter window would draw dots.
        .interval("1m")
        .line_width(2)
        .fill_opacity(8)
        .legend(common.VizLegendOptions().show_legend(True).placement(styles.LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(styles.TooltipDisplayMode.MULTI))
        .height(7)
        .span(width)
    )
    if logarithmic:
        panel.scale_distribution(common.ScaleDistributionConfig().type(styles.ScaleDistribution.LOG).log(2))
    elif at_least:
        panel.axis_soft_min(at_least[0]).axis_soft_max(at_least[1])
    else:
        panel.min(0)
    for label in PAINTED:
        if any(legend.startswith(f"{{{{{label}}}}}") for legend in queries):
            painted(panel, label)
    if any("{{operation}}" in legend for legend in queries):
        panel.override_by_regexp("/super_resolve/", [DASHED])
    for letter, (legend, expr) in zip("ABCD", queries.items(), strict=False):
        panel.with_target(prometheus.Dataquery().ref_id(letter).expr(expr).legend_format(legend).range())
    return panel


def painted(panel: timeseries.Panel, label: str) -> timeseries.Panel:
    """Series in the colours of the label that their legends begin with."""
    mode, colours = PAINTED[label]
    for beginning, colour in colours.items():
        chosen = model.DynamicConfigValue("color", {"mode": mode, "fixedColor": colour})
        panel.override_by_regexp(f"/^{beginning}/", [chosen])
    return panel


def stacked(panel: timeseries.Panel) -> timeseries.Panel:
    return panel.fill_opacity(40).stacking(common.StackingConfig().mode(styles.StackingMode.NORMAL))


def lines_at(panel: timeseries.Panel, *steps: tuple[float, str]) -> timeseries.Panel:
    """Dashed lines at targets and limits, from the lowest up."""
    dashed = common.GraphThresholdsStyleConfig().mode(styles.GraphThresholdsStyleMode.DASHED)
    return panel.thresholds(limits((None, "transparent"), *steps)).thresholds_style(dashed)


def distribution(title: str, description: str, histogram: str, chosen: str, *, width: int) -> bargauge.Panel:
    """How many observations fell into each bucket of a histogram, named by its upper edge, in the time range shown."""
    expr = f"sum by (le) (increase({histogram}_bucket{{{chosen}}}[{WHOLE}]))"
    # Format heatmap: Grafana sorts the buckets and takes each one's share out of the cumulative counts.
    target = prometheus.Dataquery().ref_id("A").expr(expr).legend_format("{{le}}")
    return (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .with_target(target.format(PromQueryFormat.HEATMAP).instant())
        .unit("short")
        .decimals(0)
        .min(0)
        .orientation(styles.VizOrientation.VERTICAL)
        .display_mode(styles.BarGaugeDisplayMode.BASIC)
        .thresholds(limits((None, "blue")))
        .height(7)
        .span(width)
    )


def models(width: int) -> table.Panel:
    """The labels of each model served, one a row."""
    hidden = dict.fromkeys(("Time", "Value", "__name__", "instance", "job"), True)
    order = ("name", "version", "role", "task", "device", "backend")
    options = {"excludeByName": hidden, "indexByName": {label: place for place, label in enumerate(order)}}
    expr = 'kdmri_model_info{name=~"$model", role=~"$role"}'
    return (
        table.Panel()
        .title("Models served")
        .description("Loaded and warm, from the bundles' manifests: of several versions, requests get the newest.")
        .datasource(DATASOURCE)
        .with_target(prometheus.Dataquery().ref_id("A").expr(expr).format(PromQueryFormat.TABLE).instant())
        .with_transformation(model.DataTransformerConfig(id_val="organize", options=options))
        .height(7)
        .span(width)
    )


def choice(label: str, values: str) -> build.QueryVariable:
    """A choice among the values that Prometheus has."""
    return (
        build.QueryVariable(label)
        .label(label.capitalize())
        .datasource(DATASOURCE)
        .query({"query": f"label_values({values})", "refId": label})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def page(uid: str, title: str, description: str, panels: Iterable[build.Panel]) -> model.Dashboard:
    """Panels from left to right, numbered as they are read."""
    links = build.DashboardLink("kdmri").type(model.DashboardLinkType.DASHBOARDS).tags(["kdmri"])
    dashboard = (
        build.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["kdmri"])
        .readonly()
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(links.keep_time(True).include_vars(True))
        .with_variable(choice("operation", "kdmri_requests_total, operation"))
        .with_variable(choice("role", "kdmri_requests_total, role"))
        .with_variable(choice("model", "kdmri_model_info, name"))
    )
    for number, panel in enumerate(panels, start=1):
        dashboard.with_panel(panel.id(number))
    return dashboard.build()
