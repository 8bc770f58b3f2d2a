"""The mapping of venue assets to unified books.

In the order in which data passes: `catalogue` (what a venue lists, typed), `rest` (how it is asked);
`file`, `locate`, `write` (mapping files), `lint` and `lint_venues` (their invariants), `link`, `review` and
`command` (a person's work on them); `compile` (files and events to `unified` markets), `records` and `redis`
(how these are stored), `source` and `table` (what a stage holds).
"""
