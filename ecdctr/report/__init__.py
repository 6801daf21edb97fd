"""The report of a run: `report.json`, a page for people, and the table that ends a run."""

from ecdctr.report.html import render_html
from ecdctr.report.schema import Report
from ecdctr.report.table import render_table
from ecdctr.report.write import write_report

__all__ = ["Report", "render_html", "render_table", "write_report"]
