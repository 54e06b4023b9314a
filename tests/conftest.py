"""Numba's simulator of CUDA where there is no GPU.

Numba reads the variable when it is first imported, which other tests do before those of CUDA.
"""

import os
from pathlib import Path

# Under Windows' subsystem for Linux the device has another name.
if not any(Path(device).exists() for device in ("/dev/nvidia0", "/dev/dxg")):
    os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")
