"""The rules, one file per theme. Each yields findings for a `World`; none prints, reads files or asks another rule."""
