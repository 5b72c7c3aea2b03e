"""Decides claims about studies from the folds of searches and the rounds of final evaluations.

Data flow one way: `studies.claims_file` (the claims) → `training` (finds studies, trains missing rounds) → `material`
(the results) → `weighing` (findings, with `intervals`) → `deciding` → `sentences` and `search.report.claims`.
"""
