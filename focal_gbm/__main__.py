"""``python -m focal_gbm`` is the command ``focal-gbm``."""

import sys

from focal_gbm._compare._command import main

if __name__ == "__main__":
    sys.exit(main())
