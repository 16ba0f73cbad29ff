"""Pages to look at: one self-contained HTML file a run (`report.html`) or a comparison (`compare.html`).

A section is one short file with a function from a `RunFolder` to a `Section`, or None where the run has no
data for it; `simulations.report` puts them in order.
"""
