"""`python -m seawall`: the same as the `seawall` command."""

from seawall.cli import main

if __name__ == "__main__":
    main()
