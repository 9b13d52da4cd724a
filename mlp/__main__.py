"""`python -m mlp` is the command `mlp`."""

from mlp.cli import main

if __name__ == "__main__":
    main()
