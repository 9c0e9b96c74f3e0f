"""Failures as public threads of 2025 and 2026 show them, and as the sources of vLLM and of what it runs on word them
(`sources_*`), table by table: facts, and what was found there."""

from __future__ import annotations

from . import (
    sources_of_runtimes,
    sources_of_starts,
    threads_advice_and_devices,
    threads_around_named,
    threads_around_the_engine,
    threads_engines_and_nodes,
    threads_fetching_and_shares,
    threads_libraries_and_launchers,
    threads_options_and_steps,
    threads_parameters_and_locks,
    threads_parts_and_starts,
    threads_ranks_and_drafts,
    threads_slices_and_pulls,
    threads_what_logs_prove,
    threads_words_of_tools,
)
from .shapes import Case

TABLES: dict[str, list[Case]] = {
    module.__name__.rpartition(".")[-1].removeprefix("threads_"): module.CASES
    for module in (
        sources_of_runtimes,
        sources_of_starts,
        threads_advice_and_devices,
        threads_around_named,
        threads_around_the_engine,
        threads_engines_and_nodes,
        threads_fetching_and_shares,
        threads_libraries_and_launchers,
        threads_options_and_steps,
        threads_parameters_and_locks,
        threads_parts_and_starts,
        threads_ranks_and_drafts,
        threads_slices_and_pulls,
        threads_what_logs_prove,
        threads_words_of_tools,
    )
}
"""Table -> its cases."""
