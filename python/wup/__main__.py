"""`python -m wup` is `wup`."""

from wup.cli import main

if __name__ == "__main__":
    main()
