"""Runs to one page: a self-contained HTML file that opens offline, needs no script and escapes every foreign word."""

from auditkit.report.page import Sheet, render

__all__ = ["Sheet", "render"]
