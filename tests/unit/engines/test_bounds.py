"""Two options whose numbers do not go together: what to raise and what to lower, whatever the wording."""

from __future__ import annotations

import pytest

from seawall.engines.vllm.bounds import bounds_in


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "max_num_batched_tokens (2048) is smaller than max_model_len (40960)",
            "--max-num-batched-tokens 40960 or more, or --max-model-len 2048 or less",
        ),
        (
            "block_size (2096) must be <= max_num_batched_tokens (2048)",
            "--max-num-batched-tokens 2096 or more, or --block-size 2048 or less",
        ),
        (
            "max_num_batched_tokens=16 must be greater than or equal to max_num_seqs=32",
            "--max-num-batched-tokens 32 or more, or --max-num-seqs 16 or less",
        ),
        (
            "max_num_partial_prefills (4) cannot be greater than max_num_seqs (2)",
            "--max-num-seqs 4 or more, or --max-num-partial-prefills 2 or less",
        ),
        (
            "data_parallel_size_local (8) must not exceed data_parallel_size (4)",
            "--data-parallel-size 8 or more, or --data-parallel-size-local 4 or less",
        ),
        ("LoRA rank 64 is greater than max_lora_rank 16", "--max-lora-rank 64 or more"),
        (
            "Total number of attention heads (28) must be divisible by tensor parallel size (8).",
            "a --tensor-parallel-size that divides 28",
        ),
    ],
)
def test_the_options_and_their_numbers_are_named(words: str, told: str) -> None:
    assert bounds_in(words) == told


@pytest.mark.parametrize(
    "words",
    [
        "",
        "the file is larger than expected",
        "max_model_len is set",
        "a" * 20_000,
        "max_num_seqs must be set",
    ],
)
def test_words_without_such_a_pair_tell_nothing(words: str) -> None:
    assert bounds_in(words) == ""
