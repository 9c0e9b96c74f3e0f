"""Why a fleet does not serve: recorded facts -> ranked causes, by pure rules.

Only `collect` and `examine_cluster` ask a cluster; `machine` reads the state of a `seawall up`.
"""
