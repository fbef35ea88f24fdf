"""Building blocks of the dashboards: PromQL expressions, panels, and the frame of a page."""

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
Panel = stat.Panel | timeseries.Panel | bargauge.Panel | table.Panel
RECENT, WHOLE = "$__rate_interval", "$__range"


def of(role: str) -> str:
    """Return a selector of one role, independent of the role chosen for the rest of the page."""
    return f'operation=~"$operation", role="{role}"'


def quantile(q: float, histogram: str, by: str, chosen: str = CHOSEN, window: str = RECENT) -> str:
    """Return the PromQL for a quantile of a histogram, without the series that Grafana would show as NaN.

    Args:
        q: The quantile, from 0 to 1.
        histogram: Name of the metric without its suffix.
        by: Labels to keep.
        chosen: Selector of labels.
        window: Range over which observations count.
    """
    return f"histogram_quantile({q}, sum by (le, {by}) (rate({histogram}_bucket{{{chosen}}}[{window}]))) >= 0"


def mean(histogram: str, by: str, chosen: str = CHOSEN, window: str = RECENT) -> str:
    """Return the PromQL for the mean of a histogram's observations.

    Args:
        histogram: Name of the metric without its suffix.
        by: Labels to keep.
        chosen: Selector of labels.
        window: Range over which observations count.
    """
    total, count = (f"sum by ({by}) (rate({histogram}_{part}{{{chosen}}}[{window}]))" for part in ("sum", "count"))
    return f"{total} / ({count} > 0)"


def alarm(alert: str) -> float:
    """Return the value at which an alert fires, for panels that draw it."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    (expr,) = {rule["expr"] for group in groups for rule in group["rules"] if rule.get("alert") == alert}
    limit = re.search(r"[<>] (\S+)\s*$", expr)
    if limit is None:
        raise ValueError(f"expected the rule {alert} to end in a comparison with a number, got {expr}")
    return float(limit[1])


def limits(*steps: tuple[float | None, str]) -> build.ThresholdsConfig:
    """Return thresholds, each colour from its value upwards."""
    thresholds = [model.Threshold(value, colour) for value, colour in steps]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(thresholds)


def figure(title: str, description: str, expr: str, *, legend: str, unit: str, width: int) -> stat.Panel:
    """Return a panel with one number for the time range shown; without limits it has the colour of text.

    Args:
        title: Title of the panel.
        description: Text behind its information sign.
        expr: PromQL of the number.
        legend: Legend of each series.
        unit: Grafana's name of the unit.
        width: Width in columns of the grid, of 24.
    """
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
    """Return a panel of lines over time, one query a legend.

    Roles, operations and statuses have their colours; super-resolution is dashed.

    Args:
        title: Title of the panel.
        description: Text behind its information sign.
        queries: PromQL by legend.
        unit: Grafana's name of the unit.
        width: Width in columns of the grid, of 24.
        at_least: Range that the axis spans at least; by default it begins at 0.
        logarithmic: Whether equal ratios are equal distances on the axis.
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
            paint(panel, label)
    if any("{{operation}}" in legend for legend in queries):
        panel.override_by_regexp("/super_resolve/", [DASHED])
    for letter, (legend, expr) in zip("ABCD", queries.items(), strict=False):
        panel.with_target(prometheus.Dataquery().ref_id(letter).expr(expr).legend_format(legend).range())
    return panel


def paint(panel: timeseries.Panel, label: str) -> timeseries.Panel:
    """Give series the colours of the label that their legends begin with."""
    mode, colours = PAINTED[label]
    for beginning, colour in colours.items():
        chosen = model.DynamicConfigValue("color", {"mode": mode, "fixedColor": colour})
        panel.override_by_regexp(f"/^{beginning}/", [chosen])
    return panel


def stack(panel: timeseries.Panel) -> timeseries.Panel:
    return panel.fill_opacity(40).stacking(common.StackingConfig().mode(styles.StackingMode.NORMAL))


def lines_at(panel: timeseries.Panel, *steps: tuple[float, str]) -> timeseries.Panel:
    """Draw dashed lines at targets and limits, from the lowest up."""
    dashed = common.GraphThresholdsStyleConfig().mode(styles.GraphThresholdsStyleMode.DASHED)
    return panel.thresholds(limits((None, "transparent"), *steps)).thresholds_style(dashed)


def distribution(title: str, description: str, histogram: str, chosen: str, *, width: int) -> bargauge.Panel:
    """Return a panel with the number of observations in each bucket of a histogram, in the time range shown.

    Args:
        title: Title of the panel.
        description: Text behind its information sign.
        histogram: Name of the metric without its suffix.
        chosen: Selector of labels.
        width: Width in columns of the grid, of 24.
    """
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
    """Return a table with the labels of each served model, one a row."""
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
    """Return a variable of the page that offers the values of a label in Prometheus."""
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


def page(uid: str, title: str, description: str, panels: Iterable[Panel]) -> model.Dashboard:
    """Return a dashboard whose panels are laid out from left to right and numbered in reading order.

    Args:
        uid: Identifier of the dashboard.
        title: Title of the page.
        description: Text below it.
        panels: Rows of panels.
    """
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
