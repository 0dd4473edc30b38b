"""`python -m skyfan.cli`."""

from skyfan.cli import main

if __name__ == "__main__":
    main()
