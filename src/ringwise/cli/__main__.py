"""`python -m ringwise.cli`: how `ringwise dev` starts its nodes, whatever the console script is called."""

from ringwise.cli import main

main()
