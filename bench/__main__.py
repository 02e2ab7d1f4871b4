"""`python -m bench`, which is `make bench`: the table beside Redis."""

import sys

from bench.compare import main

sys.exit(main())
