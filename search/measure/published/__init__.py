"""Publishes a finished database as three Parquet tables, and trains published results again to compare them.

Data flow one way: `reading` (from a complete database to rows) → `writing` (Parquet files and their README, by `about`
and `search.results.published_columns`). `search.results.published` reads the files, and `checking` trains a sample of
them again. The program is `python -m pairsearch.search.measure.published`.
"""
