"""Run the commands of the package: `python -m batchup --help` lists them."""

from ._cli.main import main

if __name__ == '__main__':
    raise SystemExit(main())
