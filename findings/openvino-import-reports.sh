#!/usr/bin/env bash
# Importing openvino reports the import to its makers, by the package openvino-telemetry that it brings along.
#
# Version:   openvino 2026.4.1, openvino-telemetry 2025.2.0
# Belief:    A runtime for networks does not use the network when it is imported; telemetry belongs to the tools that
#            convert models, and those are not used here.
# Behaviour: `import openvino` imports its conversion tool, which sends the event ("ov", "import", "general_import")
#            through openvino_telemetry; where nobody opted out, a child process then looks up and calls a web
#            analytics service. A hospital's firewall sees it with the first slice. Without the package (or with
#            sys.modules["openvino_telemetry"] = None before the import) openvino falls back to a stub of its own.
# Seen:      events at import                       [('ov', 'import', 'general_import')]
#            events at import without the package   []
#
# Exit code: 0 while it is so, 1 if it has changed, 2 if it could not be tried.
set -euo pipefail

venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv" || exit 2
"$venv/bin/pip" install --quiet --disable-pip-version-check \
  openvino==2026.4.1 openvino-telemetry==2025.2.0 || exit 2
cd "$venv"

# Neither run sends anything: what would be sent is caught on the way.
cat >with.py <<'PY'
import openvino_telemetry

events = []
openvino_telemetry.Telemetry.send_event = lambda self, *event, **more: events.append(event[:3])
openvino_telemetry.Telemetry.start_session = lambda self, *a, **k: None
import openvino

print(events)
PY
cat >without.py <<'PY'
import sys

sys.modules["openvino_telemetry"] = None
import openvino

stub = sys.modules["openvino.tools.ovc.telemetry_stub"]
print([] if "openvino_telemetry.main" not in sys.modules and stub else "loaded")
PY
with=$("$venv/bin/python" with.py | tail -1)
without=$("$venv/bin/python" without.py | tail -1)
echo "events at import                       $with"
echo "events at import without the package   $without"
[ "$with" = "[('ov', 'import', 'general_import')]" ] && [ "$without" = "[]" ]
