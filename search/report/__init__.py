"""Reports on studies: one page of text, tables and figures that works offline.

Data flow one way: `reading` (queries) → one module for each topic (sections of blocks) → `document` → `page` (HTML)
and `images` (SVG or PNG) → files (`search.common.files`).
"""
