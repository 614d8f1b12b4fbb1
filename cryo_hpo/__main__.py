"""Run the command line as `python -m cryo_hpo`."""

from .cli.main import main

if __name__ == "__main__":
    main()
