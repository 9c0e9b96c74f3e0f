"""The offline lane: files of requests, each line answered exactly once, on what interactive traffic leaves."""
