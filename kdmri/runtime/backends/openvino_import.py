"""OpenVINO's runtime, imported without the telemetry of its conversion tools.

`import openvino` also imports `openvino.tools.ovc`, which reports to Google Analytics without asking, starts a thread
and writes to ~/intel. A service for patient data must not connect to anyone by itself. kdmri needs the runtime alone.
"""

import sys

__all__ = ["openvino"]

TOOLS = "openvino.tools.ovc"

# None in sys.modules makes an import fail, and openvino goes on without its tools. The entry is removed afterwards, so
# that a program that wants the tools can still import them; a program that has imported them before keeps them.
if TOOLS in sys.modules:
    import openvino
else:
    sys.modules[TOOLS] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        del sys.modules[TOOLS]
