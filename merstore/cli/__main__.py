"""`python -m merstore.cli`, for where the console script is not on the path."""

from merstore.cli.main import main

main()
