"""Plain data that every room shares: wanted, seen, decided, told.

Forbidden here: importing any room, and behaviour beyond arithmetic.
"""
