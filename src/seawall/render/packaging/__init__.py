"""Packagings: the files in which rendered objects travel (plain, Kustomize, Helm, Argo CD, Flux), and prerequisites.

Nothing here changes what an object means; the rest of `render/` does not import this room.
"""
