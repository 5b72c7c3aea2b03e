"""Results to be published: a finished database as three Parquet tables, which anybody can train again and compare.

Data flow one way: `reading` (a complete database into rows) → `writing` (Parquet files and their README, by `about` and
`search.results.published_columns`); `search.results.published` reads the files back, `checking` trains a sample of them
again. The program is `python -m pairsearch.search.measure.published`.
"""
