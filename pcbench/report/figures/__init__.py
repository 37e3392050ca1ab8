"""Figures by kind; `pcbench.report.plots` names them."""
